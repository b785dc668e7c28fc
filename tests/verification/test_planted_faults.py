"""Verification must see each of these faults, and must not see any in what is merely reordered."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphopt.errors import VerificationError
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from graphopt.verification import verify


class Net(nn.Module):
    """A convolution, a normalisation, an activation and a projection; each can be made wrong."""

    def __init__(self, **faults: object) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(8, 4, 3, 3, generator=generator) / 6)
        self.bias = nn.Parameter(torch.randn(8, generator=generator) / 10)
        self.project = nn.Parameter(torch.randn(8, 6, generator=generator))
        self.faults = faults

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fault = self.faults.get
        bias = None if fault("dropped_bias") else self.bias
        if fault("off_by_one_pad"):
            y = F.conv2d(F.pad(x, (2, 0, 1, 1)), self.weight, bias)
        else:
            y = F.conv2d(x, self.weight, bias, padding=1)
        y = F.layer_norm(y, y.shape[1:], eps=1e-4 if fault("eps") else 1e-5)
        y = F.gelu(y, approximate="tanh" if fault("tanh_gelu") else "none")
        pooled = y.mean((-2, -1) if not fault("wrong_reduction") else -1)
        pooled = pooled if not fault("wrong_reduction") else pooled.amax(-1)
        z = pooled @ self.project
        if fault("half"):
            z = z.half().float()
        if fault("output_dtype"):
            z = z.double()
        small = torch.sin(pooled) * 1e-2
        return z, 100.0 + (-small if fault("hidden_sign") else small)


X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
FAULTS = [
    "dropped_bias",
    "eps",
    "off_by_one_pad",
    "tanh_gelu",
    "wrong_reduction",
    "half",
    "output_dtype",
    "hidden_sign",
]


@functools.cache
def program(fault: str | None = None) -> Program:
    net = Net(**({fault: True} if fault else {})).eval()
    return capture_torch(net, (X,), output_names=["logits", "offset"])


@pytest.fixture(scope="module")
def reference() -> Program:
    return program()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("form", ["program", "callable"])
def test_fault_is_caught(reference: Program, fault: str, form: str) -> None:
    wrong = program(fault)
    candidate: object = wrong if form == "program" else lambda *xs: wrong(*xs)
    report = verify(reference, candidate)
    assert not report.ok
    with pytest.raises(VerificationError) as caught:
        report.raise_if_failed()
    assert caught.value.exit_status == 5
    assert "logits" in caught.value.message or "offset" in caught.value.message


def test_hidden_sign_names_the_output_and_the_rest_is_right(reference: Program) -> None:
    report = verify(reference, program("hidden_sign"))
    assert [o.name for o in report.outputs if not o.ok] == ["offset"]


def test_relative_error_is_relative_to_what_the_input_changes(reference: Program) -> None:
    check = {o.name: o for o in verify(reference, program("hidden_sign")).outputs}["offset"]
    assert check.result.max_error / check.result.scale < 1e-3
    assert check.relative_error > 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda y: torch.where(y > 0, y, torch.nan),
        lambda y: torch.where(y > y.amin(), y, torch.inf),
        lambda y: y.flatten(),
        lambda y: y[:1],
        lambda y: y.to(torch.float64),
        lambda y: -y,
        lambda y: y.roll(1, -1),
        lambda y: y * (1 + 1e-4),
    ],
    ids=["nan", "inf", "flat", "short", "float64", "negated", "rolled", "scaled"],
)
def test_wrong_output_is_caught(reference: Program, wrong: Callable[[Tensor], Tensor]) -> None:
    def candidate(x: Tensor) -> tuple[Tensor, ...]:
        z, offset = reference(x)
        return wrong(z), offset

    assert not verify(reference, candidate, draws=1).ok


class Places(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.log()


def test_nan_is_not_infinity() -> None:
    reference = capture_torch(Places().eval(), (torch.rand(4),))
    assert verify(reference, lambda x: x.log()).ok
    assert not verify(reference, lambda x: torch.where(x.log().isnan(), -torch.inf, x.log())).ok
    assert not verify(reference, lambda x: torch.where(x == 0, torch.nan, x.log()), draws=7).ok


def test_swapped_axes_of_one_size() -> None:
    class Matrix(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.softmax(-1)

    reference = capture_torch(Matrix().eval(), (torch.randn(5, 5),))
    assert verify(reference, lambda x: x.softmax(-1)).ok
    assert not verify(reference, lambda x: x.softmax(-2)).ok


# -- correct, but computed in another way ---------------------------------------------------------


def test_itself(reference: Program) -> None:
    report = verify(reference, reference)
    assert report.ok and not report.notes
    assert max(o.float64.max_error for o in report.outputs if o.float64 is not None) == 0


def test_float64_accumulation(reference: Program) -> None:
    net = Net().double().eval()
    assert verify(reference, lambda x: tuple(y.float() for y in net(x.double()))).ok


def test_folded_batch_norm_and_decomposed_softmax() -> None:
    class Before(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.norm = nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)
            self.norm.running_mean = torch.randn(8) * 4
            self.norm.running_var = torch.rand(8) + 0.1

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.conv(x)).softmax(1)

    class After(nn.Module):
        def __init__(self, before: Before, eps: float) -> None:
            super().__init__()
            scale = before.norm.weight / (before.norm.running_var + eps).sqrt()
            self.weight = nn.Parameter(before.conv.weight * scale[:, None, None, None])
            self.bias = nn.Parameter((before.conv.bias - before.norm.running_mean) * scale + before.norm.bias)

        def forward(self, x: Tensor) -> Tensor:
            y = F.conv2d(x, self.weight, self.bias)
            e = (y - y.amax(1, keepdim=True)).exp()
            return e * e.sum(1, keepdim=True).reciprocal()

    before = Before().eval()
    reference = capture_torch(before, (X,))
    report = verify(reference, capture_torch(After(before, before.norm.eps).eval(), (X,)))
    assert report.ok and any("folded" in n for n in report.notes)
    assert not verify(reference, capture_torch(After(before, 1e-3).eval(), (X,))).ok


def test_float64_check_sees_what_rounding_would_hide() -> None:
    """A relative error of 1e-9 is far below float32 noise; two programs are still told apart."""

    class Scaled(nn.Module):
        def __init__(self, wrong: bool) -> None:
            super().__init__()
            self.wrong = wrong

        def forward(self, x: Tensor) -> Tensor:
            y = x.double()
            return (y + y * 2.0**-30 if self.wrong else y).float()

    right, wrong = (capture_torch(Scaled(w).eval(), (X,)) for w in (False, True))
    assert verify(right, lambda x: wrong(x)).ok
    report = verify(right, wrong)
    assert not report.ok and "float64" in report.explanation()
