"""Runs ONNX's own operator tests through the importer and counts how many give the expected outputs.

    python benchmarks/onnx_conformance.py --json conformance.json
    python benchmarks/onnx_conformance.py --filter resize --verbose

The tests are those of ``onnx.backend.test`` of kind "node", without the ``_expanded`` variants.  A test
counts as *dynamic* when it passes as it is, and as *bound* when it passes once the inputs that must be
known at import time (a shape, an axis) are given as constants.  Tests on strings, sequences, optionals and
training operators count as failures like any other.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from graphopt.errors import GraphoptError
from graphopt.frontends.onnx import import_onnx


@dataclass
class Outcome:
    """How one test ended.

    Attributes:
        status: dynamic, bound, unsupported (a documented error), mismatch or crash.
        detail: the error, or the largest difference.
    """

    name: str
    op: str
    status: str
    detail: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return self.status in ("dynamic", "bound")


def node_tests(pattern: str = "") -> list[Any]:
    """The operator tests whose name matches ``pattern``, without expanded variants."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        # Some test generators overflow on purpose.
        warnings.simplefilter("ignore")
        cases = load_model_tests(kind="node")
    return [c for c in cases if "_expanded" not in c.name and re.search(pattern, c.name)]


def run_case(case: Any) -> Outcome:
    """Imports the test's model, runs it eagerly and compares with each of its data sets."""
    start = time.perf_counter()
    nodes = case.model.graph.node
    outcome = Outcome(case.name, nodes[0].op_type if len(nodes) == 1 else "(several)", "dynamic")
    inputs, _ = case.data_sets[0]
    names = [v.name for v in case.model.graph.input]
    bound: dict[str, np.ndarray] = {}
    try:
        while True:
            try:
                program = _import(case.model, bound)
                break
            except GraphoptError as error:
                wanted = re.search(r"constants=\{'([^']*)'", str(error))
                if wanted is None or wanted[1] in bound or wanted[1] not in names:
                    raise
                bound[wanted[1]] = np.asarray(inputs[names.index(wanted[1])])
        outcome.status = "bound" if bound else "dynamic"
        for given, expected in case.data_sets:
            feeds = [x for n, x in zip(names, given, strict=False) if n not in bound]
            _compare(program, feeds, expected, case, outcome)
    except GraphoptError as error:
        outcome.status, outcome.detail = "unsupported", f"{error.code} {error.message.splitlines()[-1]}"
    except Exception as error:  # the point of the run is to find these
        outcome.status, outcome.detail = "crash", f"{type(error).__name__}: {str(error)[:200]}"
    outcome.seconds = round(time.perf_counter() - start, 3)
    return outcome


def _import(model: onnx.ModelProto, bound: dict[str, np.ndarray]) -> Any:
    return import_onnx(model, constants=bound)


def _compare(program: Any, feeds: list[Any], expected: Iterable[Any], case: Any, outcome: Outcome) -> None:
    tensors = [to_tensor(x) for x in feeds]
    with torch.no_grad():
        results = program(*tensors)
    for result, want in zip(results, expected, strict=True):
        reference = to_tensor(want)
        if result.dtype != reference.dtype or result.shape != reference.shape:
            outcome.status = "mismatch"
            outcome.detail = (
                f"{result.dtype}{list(result.shape)}, expected {reference.dtype}{list(reference.shape)}"
            )
            return
        left, right = (
            t.to(torch.complex128 if t.is_complex() else torch.float64).numpy() for t in (result, reference)
        )
        # The tolerance is the one that ONNX gives each test.
        if not np.allclose(left, right, rtol=case.rtol, atol=case.atol, equal_nan=True):
            outcome.status = "mismatch"
            outcome.detail = f"largest difference {np.nanmax(np.abs(left - right)):.3g}"
            return


def to_tensor(array: Any) -> torch.Tensor:
    """A tensor of an array or TensorProto, including ml_dtypes' bfloat16 and float8."""
    if isinstance(array, onnx.TensorProto):
        array = onnx.numpy_helper.to_array(array)
    array = np.asarray(array)
    native = {"bfloat16": torch.bfloat16} | {
        n: getattr(torch, n) for n in ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
    }
    if array.dtype.name in native:
        raw = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
        return torch.from_numpy(raw.copy()).view(native[array.dtype.name]).reshape(array.shape)
    return torch.from_numpy(np.array(array, order="C"))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--filter", default="", help="regular expression on test names")
    parser.add_argument("--json", type=Path, help="write every outcome to this file")
    parser.add_argument("--verbose", action="store_true", help="print the tests that do not pass")
    options = parser.parse_args(arguments)
    outcomes = []
    for case in node_tests(options.filter):
        outcomes.append(run_case(case))
        if options.verbose and not outcomes[-1].passed:
            last = outcomes[-1]
            print(f"{last.status:12} {last.name}: {last.detail}", file=sys.stderr)
    totals = Counter(o.op for o in outcomes)
    passed = Counter(o.op for o in outcomes if o.passed)
    for op_type, total in sorted(totals.items()):
        print(f"{op_type:32} {passed[op_type]:4} / {total}")
    by_status = Counter(o.status for o in outcomes)
    print(
        f"\n{sum(passed.values())} of {len(outcomes)} pass:",
        ", ".join(f"{s} {n}" for s, n in by_status.items()),
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(o) for o in outcomes], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
