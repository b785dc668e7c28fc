"""The process that builds, checks and measures schedules: ``python -m graphopt.codegen.tuning.worker``.

Requests come as lines of JSON on stdin and are answered on stdout.  The process holds one kernel, its
default schedule and inputs for it; a schedule that crashes takes nobody else along.

``open``
    ``function`` (TVM's JSON), ``target``: answers ``{"microseconds": ...}`` of the default schedule.
``try``
    ``decisions``, ``rounds``: answers ``{"status": ...}`` with ``microseconds`` and
    ``default_microseconds``, or a ``reason``.

A result must equal the default schedule's bit for bit (NaN equals NaN), before it is measured and
after: the choices of a schedule never change the order in which a sum is taken.  Default and candidate
run in turns, and the minimum over the turns counts.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from graphopt.codegen import loops
from graphopt.codegen.pipeline import last_line
from graphopt.codegen.schedules.decisions import UnknownDecision
from graphopt.codegen.targets import Target
from graphopt.codegen.tuning.database import FAILED, INVALID, WRONG
from graphopt.codegen.tuning.kernel import Arranged, arrange, outputs_of

_TURN = 2e-3
"""Seconds that a turn lasts, or one call."""

_HOPELESS = 1.5
"""A candidate that takes so many times longer in its first two turns gets no third one."""


class Bench:
    """A kernel with its default schedule built, and inputs to run it on.

    Args:
        func: not scheduled; fixed sizes.
        arranger: makes a schedule from decisions.
    """

    def __init__(
        self, func: tirx.PrimFunc, target: Target, arranger: Callable[..., Arranged] = arrange
    ) -> None:
        self.func = func
        self.target = target
        self.arranger = arranger
        self.outputs = outputs_of(func)
        generator = np.random.default_rng(0)
        self.values = [_drawn(p, generator) for p in func.params]
        self.default = self._build({})
        self.expected = self._run(*self.default)
        self.number = 1
        self.number = max(1, min(100_000, int(_TURN / max(self._turn(*self.default), 1e-8))))
        self._built: tuple[dict[str, int], Any] | None = None

    def microseconds(self, rounds: int) -> float:
        """Of one call of the default schedule."""
        return min(self._turn(*self.default) for _ in range(rounds)) * 1e6

    def attempt(self, decisions: dict[str, int], rounds: int) -> dict[str, Any]:
        """Build, check and measure one candidate."""
        if self._built is None or self._built[0] != decisions:
            try:
                self._built = decisions, self._build(decisions)
            except UnknownDecision as error:
                return {"status": INVALID, "reason": str(error)}
            except Exception as error:  # TVM raises whatever its C++ threw
                return {"status": FAILED, "reason": last_line(error)}
        candidate = self._built[1]
        if difference := self._difference(candidate):
            return {"status": WRONG, "reason": difference}
        default_times, times = [], []
        for turn in range(rounds):
            default_times.append(self._turn(*self.default))
            times.append(self._turn(*candidate))
            if turn == 1 and min(times) > _HOPELESS * min(default_times):
                break
        if difference := self._difference(candidate):
            return {"status": WRONG, "reason": f"after some runs: {difference}"}
        return {
            "status": "measured",
            "microseconds": min(times) * 1e6,
            "default_microseconds": min(default_times) * 1e6,
        }

    def _build(self, decisions: dict[str, int]) -> tuple[Any, list[Any]]:
        """The machine code, and its arguments."""
        arranged = self.arranger(self.func, self.target, decisions)
        values = list(self.values)
        if (panels := arranged.panels) is not None:
            values[panels.parameter] = panels.repack(values[panels.parameter])
        arguments = [tvm.runtime.tensor(v) for v in values]
        func = arranged.function.with_attr("global_symbol", "main")
        mod, config = tvm.IRModule({"main": func}), tvm.target.Target(self.target.tvm_config())
        with tvm.transform.PassContext(opt_level=3, config=loops.CONFIG):
            built = tvm.compile(mod, config, tir_pipeline=loops.PIPELINE_NAME)
        return built, arguments

    def _run(self, built: Any, arguments: list[Any]) -> list[np.ndarray]:
        for position in self.outputs:
            arguments[position].copyfrom(self.values[position])  # what an earlier run wrote
        built["main"](*arguments)
        return [arguments[i].numpy() for i in self.outputs]

    def _difference(self, candidate: tuple[Any, list[Any]]) -> str | None:
        for expected, found in zip(self.expected, self._run(*candidate), strict=True):
            bits = f"u{expected.dtype.itemsize}"
            same = expected.view(bits) == found.view(bits)
            if expected.dtype.kind == "f":
                same |= np.isnan(expected) & np.isnan(found)
            if not same.all():
                return f"{int((~same).sum())} of {same.size} elements differ from the default schedule's"
        return None

    def _turn(self, built: Any, arguments: list[Any]) -> float:
        """Seconds of a call."""
        evaluator = built.mod.time_evaluator("main", tvm.cpu(), number=self.number, repeat=1)
        return float(evaluator(*arguments).mean)


def _drawn(parameter: Any, generator: np.random.Generator) -> np.ndarray:
    """Values for a parameter: integers are 0 and 1, valid as token, mask and flag alike."""
    shape, dtype = [int(s) for s in parameter.shape], np.dtype(parameter.dtype)
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)


def serve(requests: Any, answers: Any, arranger: Callable[..., Arranged] = arrange) -> None:
    """Answers requests until there are no more."""
    bench: Bench | None = None
    for line in requests:
        request = json.loads(line)
        try:
            if request["do"] == "open":
                bench = None
                func = tvm.ir.load_json(request["function"])["main"]
                bench = Bench(func, Target.from_dict(request["target"]), arranger)
                answer: dict[str, Any] = {"microseconds": bench.microseconds(request["rounds"])}
            else:
                assert bench is not None
                answer = bench.attempt(request["decisions"], request["rounds"])
        except Exception as error:  # the kernel cannot be tuned, and the parent says so
            answer = {"status": FAILED, "reason": last_line(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    # What libraries print must not get between the answers.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
