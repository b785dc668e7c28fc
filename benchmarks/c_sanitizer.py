"""Generated C under AddressSanitizer and UndefinedBehaviorSanitizer: what schedules read and write.

``python -m benchmarks.c_sanitizer`` compiles small models and single kernels of awkward sizes for
target ``c``, builds them with every tensor as an allocation of its own, freed after its last use, and
runs them.  An access beside a tensor, a tensor used after its memory was given to another, an index that
overflows: each ends the program.  Results are compared with the program by the noise rule.

The kernels are scheduled by the rules for CPUs, which machine code gets too; so this is a test of
those rules as well.  ``--operators`` walks the samples of every converter, in minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.c_programs import SANITIZED, CProgram
from graphopt.codegen import compile
from graphopt.codegen.csource.artifact import SourceArtifact
from graphopt.errors import GraphoptError
from graphopt.ir.program import Program
from graphopt.verification import verify

MODELS = ("ppocr-cls", "ppocr-det", "mobilenet-v2", "minilm", "smollm2-prefill", "smollm2-decode")
# A prime, a number that leaves one element over, one that lacks one, and one.
SIZES = (13, 17, 31, 1)


class _Kernel(nn.Module):
    def __init__(self, function: Callable[..., Tensor], weights: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        self.function = function
        for name, tensor in (weights or {}).items():
            self.register_buffer(name, tensor)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs, **dict(self.named_buffers()))


Case = tuple[Callable[..., Tensor], list[tuple[int, ...]], dict[str, tuple[int, ...]]]


def _scaled_hard_swish(y: Tensor, scale: Tensor) -> Tensor:
    y = y * scale + 0.1
    return y * torch.clamp(y + 3, 0, 6) / 6


def kernels(n: int) -> dict[str, Case]:
    """Kernels of every schedule rule by name: function, shapes of inputs, shapes of weights."""
    m = n + 4
    return {
        "elementwise": (lambda x: torch.tanh(x) * x.exp(), [(n, m)], {}),
        "broadcast": (lambda x, y: torch.where(x > y, x, y * 2), [(n, m), (m,)], {}),
        "transpose": (lambda x: x.transpose(1, 2) + 1, [(2, n, m)], {}),
        "concatenation": (lambda x, y: torch.cat([x, y], 1), [(n, m), (n, 3)], {}),
        "embedding": (lambda x, table: table[(x * 0).long() + n - 1], [(n,)], {"table": (n, 5)}),
        "gather": (lambda x, y: torch.gather(x, 1, y.argsort(1)), [(n, m), (n, m)], {}),
        "linear": (lambda x, w, b: F.gelu(F.linear(x, w, b)), [(n, m)], {"w": (n + 2, m), "b": (n + 2,)}),
        "product": (lambda x, y: torch.relu(x @ y), [(n, m), (m, n)], {}),
        "batched-product": (lambda x, y: x @ y.transpose(1, 2), [(3, n, 5), (3, m, 5)], {}),
        "vector-product": (lambda x, w: F.linear(x, w), [(1, m)], {"w": (n, m)}),
        "convolution": (
            lambda x, w, b: torch.relu(F.conv2d(x, w, b, padding=1)),
            [(1, 3, n, m)],
            {"w": (n, 3, 3, 3), "b": (n,)},
        ),
        "convolution-strided": (
            lambda x, w: F.conv2d(x, w, stride=2, padding=2, dilation=2),
            [(2, 3, m, m)],
            {"w": (5, 3, 3, 3)},
        ),
        "convolution-1x1": (lambda x, w: F.silu(F.conv2d(x, w)), [(1, n, 5, 7)], {"w": (m, n, 1, 1)}),
        "convolution-depthwise": (
            lambda x, w: F.conv2d(x, w, padding=1, groups=n),
            [(1, n, 8, m)],
            {"w": (n, 1, 3, 3)},
        ),
        "convolution-hard-swish": (
            lambda x, w, s: _scaled_hard_swish(F.conv2d(x, w, padding=2, groups=16), s),
            [(1, 16, 8, n + 16)],
            {"w": (16, 1, 5, 5), "s": (1,)},
        ),
        "convolution-grouped": (
            lambda x, w: F.conv2d(x, w, padding=1, groups=2),
            [(1, 6, n, 9)],
            {"w": (4, 3, 3, 3)},
        ),
        "convolution-transposed": (
            lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1),
            [(1, 3, n, 5)],
            {"w": (3, 4, 3, 3)},
        ),
        "pooling": (lambda x: F.max_pool2d(x, 3, 2, 1) + F.avg_pool2d(x, 3, 2, 1), [(1, n, m, 9)], {}),
        "resizing": (lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"), [(1, 3, n, m)], {}),
        "softmax": (lambda x: x.softmax(-1), [(3, n, m)], {}),
        "softmax-outer": (lambda x: x.softmax(1), [(2, n, m)], {}),
        "layer-norm": (lambda x: F.layer_norm(x, (m,)), [(n, m)], {}),
        "group-norm": (lambda x: F.group_norm(x, 2), [(2, 6, n, 3)], {}),
        "sum": (lambda x: x.sum(-1) + x.amax(-1), [(n, m)], {}),
        "variance": (lambda x: x.var(), [(n, m)], {}),
        "running-sum": (lambda x: x.cumsum(1), [(n, m)], {}),
        "attention": (
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
            [(1, 2, n, 8)] * 3,
            {},
        ),
    }


def program_of(case: Case) -> Program:
    """The kernel as a program, with weights and example inputs that are always the same."""
    from graphopt.frontends.torch_module import capture_torch

    function, inputs, weights = case
    generator = torch.Generator().manual_seed(0)
    module = _Kernel(function, {k: torch.randn(s, generator=generator) for k, s in weights.items()})
    return capture_torch(module.eval(), tuple(torch.randn(s, generator=generator) for s in inputs))


def check(program: Program, folder: Path, inputs: list[tuple[Tensor, ...]] | None = None) -> str | None:
    """What is wrong with a program compiled to C, or None.

    Args:
        folder: for the source; it must not be there yet.
        inputs: to run on, beside drawn ones.
    """
    try:
        artifact = cast(SourceArtifact, compile(program, "c"))
        report = verify(program, CProgram(artifact, folder, flags=SANITIZED), inputs=inputs, draws=1)
    except GraphoptError as error:
        return str(error).splitlines()[0]
    except RuntimeError as error:  # the compiler, or a sanitizer
        lines = str(error).splitlines()
        return next((line for line in lines if "ERROR" in line or "error:" in line), lines[0])
    return None if report.ok else str(report.error())


def cases(
    models: list[str], sizes: list[int]
) -> Iterator[tuple[str, Program, list[tuple[Tensor, ...]] | None]]:
    """Names, programs and inputs of all that is checked."""
    from benchmarks.zoo import get

    for name in models:
        model = get(name, size="small")
        yield name, model.capture(dynamic=False), [tuple(model.inputs)]
    for size in sizes:
        for name, case in kernels(size).items():
            yield f"{name} {size}", program_of(case), None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.c_sanitizer", description=__doc__)
    parser.add_argument("--models", nargs="*", default=list(MODELS), metavar="NAME")
    parser.add_argument("--sizes", nargs="*", type=int, default=list(SIZES), metavar="N")
    options = parser.parse_args(arguments)
    wrong = count = 0
    with tempfile.TemporaryDirectory(prefix="graphopt-sanitizer-") as temporary:
        for name, program, inputs in cases(options.models, options.sizes):
            start = time.perf_counter()
            problem = check(program, Path(temporary, str(count)), inputs)
            count += 1
            wrong += problem is not None
            print(f"{name:28} {time.perf_counter() - start:6.1f} s  {problem or 'ok'}", flush=True)
    print(f"{count - wrong} of {count} without a fault")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
