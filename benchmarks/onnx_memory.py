"""Memory that importing and writing large ONNX files takes, against the size of the file.

``python -m benchmarks.onnx_memory`` makes models of 64 MB to 2.5 GB (a chain of matrix products whose
weights are random and lie in a file beside the model), and imports each in a process of its own: only
that, and with writing it again as ONNX or ``.pt2``.  The process is watched from outside.  *anonymous*
is memory that the process owns; *mapped* are pages of files, which the system takes back when it needs
them.  Figures are peaks above what the process had after importing a tiny model.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

TASKS = ("import", "import + .onnx", "import + .pt2")
_WIDTH = 2048
_WEIGHT = 4 * _WIDTH * _WIDTH


@dataclass
class Peak:
    """What one process took.

    Attributes:
        size: bytes of weights.
        anonymous, mapped: peaks above the start, in bytes.
        seconds: wall time.
        kept: bytes of anonymous memory that were left at the end.
    """

    task: str
    size: int
    anonymous: int
    mapped: int
    kept: int
    seconds: float


def write_chain(folder: Path, size: int) -> Path:
    """A model whose weights take about ``size`` bytes, in ``weights.bin`` beside it."""
    count = max(1, round(size / _WEIGHT))
    generator = np.random.default_rng(0)
    nodes, weights = [], []
    with (folder / "weights.bin").open("wb") as file:
        for i in range(count):
            block = generator.standard_normal((_WIDTH, _WIDTH), np.float32)
            block *= _WIDTH**-0.5
            block.tofile(file)
            weights.append(_external(f"layer.{i}.weight", [_WIDTH, _WIDTH], i * _WEIGHT))
            nodes.append(
                helper.make_node("MatMul", [f"h{i}", f"layer.{i}.weight"], [f"h{i + 1}"], f"product{i}")
            )
    nodes[0].input[0], nodes[-1].output[0] = "x", "y"
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", _WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", _WIDTH])],
        weights,
    )
    path = folder / "chain.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def _external(name: str, dims: list[int], offset: int) -> TensorProto:
    tensor = TensorProto(
        name=name, data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL
    )
    length = 4 * int(np.prod(dims))
    for key, value in (("location", "weights.bin"), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def measure(path: Path, task: str) -> Peak:
    """Runs a task in a new process and watches it.

    Raises:
        RuntimeError: the task failed.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as output:
        worker = [sys.executable, "-m", "benchmarks.onnx_memory", "--worker", task, str(path), output]
        with subprocess.Popen(worker, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdin is not None
            assert process.stdout.readline() == "ready\n"
            start, began = resident(process.pid), time.perf_counter()
            peak, done = dict(start), threading.Event()

            def watch() -> None:
                while not done.wait(0.01):
                    for kind, size in resident(process.pid).items():
                        peak[kind] = max(peak[kind], size)

            watcher = threading.Thread(target=watch)
            watcher.start()
            process.stdin.write("go\n")
            process.stdin.flush()
            finished = process.stdout.readline() == "done\n"
            seconds, end = time.perf_counter() - began, resident(process.pid)
            done.set()
            watcher.join()
            process.stdin.close()
        if not finished:
            raise RuntimeError(f"{task!r} failed with exit status {process.returncode}")
    size = (path.parent / "weights.bin").stat().st_size
    grown = {kind: peak[kind] - start[kind] for kind in peak}
    kept = end["anonymous"] - start["anonymous"]
    return Peak(task, size, grown["anonymous"], grown["mapped"], kept, seconds)


def resident(process: int) -> dict[str, int]:
    """Resident bytes of a process: those it owns, and those that are pages of files."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return {"anonymous": 0, "mapped": 0}
    found = dict(re.findall(r"(Rss\w+):\s+(\d+) kB", status))
    return {"anonymous": int(found.get("RssAnon", 0)) << 10, "mapped": int(found.get("RssFile", 0)) << 10}


def work(task: str, path: Path, output: Path) -> None:
    """The measured process: warms up, waits for a line, does the task, and waits for the end."""
    import graphopt

    tiny = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[n, 2] x) => (float[n, 2] y)'
        "<float[2, 2] w = {1.5, 2.25, 3.125, 4.0625}> { y = MatMul(x, w) }"
    )
    suffix = {"import + .onnx": ".onnx", "import + .pt2": ".pt2"}.get(task)

    def run(model: Path, name: str) -> object:
        program = graphopt.load(model)
        if suffix is not None:
            program.save(output / f"{name}{suffix}")
        return program

    onnx.save(tiny, output / "tiny.onnx")
    run(output / "tiny.onnx", "small")
    print("ready", flush=True)
    sys.stdin.readline()
    program = run(path, "large")
    print("done", flush=True)
    sys.stdin.read()
    del program


def chart(peaks: list[Peak]) -> str:
    """Anonymous memory as a share of the file: one bar a measurement, the full width is the file's size."""
    lines = []
    for peak in peaks:
        share = peak.anonymous / peak.size
        bar = "█" * min(60, round(40 * share)) or "▏"
        lines.append(f"{peak.size / 2**20:6.0f} MB  {peak.task:15} {share:6.1%} {bar}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.onnx_memory", description=__doc__)
    parser.add_argument("--megabytes", nargs="+", type=int, default=[64, 256, 1024, 2560], metavar="MB")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--folder", type=Path, help="where the temporary files go")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--worker", nargs=3, metavar=("TASK", "FILE", "OUTPUT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker is not None:
        task, path, output = options.worker
        work(task, Path(path), Path(output))
        return 0
    print(
        f"{'file MB':>8}  {'task':15}{'anonymous MB':>14}{'mapped MB':>11}{'kept MB':>9}{'seconds':>9}",
        flush=True,
    )
    peaks = []
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory(prefix="graphopt-memory-", dir=options.folder) as temporary:
            path = write_chain(Path(temporary), megabytes << 20)
            for task in options.tasks:
                p = measure(path, task)
                row = f"{p.size >> 20:8}  {task:15}{p.anonymous >> 20:14}{p.mapped >> 20:11}{p.kept >> 20:9}"
                print(f"{row}{p.seconds:9.1f}", flush=True)
                peaks.append(p)
    print(f"\npeak of anonymous memory as a share of the file\n{chart(peaks)}")
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(p) for p in peaks], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
