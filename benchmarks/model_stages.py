"""One model through every stage, in a process of its own.

``python -m benchmarks.model_stages NAME`` prints one JSON object a line as each stage ends, so that a
crash or a timeout still leaves what came before.  :mod:`benchmarks.model_table` reads them.

====================  ==============================================================================
stage                 what it does
====================  ==============================================================================
captured              torch.export, or the ONNX importer; the program must agree with the source
cleaned               ``P.Cleanup``; the result must agree with the captured program
compiled              code for this CPU, which must agree with the captured program
cuda                  code for the named CUDA target; only its kernels are counted, nothing runs
====================  ==============================================================================

"Agree" is the noise rule of ``graphopt.verification``: the figure is the largest error divided by the
error allowed, so that 1 is the limit.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.zoo.model import Model
    from graphopt.ir.program import Program
    from graphopt.verification import VerificationReport

STAGES = ("captured", "cleaned", "compiled", "cuda")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model_stages", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--size", choices=("small", "full"), default="full")
    parser.add_argument("--static", action="store_true", help="fix every axis at the example's size")
    parser.add_argument("--stages", default="captured,cleaned,compiled", help="comma-separated")
    parser.add_argument("--cuda-target", default="cuda")
    options = parser.parse_args(arguments)
    wanted = options.stages.split(",")
    unknown = [s for s in wanted if s not in STAGES]
    if unknown:
        parser.error(f"unknown stage {unknown[0]!r}; there are: {', '.join(STAGES)}")
    return Run(options.name, options.size, options.static, options.cuda_target).go(wanted)


class Run:
    """The stages of one model; each prints its result."""

    def __init__(self, name: str, size: Any, static: bool, cuda_target: str) -> None:
        self.name = name
        self.size = size
        self.static = static
        self.cuda_target = cuda_target

    def go(self, wanted: list[str]) -> int:
        import torch

        from benchmarks.zoo import get

        torch.manual_seed(0)
        try:
            self.model: Model = get(self.name, self.size)
        except ImportError as error:
            _print(stage="captured", failed=_reason(error))
            return 1
        stages: dict[str, Callable[[], dict[str, Any]]] = {
            "captured": self.captured,
            "cleaned": self.cleaned,
            "compiled": self.compiled,
            "cuda": self.cuda,
        }
        failures = 0
        for stage in STAGES:
            if stage not in wanted and stage not in ("captured", "cleaned"):
                continue
            start = time.perf_counter()
            try:
                _print(stage=stage, **stages[stage](), total_seconds=round(time.perf_counter() - start, 2))
            except Exception as error:  # a row of the table, with the reason
                failures += 1
                traceback.print_exc(file=sys.stderr)
                _print(stage=stage, failed=_reason(error))
                if stage == "captured":
                    break
        return 1 if failures else 0

    def captured(self) -> dict[str, Any]:
        start = time.perf_counter()
        self.program: Program = self.model.capture(dynamic=not self.static)
        self.clean: Program = self.program  # what is compiled if the cleanup fails
        seconds = time.perf_counter() - start
        report = self._agrees(self.model.reference())
        return {
            "nodes": nodes(self.program),
            "operators": len(self.program.operator_nodes()),
            "seconds": round(seconds, 2),
            "dims": {name: [r.min, r.max] for name, r in self.program.signature.dims.items()},
            "notes": self.program.notes,
            **_verdict(report),
        }

    def cleaned(self) -> dict[str, Any]:
        from graphopt import PassManager
        from graphopt import passes as P

        start = time.perf_counter()
        self.clean = PassManager([P.Cleanup()], verify="off").run(self.program).program
        seconds = time.perf_counter() - start
        return {
            "nodes": nodes(self.clean),
            "operators": len(self.clean.operator_nodes()),
            "seconds": round(seconds, 2),
            **_verdict(self._agrees(self.clean)),
        }

    def compiled(self) -> dict[str, Any]:
        import graphopt

        start = time.perf_counter()
        artifact = graphopt.compile(self.clean, target="cpu")
        seconds = time.perf_counter() - start
        return {
            "kernels": len(artifact.kernels()),
            "seconds": round(seconds, 2),
            **_verdict(self._agrees(artifact)),
        }

    def cuda(self) -> dict[str, Any]:
        import graphopt

        start = time.perf_counter()
        artifact = graphopt.compile(self.clean, target=self.cuda_target)
        return {
            "kernels": len(artifact.kernels()),
            "target": self.cuda_target,
            "seconds": round(time.perf_counter() - start, 2),
        }

    def _agrees(self, candidate: Any) -> VerificationReport:
        """Checked on the model's own example and, if shapes vary, on one more set of sizes."""
        from graphopt.verification import verify

        batches: list[Any] = [self.model.inputs]
        if not self.static:
            other = self._other_sizes()
            if other is not None:
                batches.append(other)
        return verify(self.program, candidate, inputs=batches)

    def _other_sizes(self) -> Any:
        """Inputs whose varying axes have sizes other than the example's, as far as the program lets them."""
        sizes: dict[str, int] = {}
        varying = self.program.signature.dims
        for spec, tensor, axes in zip(
            self.program.signature.inputs, self.model.inputs, self.model.axes, strict=True
        ):
            for axis, name in axes.items():
                if spec.shape[axis] in varying:
                    step = self.model.multiples.get(name, 1)
                    low, high = self.model.range(name)
                    smaller = tensor.shape[axis] // 2 // step * step
                    sizes[name] = smaller if smaller >= low else min(tensor.shape[axis] + 2 * step, high)
        return self.model.resized(sizes) if sizes else None


def nodes(program: Program) -> int:
    """Call nodes of the graph: operators and shape arithmetic, without inputs and weights."""
    return sum(1 for _ in program.calls())


def _verdict(report: VerificationReport) -> dict[str, Any]:
    ratio = max((o.worst.ratio for o in report.outputs), default=0.0)
    error = max((o.worst.max_error for o in report.outputs), default=0.0)
    verdict: dict[str, Any] = {"ok": report.ok, "ratio": ratio, "max_error": error}
    if not report.ok:
        verdict["problem"] = report.explanation()
    return verdict


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:600]}" if text else type(error).__name__


def _print(**result: Any) -> None:
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    sys.exit(main())
