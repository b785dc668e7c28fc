"""Node counts of ONNX files: as they are, after graphopt's cleanup, and after other simplifiers.

``python -m benchmarks.node_counts`` prints, for PP-OCRv4 det, rec and cls (or the files named):

* the file as it is, with and without ``Constant`` nodes;
* imported, cleaned and exported again by graphopt;
* onnxslim and onnxsim, where they are installed (``pip install onnxslim onnxsim``);
* onnxruntime's own optimiser (the ``basic`` level, which uses standard operators only).

``Constant`` nodes are weights in another spelling, and are counted for no tool.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

MODELS = ("ppocr-det", "ppocr-rec", "ppocr-cls")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.node_counts", description=__doc__)
    parser.add_argument("models", nargs="*", default=list(MODELS), help="zoo names or .onnx files")
    parser.add_argument("--operators", action="store_true", help="print the counts by operator")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    results: dict[str, dict[str, dict[str, int]]] = {}
    tools = available_tools()
    for name in options.models:
        path = model_path(name)
        results[name] = {}
        for tool, simplify in tools.items():
            counts = operators(simplify(path))
            results[name][tool] = dict(counts)
            print(f"{name:12} {tool:24} {sum(counts.values()):5d}", flush=True)
            if options.operators:
                print("  " + ", ".join(f"{op} {n}" for op, n in counts.most_common()))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


def model_path(name: str) -> Path:
    """A file, or the file of a zoo model."""
    if name.endswith(".onnx"):
        return Path(name)
    from benchmarks.zoo import get

    path = get(name).path
    if path is None:
        raise SystemExit(f"{name} is not an ONNX file")
    return path


def operators(model: onnx.ModelProto) -> Counter[str]:
    """Nodes by operator, those of subgraphs included, without ``Constant`` nodes."""
    counts: Counter[str] = Counter()

    def count(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            if node.op_type != "Constant":
                counts[node.op_type] += 1
            for attribute in node.attribute:
                for inner in [attribute.g, *attribute.graphs]:
                    count(inner)

    count(model.graph)
    return counts


def available_tools() -> dict[str, Callable[[Path], onnx.ModelProto]]:
    """Name of each tool to what it makes of a file; optional ones only if they are installed."""
    tools: dict[str, Callable[[Path], onnx.ModelProto]] = {
        "as it is": _load,
        "graphopt": _graphopt,
    }
    optional = {"onnxslim": _onnxslim, "onnxsim": _onnxsim}
    tools.update({n: f for n, f in optional.items() if importlib.util.find_spec(n) is not None})
    if importlib.util.find_spec("onnxruntime") is not None:
        tools["onnxruntime basic"] = _onnxruntime
    return tools


def _load(path: Path) -> onnx.ModelProto:
    import onnx

    return onnx.load(path)


def _graphopt(path: Path) -> onnx.ModelProto:
    """Import, ``Cleanup``, export in the exporter's default opset."""
    from graphopt import PassManager, load
    from graphopt import passes as P
    from graphopt.exporters.onnx import to_onnx

    cleaned = PassManager([P.Cleanup()], verify="off").run(load(path)).program
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "cleaned.onnx"
        to_onnx(cleaned, target)
        return _load(target)


def _onnxslim(path: Path) -> onnx.ModelProto:
    import onnxslim

    return onnxslim.slim(_load(path))


def _onnxsim(path: Path) -> onnx.ModelProto:
    import onnxsim

    simplified, ok = onnxsim.simplify(_load(path))
    if not ok:
        raise SystemExit(f"onnxsim says that its result for {path.name} is wrong")
    return simplified


def _onnxruntime(path: Path) -> onnx.ModelProto:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return _load(Path(options.optimized_model_filepath))


if __name__ == "__main__":
    sys.exit(main())
