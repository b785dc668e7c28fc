"""The GPU kernels of a model: schedule, registers, spills, shared memory, occupancy, roofline.

    python -m benchmarks.cuda_kernels resnet50 [--small] [--dtype float16] [--dynamic] [--target cuda:sm_80]

No GPU is needed: kernels are compiled, and read.  MODEL is a name of ``benchmarks.zoo``, or a file.  The
last lines sum up: kernels on tensor cores, their share of the operations, and the least time of one run,
which is the sum over launches and counts no launch.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import zoo
from graphopt.cli.tables import console, gpu_table, spill_warnings, table
from graphopt.codegen import compile
from graphopt.codegen.gpu_report.kernels import GpuKernel
from graphopt.codegen.gpu_report.roofline import GPUS
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from graphopt.passmanager.manager import PassManager


def load_program(name: str, *, small: bool, dtype: str | None, dynamic: bool) -> Program:
    """A model of the zoo, or a file.

    Args:
        dtype: of weights and floating inputs, instead of the model's own; for modules only.
        dynamic: with the axes symbolic that the zoo says may vary.
    """
    if Path(name).suffix in (".onnx", ".pt2"):
        import graphopt

        return graphopt.load(name)
    model = zoo.get(name, "small" if small else "full")
    if model.module is None:
        assert model.path is not None
        import graphopt

        return graphopt.load(model.path)
    module, inputs = model.module, model.capture_inputs() if dynamic else model.inputs
    if dtype is not None:
        wanted = getattr(torch, dtype)
        module = module.to(wanted)
        inputs = tuple(i.to(wanted) if i.is_floating_point() else i for i in inputs)
    shapes = model.dynamic_shapes() if dynamic else None
    return capture_torch(module.eval(), inputs, dynamic_shapes=shapes)


def summary(kernels: Sequence[GpuKernel]) -> dict[str, Any]:
    """Counts over the kernels, weighted by how often the program launches each."""
    operations: Counter[str] = Counter()
    for kernel in kernels:
        if kernel.work is not None:
            for units, count in kernel.work.operations.items():
                operations[units] += count * kernel.calls
    tensor = sum(n for units, n in operations.items() if units.endswith("tensor"))
    products = [k for k in kernels if k.rule.endswith("gemm")]
    return {
        "kernels": len(kernels),
        "rules": dict(Counter(k.rule for k in kernels).most_common()),
        "on_tensor_cores": sum(k.on_tensor_cores for k in kernels),
        "products": len(products),
        "products_on_tensor_cores": sum(k.on_tensor_cores for k in products),
        "operations": dict(operations),
        "operations_on_tensor_cores": tensor / max(1, sum(operations.values())),
        "spilling": [k.name for k in kernels if k.spills],
        "least_us": {
            gpu.name: sum(e.seconds * k.calls for k in kernels if (e := k.estimate(gpu)) is not None) * 1e6
            for gpu in GPUS
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda_kernels", description=__doc__)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--small", action="store_true", help="the zoo's narrow variant")
    parser.add_argument("--dtype", choices=("float16", "bfloat16"), help="of weights and inputs")
    parser.add_argument("--dynamic", action="store_true", help="symbolic axes, counted as 128")
    parser.add_argument("--target", default="cuda")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    options = parser.parse_args(arguments)
    program = load_program(options.model, small=options.small, dtype=options.dtype, dynamic=options.dynamic)
    program = PassManager("cleanup", verify="off").run(program).program  # as graphopt compile does
    kernels = compile(program, options.target).gpu_kernels()
    found = summary(kernels)
    if options.json:
        listed = [k.to_dict() for k in kernels]
        options.json.write_text(json.dumps({"summary": found, "kernels": listed}, indent=1) + "\n")
    out = console()
    out.width = 200
    out.print(gpu_table(kernels))
    out.print(table("rules", ("rule", "kernels"), [(r, str(n)) for r, n in found["rules"].items()]))
    share = 100 * found["operations_on_tensor_cores"]
    print(f"{found['on_tensor_cores']} of {found['kernels']} kernels on tensor cores,")
    print(f"with {share:.1f} % of the operations;")
    print(f"{found['products_on_tensor_cores']} of {found['products']} products and convolutions")
    for name, least in found["least_us"].items():
        print(f"{name}: at least {least:.1f} us")
    print("\n".join(spill_warnings(kernels)) or "no kernel spills")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
