"""Nodes of an ONNX model before and after cleanup, next to other simplifiers.

    python benchmarks/node_counts.py MODEL.onnx...

Constants are not counted: files hold them as nodes or as initialisers.  ``onnxslim`` is measured
where it is installed (``pip install -e '.[peers]'``).
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import onnx

from graphopt.exporters.onnx import to_onnx
from graphopt.frontends.onnx import import_onnx
from graphopt.passes.cleanup import Cleanup
from graphopt.passmanager.manager import PassManager


def operators(model: onnx.ModelProto) -> Counter[str]:
    """Nodes by operator, without constants."""
    return Counter(n.op_type for n in model.graph.node if n.op_type != "Constant")


def cleaned(path: Path) -> onnx.ModelProto:
    """The model after import, cleanup and export; verified against what was imported."""
    program = PassManager([Cleanup()], verify="final").run(import_onnx(path)).program
    with tempfile.TemporaryDirectory() as folder:
        to_onnx(program, Path(folder) / "clean.onnx")
        return onnx.load(Path(folder) / "clean.onnx")


def slimmed(path: Path) -> onnx.ModelProto | None:
    """The model after onnxslim, or None where that is not installed."""
    if importlib.util.find_spec("onnxslim") is None:
        return None
    import onnxslim

    return onnxslim.slim(onnx.load(path))


def main(arguments: Sequence[str]) -> int:
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    print(f"{'model':40} {'file':>6} {'onnxslim':>9} {'graphopt':>9}")
    for argument in arguments:
        path = Path(argument)
        before, slim, after = operators(onnx.load(path)), slimmed(path), operators(cleaned(path))
        shown = str(sum(operators(slim).values())) if slim is not None else "-"
        print(f"{path.name[:40]:40} {sum(before.values()):6} {shown:>9} {sum(after.values()):9}")
        print("  " + ", ".join(f"{name} {count}" for name, count in after.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
