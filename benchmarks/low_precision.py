"""Products of int8, bfloat16 and float16 on one core: ``python -m benchmarks.low_precision``.

Each engine runs in a process of its own, on one thread, and is timed by that thread's CPU time (median of
the runs); the table has 10^9 operations a second.

Integer convolutions are those of ResNet-50 with their requantization: dyadic for graphopt, ``QLinearConv``
for onnxruntime; both get and give images as they hold them (channels last, channels first).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUNS = 25
ENGINES = ("graphopt", "onnxruntime", "torch")
DTYPES = ("uint8", "int8", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Case:
    """A product ``[rows, depth] x [depth, columns]``, or a convolution.

    Attributes:
        dtype: of the left operand; integers have int8 weights.
        size: rows, depth, columns; or channels, height, outputs, kernel, stride.
    """

    dtype: str
    size: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.dtype} {'x'.join(map(str, self.size))}"

    @property
    def operations(self) -> int:
        if len(self.size) == 3:
            return 2 * self.size[0] * self.size[1] * self.size[2]
        channels, height, outputs, kernel, stride = self.size
        return 2 * channels * outputs * kernel**2 * ((height - 1) // stride + 1) ** 2


RESNET50 = (
    (3, 224, 64, 7, 2), (64, 56, 64, 1, 1), (64, 56, 64, 3, 1), (64, 56, 256, 1, 1), (256, 56, 64, 1, 1),
    (256, 56, 128, 1, 1), (128, 56, 128, 3, 2), (128, 28, 512, 1, 1), (256, 56, 512, 1, 2),
    (512, 28, 128, 1, 1), (128, 28, 128, 3, 1), (512, 28, 256, 1, 1), (256, 28, 256, 3, 2),
    (256, 14, 1024, 1, 1), (512, 28, 1024, 1, 2), (1024, 14, 256, 1, 1), (256, 14, 256, 3, 1),
    (1024, 14, 512, 1, 1), (512, 14, 512, 3, 2), (512, 7, 2048, 1, 1), (1024, 14, 2048, 1, 2),
    (2048, 7, 512, 1, 1), (512, 7, 512, 3, 1),
)  # fmt: skip

CASES = (
    *(Case(d, (1024, 1024, 1024)) for d in DTYPES),
    *(Case(d, (1, 2048, 2048)) for d in DTYPES[2:]),
    *(Case("uint8", size) for size in RESNET50),
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.low_precision", description=__doc__)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose names have this in them")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--child", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    cases = [c for c in CASES if options.only in c.name]
    if options.child:
        print(json.dumps({c.name: _seconds(options.child, c) for c in cases}))
        return 0
    found = {engine: _in_own_process(engine, options.only) for engine in options.engines}
    print(f"{'case':32}" + "".join(f"{e:>14}" for e in found))
    for case in cases:
        cells = [found[e][case.name] for e in found]
        rates = ["–" if t is None else f"{case.operations / t / 1e9:.0f} G/s" for t in cells]
        print(f"{case.name:32}" + "".join(f"{r:>14}" for r in rates))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


def _in_own_process(engine: str, only: str) -> dict[str, float | None]:
    threads = {"OMP_NUM_THREADS": "1", "TVM_NUM_THREADS": "1", "GRAPHOPT_CACHE": "off"}
    command = [sys.executable, "-m", "benchmarks.low_precision", "--child", engine, "--only", only]
    done = subprocess.run(
        command, env={**os.environ, **threads}, stdout=subprocess.PIPE, check=True, text=True
    )
    result: dict[str, float | None] = json.loads(done.stdout.splitlines()[-1])
    return result


def _seconds(engine: str, case: Case) -> float | None:
    """Median CPU time of a call; None where the engine has no such product."""
    make = {"graphopt": _graphopt, "onnxruntime": _onnxruntime, "torch": _torch}[engine]
    call = make(case)
    if call is None:
        return None
    times = []
    for _ in range(RUNS * (20 if case.size[0] == 1 else 1)):
        start = time.thread_time()
        call()
        times.append(time.thread_time() - start)
    return statistics.median(times)


def _graphopt(case: Case) -> Callable[[], Any]:
    import tempfile

    import torch
    import tvm
    from torch import nn
    from tvm import relax

    from graphopt.codegen import compile
    from graphopt.frontends.torch_module import capture_torch
    from graphopt.fuzz.kernels.quantized import DyadicRequantize, IntegerConv2d, IntegerLinear

    def weights(*shape: int) -> torch.Tensor:
        return torch.randint(-127, 128, shape, dtype=torch.int8)

    class ChannelsLast(nn.Module):
        def __init__(self, inside: nn.Module) -> None:
            super().__init__()
            self.inside = inside

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.inside(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            return y

    dtype: torch.dtype = getattr(torch, case.dtype)
    if len(case.size) == 5:
        channels, height, outputs, kernel, stride = case.size
        weight, bias = weights(outputs, channels, kernel, kernel), torch.zeros(outputs, dtype=torch.int32)
        conv = IntegerConv2d(weight, bias, 0, (stride, stride), (kernel // 2, kernel // 2))
        factor = torch.rand(outputs) / 2000 + 1e-4
        module: nn.Module = ChannelsLast(
            nn.Sequential(conv, DyadicRequantize(factor, (-1, 1, 1), torch.uint8))
        )
        x = torch.randint(0, 128, (1, height, height, channels)).to(dtype)
    elif dtype.is_floating_point:
        module, x = nn.Linear(case.size[1], case.size[2]).to(dtype), torch.randn(case.size[:2]).to(dtype)
    else:
        module = IntegerLinear(weights(case.size[2], case.size[1]), None, 0)
        x = torch.randint(0, 128, case.size[:2]).to(dtype)
    artifact = compile(capture_torch(module.eval(), (x,)), "cpu", cache=False)
    folder = tempfile.TemporaryDirectory()
    artifact.save(Path(folder.name) / "model.so")
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(Path(folder.name) / "model.so")), tvm.cpu())
    main, tensor = machine["main"], tvm.runtime.from_dlpack(x)
    return lambda keep=folder: main(tensor)  # type: ignore[misc]


def _onnxruntime(case: Case) -> Callable[[], Any] | None:
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    if case.dtype == "bfloat16":
        return None
    rng = np.random.default_rng(0)
    kinds = {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8, "float32": TensorProto.FLOAT,
             "float16": TensorProto.FLOAT16}  # fmt: skip
    kind, result = kinds[case.dtype], kinds[case.dtype]
    constants: dict[str, Any] = {}
    if len(case.size) == 5:
        channels, height, outputs, kernel, stride = case.size
        weight = rng.integers(-127, 128, (outputs, channels, kernel, kernel)).astype(np.int8)
        shape: tuple[int, ...] = (1, channels, height, height)
        constants = {
            "xs": np.float32(0.02), "z": np.uint8(0), "w": weight, "ws": np.full(outputs, 0.01, np.float32),
            "wz": np.zeros(outputs, np.int8), "ys": np.float32(0.5), "b": np.zeros(outputs, np.int32),
        }  # fmt: skip
        node = helper.make_node("QLinearConv", ["x", "xs", "z", "w", "ws", "wz", "ys", "z", "b"], ["y"],
                                pads=[kernel // 2] * 4, strides=[stride] * 2)  # fmt: skip
    else:
        shape = case.size[:2]
        integers = case.dtype in ("uint8", "int8")
        constants["w"] = rng.integers(-127, 128, case.size[1:]).astype(np.int8 if integers else case.dtype)
        node = helper.make_node("MatMulInteger" if integers else "MatMul", ["x", "w"], ["y"])
        result = TensorProto.INT32 if integers else kind
    graph = helper.make_graph(
        [node], "product", [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", result, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, ["CPUExecutionProvider"])
    x = rng.integers(0, 127, shape).astype(case.dtype)
    return lambda: session.run(None, {"x": x})


def _torch(case: Case) -> Callable[[], Any] | None:
    import torch

    torch.set_num_threads(1)
    if len(case.size) == 5:
        return None
    dtype: torch.dtype = getattr(torch, case.dtype)
    if dtype.is_floating_point:
        x, layer = torch.randn(case.size[:2]).to(dtype), torch.nn.Linear(case.size[1], case.size[2]).to(dtype)
        return torch.no_grad()(lambda: layer(x))
    a = torch.randint(0, 127, case.size[:2]).to(dtype)
    b = torch.randint(-127, 128, case.size[1:]).to(torch.int8)
    return lambda: torch._int_mm(a, b)


if __name__ == "__main__":
    sys.exit(main())
