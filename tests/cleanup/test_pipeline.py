"""``Cleanup`` as a whole."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from graphopt.passes.cleanup import Cleanup
from graphopt.passes.cleanup.pipeline import steps
from graphopt.passmanager.manager import PassManager
from graphopt.passmanager.registry import build_pass


def clean(program: Program, **options: Any) -> Program:
    return PassManager([Cleanup(**options)], reproducer_dir=False).run(program).program


def count(program: Program) -> Counter[str]:
    return Counter(str(n.target).removeprefix("aten.").split(".")[0] for n in program.operator_nodes())


class Block(torch.nn.Module):
    """PP-LCNetV3: conv, learned scale and shift, hard-swish written out, batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(8)
        self.norm.running_mean.normal_(generator=torch.Generator().manual_seed(0))  # type: ignore[union-attr]
        self.scale = torch.nn.Parameter(torch.tensor([0.75]))
        self.shift = torch.nn.Parameter(torch.tensor([0.25]))
        self.depthwise = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.drop = torch.nn.Dropout()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(x)) * self.scale + self.shift
        y = y * torch.clamp(y + 3, 0, 6) / 6
        y = self.depthwise(y * 1.5 + 0.5)
        return self.drop(y).flatten(2).transpose(1, 2).contiguous().view(y.shape[0], -1, 2, 4)


def block() -> Program:
    torch.manual_seed(0)
    return capture_torch(Block().eval(), (torch.randn(2, 3, 6, 6),), dynamic_shapes=({0: "batch"},))


def test_a_convolution_block() -> None:
    after = clean(block())
    assert count(after) == {"conv2d": 2, "hardswish": 1, "add": 1, "flatten": 1, "permute": 1, "reshape": 1}
    assert "aten.reshape(" in after.text() and "[%0, -1, 2, 4]" in after.text()


def test_cleaning_twice_changes_nothing_more() -> None:
    once = clean(block())
    assert clean(once).structural_hash() == once.structural_hash()


def test_training_keeps_parameters_trainable() -> None:
    after = clean(block(), training=True)
    assert any(t.requires_grad for t in after.constants.values())
    outputs = after(torch.randn(2, 3, 6, 6))
    trainable = [t for t in after.constants.values() if t.requires_grad]
    gradients = torch.autograd.grad(outputs[0].sum(), trainable)
    assert all(bool(g.isfinite().all()) for g in gradients)


class Attention(torch.nn.Module):
    """Grouped-query attention with rotary embedding and RMSNorm, as eager Llama has it."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.rand(16) + 0.5)
        self.q, self.k, self.v = (torch.nn.Linear(16, n, bias=False) for n in (16, 8, 8))
        self.register_buffer("frequencies", 1.0 / 100 ** (torch.arange(0, 4, 2) / 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, s, _ = x.shape
        h = self.gain * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)
        angles = torch.arange(s)[:, None] * self.frequencies  # type: ignore[operator]
        angles = torch.cat((angles, angles), -1)
        cos, sin = angles.cos(), angles.sin()

        def heads(y: torch.Tensor) -> torch.Tensor:
            return y.view(b, s, -1, 4).transpose(1, 2)

        def rotate(y: torch.Tensor) -> torch.Tensor:
            return y * cos + torch.cat((-y[..., 2:], y[..., :2]), -1) * sin

        def repeat(y: torch.Tensor) -> torch.Tensor:
            return y[:, :, None].expand(b, 2, 2, s, 4).reshape(b, 4, s, 4)

        q, k, v = rotate(heads(self.q(h))), repeat(rotate(heads(self.k(h)))), repeat(heads(self.v(h)))
        mask = torch.full((s, s), torch.finfo(x.dtype).min).triu(1)
        scores = torch.matmul(q, k.transpose(2, 3)) * 0.5 + mask
        y = torch.matmul(F.dropout(F.softmax(scores, -1, dtype=torch.float32).to(q.dtype), 0.0, False), v)
        return y.transpose(1, 2).contiguous().reshape(b, s, -1)


def test_an_attention_block() -> None:
    torch.manual_seed(0)
    program = capture_torch(
        Attention().eval(), (torch.randn(2, 5, 16),), dynamic_shapes=({0: "batch", 1: "sequence"},)
    )
    after = clean(program)
    found = count(after)
    assert found["rms_norm"] == found["scaled_dot_product_attention"] == 1
    assert found["graphopt"] == 2
    assert not {"matmul", "softmax", "dropout", "expand", "rsqrt", "contiguous"} & set(found)
    assert "enable_gqa=True" in after.text()


def test_the_pipeline_is_data_with_reasons() -> None:
    for step in steps():
        assert step.run.name and step.reason
    assert [p.name for p in Cleanup().passes()] == [s.run.name for s in steps()]


@pytest.mark.parametrize(
    "item", [*(s.run for s in steps()), *(s.run for s in steps(training=True)), Cleanup()]
)
def test_passes_go_through_their_text(item: Any) -> None:
    assert build_pass(str(item)) == item


def test_every_part_can_be_named_before_it_is_imported() -> None:
    names = sorted({step.run.name for step in steps()} | {"cleanup"})
    code = f"from graphopt.passmanager.registry import build_pass\nfor n in {names}: build_pass(n)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_package_is_light_to_import() -> None:
    code = "import sys, graphopt.passes.cleanup; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _chain(length: int) -> Program:
    def forward(x: torch.Tensor) -> torch.Tensor:
        for i in range(length):
            x = torch.relu(x.transpose(0, 1).contiguous().view(4, 4) * 1.0 + float(i % 7))
        return x

    class Chain(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return forward(x)

    return capture_torch(Chain().eval(), (torch.randn(4, 4),))


def test_time_grows_linearly() -> None:
    seconds = []
    for length in (25, 100):
        program = _chain(length)
        start = time.process_time()
        PassManager([Cleanup()], verify="off", reproducer_dir=False).run(program)
        seconds.append(time.process_time() - start)
    assert seconds[1] < 8 * seconds[0], seconds  # four times the nodes; quadratic would be 16 times
