"""Schedule rules: which one a kernel gets, that it stays right, and that odd and symbolic sizes do too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphopt.codegen import compile, find_target
from graphopt.codegen.schedules.cpu.tiling import Registers, register_rows, vector_width
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from graphopt.verification import verify

Shapes = tuple[tuple[int, ...], ...]


class _One(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, a: Tensor) -> Tensor:
        return self.function(a)


class _Two(nn.Module):
    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.function(a, b)


def _program(
    function: Callable[..., Tensor], inputs: list[Tensor], dynamic: list[dict[int, Any]] | None = None
) -> Program:
    module = (_One if len(inputs) == 1 else _Two)(function).eval()
    return capture_torch(module, tuple(inputs), dynamic_shapes=None if dynamic is None else tuple(dynamic))


CONTRACTION, ROWS = "contraction", "row-reduction"
CASES: dict[str, tuple[Callable[..., Tensor], Shapes, str]] = {
    "gelu": (lambda x: F.gelu(x), ((3, 7, 33),), "injective"),
    "transpose": (lambda x: x.permute(0, 2, 1) * 2, ((2, 17, 40),), "injective"),
    "scalar": (lambda x: x.exp() + 1, ((),), "injective"),
    "running-sum": (lambda x: x.cumsum(0), ((37,),), "injective"),
    "concat": (lambda a, b: torch.cat([a, b], 1), ((2, 3, 5), (2, 4, 5)), "injective"),
    "matmul": (lambda a, b: torch.relu(a @ b), ((24, 48), (48, 64)), CONTRACTION),
    "matmul-odd": (lambda a, b: a @ b, ((13, 29), (29, 197)), CONTRACTION),
    "matmul-transposed": (lambda a, b: a @ b.transpose(-1, -2), ((3, 19, 16), (3, 21, 16)), CONTRACTION),
    "matvec": (lambda a, b: a @ b, ((1, 64), (64, 130)), CONTRACTION),
    "conv": (
        lambda x, w: torch.relu(F.conv2d(x, w, padding=1)),
        ((1, 8, 14, 14), (16, 8, 3, 3)),
        CONTRACTION,
    ),
    "conv-odd": (
        lambda x, w: F.conv2d(x, w, padding=2, stride=2),
        ((2, 3, 19, 23), (5, 3, 5, 5)),
        CONTRACTION,
    ),
    "conv-1x1": (lambda x, w: F.conv2d(x, w), ((1, 16, 7, 7), (24, 16, 1, 1)), CONTRACTION),
    "conv-depthwise": (
        lambda x, w: F.conv2d(x, w, padding=1, groups=6),
        ((1, 6, 20, 18), (6, 1, 3, 3)),
        CONTRACTION,
    ),
    "conv-groups": (lambda x, w: F.conv2d(x, w, groups=2), ((1, 8, 9, 9), (6, 4, 3, 3)), CONTRACTION),
    "conv-dilated": (lambda x, w: F.conv2d(x, w, dilation=2), ((1, 4, 17, 17), (4, 4, 3, 3)), CONTRACTION),
    "conv-1d": (lambda x, w: F.conv1d(x, w, padding=1), ((1, 6, 37), (8, 6, 3)), CONTRACTION),
    "max-pool": (lambda x: F.max_pool2d(x, 3, 2, 1), ((1, 4, 17, 17),), CONTRACTION),
    "batched-odd-rows": (lambda a, b: a @ b, ((3, 197, 16), (16, 32)), CONTRACTION),
    "remainder-of-one": (lambda a, b: a @ b, ((5, 8), (8, 97)), CONTRACTION),
    "single-pixel": (lambda x, w: F.conv2d(x, w), ((1, 9, 1, 1), (5, 9, 1, 1)), CONTRACTION),
    "mean-outer": (lambda x: x.mean(0), ((21, 50),), CONTRACTION),
    "softmax": (lambda x: x.softmax(-1), ((5, 3, 77),), ROWS),
    "softmax-long": (lambda x: x.softmax(-1), ((4, 128),), ROWS),
    "layer-norm": (lambda x: F.layer_norm(x, (96,)), ((3, 5, 96),), ROWS),
    "mean-inner": (lambda x: x.mean(-1), ((6, 256),), ROWS),
    "sum-all": (lambda x: x.sum(), ((9, 31),), ROWS),
    "variance-of-all": (lambda x: x.var(), ((9, 31),), ROWS),
}


_OTHERS = [(name, "x86-64-v3") for name in ("matmul-odd", "conv-odd", "softmax")]


@pytest.mark.parametrize(("name", "target"), [*((name, "cpu") for name in CASES), *_OTHERS])
def test_the_kernel_gets_its_rule_and_stays_right(name: str, target: str) -> None:
    if target != "cpu" and (
        name not in ("matmul-odd", "conv-odd", "softmax") or find_target(target).why_not_here()
    ):
        pytest.skip("one machine's code is checked here; the other's on a few")
    function, shapes, rule = CASES[name]
    generator = torch.Generator().manual_seed(0)
    program = _program(function, [torch.randn(s, generator=generator) for s in shapes])
    artifact = compile(program, target)
    assert rule in {k.rule for k in artifact.kernels()}
    assert "unscheduled" not in {k.rule for k in artifact.kernels()}
    verify(program, artifact, draws=2).raise_if_failed()


_AUTO = torch.export.Dim.AUTO


@pytest.mark.parametrize(
    ("function", "captured", "dynamic", "others"),
    [
        (lambda x: F.gelu(x) * 2, ((3, 20),), [{0: _AUTO, 1: _AUTO}], [((1, 1),), ((5, 33),), ((7, 64),)]),
        (
            lambda a, b: a @ b,
            ((9, 12), (12, 20)),
            [{0: _AUTO}, {1: _AUTO}],
            [((1, 12), (12, 3)), ((16, 12), (12, 16)), ((17, 12), (12, 33))],
        ),
        (
            lambda x, w: torch.relu(F.conv2d(x, w, padding=1)),
            ((1, 3, 20, 22), (4, 3, 3, 3)),
            [{0: _AUTO, 2: _AUTO, 3: _AUTO}, {}],
            [((2, 3, 5, 3), (4, 3, 3, 3)), ((1, 3, 7, 16), (4, 3, 3, 3)), ((1, 3, 6, 49), (4, 3, 3, 3))],
        ),
        (
            lambda x, w: F.conv2d(x, w, padding=1, stride=2),
            ((1, 3, 20, 22), (4, 3, 3, 3)),
            [{2: _AUTO, 3: _AUTO}, {}],
            [((1, 3, 5, 4), (4, 3, 3, 3)), ((1, 3, 9, 33), (4, 3, 3, 3)), ((1, 3, 6, 70), (4, 3, 3, 3))],
        ),
        (lambda x: x.softmax(-1), ((2, 9, 9),), [{1: _AUTO, 2: _AUTO}], [((2, 2, 3),), ((2, 5, 130),)]),
        (
            lambda x: F.layer_norm(x, (64,)),
            ((2, 9, 64),),
            [{0: _AUTO, 1: _AUTO}],
            [((3, 2, 64),), ((2, 40, 64),)],
        ),
    ],
    ids=["gelu", "matmul", "conv", "conv-strided", "softmax", "layer-norm"],
)
def test_one_artifact_serves_every_size(function, captured, dynamic, others) -> None:  # type: ignore[no-untyped-def]
    program = _program(function, [torch.randn(s) for s in captured], dynamic)
    artifact = compile(program, "cpu")
    assert "unscheduled" not in {k.rule for k in artifact.kernels()}
    batches = [tuple(torch.randn(s) for s in shapes) for shapes in others]
    verify(program, artifact, inputs=batches).raise_if_failed()


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda a, b: a @ b, ((7, 33), (33, 19))),
        (lambda a, b: (a[:, :, None] * b[None]).sum(1), ((7, 33), (33, 19))),
        (lambda a: a.amax(1), ((7, 128),)),
    ],
    ids=["matmul", "sum", "max"],
)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_integers_are_exact(function, shapes: Shapes, dtype: torch.dtype) -> None:  # type: ignore[no-untyped-def]
    inputs = [torch.randint(-1000, 1000, s, dtype=dtype) for s in shapes]
    program = _program(function, inputs)
    (result,) = compile(program, "cpu")(*inputs)
    expected = function(*inputs)
    assert result.dtype == expected.dtype
    assert torch.equal(result, expected)


def test_a_function_that_no_rule_fits_runs_as_it_is() -> None:
    from tvm import s_tir, tirx

    from graphopt.codegen.schedules.rule import NotApplicable, ScheduleRule, schedule_function

    def refuse(schedule: s_tir.Schedule, target: object) -> None:
        raise NotApplicable("never")

    buffer = tirx.decl_buffer((4,), "float32")
    func = tirx.PrimFunc([buffer], tirx.BufferStore(buffer, tirx.const(1.0, "float32"), [0]))
    rule = ScheduleRule("never", lambda f, t: True, refuse)
    assert schedule_function(func, find_target("cpu"), [rule]) == (func, "unscheduled", {})


# -- tiles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "registers"),
    [
        ("x86-64-v4", Registers(16, 24, 16)),
        ("znver4", Registers(16, 24, 8)),
        ("x86-64-v3", Registers(8, 12, 8)),
        ("aarch64", Registers(4, 24, 4)),
    ],
)
def test_registers_follow_features(target: str, registers: Registers) -> None:
    assert Registers.of(find_target(target)) == registers


@pytest.mark.parametrize(
    ("extent", "width"), [(64, 32), (48, 16), (56, 14), (14, 14), (7, 7), (197, 16), (None, 16)]
)
def test_vector_width(extent: int | None, width: int) -> None:
    assert vector_width(extent, Registers(16, 24, 16)) == width


@pytest.mark.parametrize(
    ("extent", "width", "rows"), [(64, 32, 8), (64, 16, 16), (3, 16, 3), (197, 32, 8), (None, 16, 8)]
)
def test_register_rows(extent: int | None, width: int, rows: int) -> None:
    assert register_rows(extent, width, Registers(16, 24, 16)) == rows


@pytest.mark.parametrize("extent", [6, 40])
def test_rows_are_not_reduced_once_an_element(extent: int) -> None:
    """Softmax keeps the reduced axis with extent one: it is not an axis that all blocks share."""
    from tvm import s_tir, tirx

    from graphopt.codegen.pipeline import FUSE, run_pipeline
    from graphopt.codegen.relax import lower
    from graphopt.codegen.schedules.blocks import top_blocks
    from graphopt.codegen.schedules.cpu.row_reduction import _shared_axes

    program = _program(lambda x: x.softmax(-1), [torch.randn(3, 5, extent)])
    module = run_pipeline(lower(program).mod, find_target("cpu"), FUSE)
    (func,) = (f for _, f in module.functions_items() if isinstance(f, tirx.PrimFunc))
    assert _shared_axes(top_blocks(s_tir.Schedule(func))) == 2


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"])
@pytest.mark.parametrize("size", [143, 145])
def test_vectors_of_which_all_but_one_element_or_just_one_is_inside(size: int, target: str) -> None:
    program = _program(lambda x: torch.relu(x * 3), [torch.randn(size)])
    artifact = compile(program, target)
    if artifact.target.why_not_here() is None:
        verify(program, artifact).raise_if_failed()


@pytest.mark.parametrize("shifts", [(-3, -3), (3, 60), (0, 5)])
def test_rolling_two_axes_whose_loops_are_fused(shifts: tuple[int, int]) -> None:
    """TVM simplifies the remainders of two sums over one fused loop to those of another sum."""

    class Roll(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.roll(x, shifts, (1, 2))

    x = torch.arange(56 * 56 * 96, dtype=torch.float32).reshape(1, 56, 56, 96)
    artifact = compile(capture_torch(Roll().eval(), (x,)), "cpu")
    assert torch.equal(artifact(x)[0], torch.roll(x, shifts, (1, 2)))
