"""The process of one engine in a benchmark.

``python -m graphopt.workflows.bench_worker ENGINE MODEL INPUTS.npz THREADS`` loads and warms up,
prints ``"ready"``, and for each turn that it reads, seconds and a least number of runs, prints the times
of its runs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

WARM_UP_RUNS = 3


def main() -> None:
    engine, model, data, threads = sys.argv[1:5]
    with np.load(data, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    run = _ENGINES[engine](Path(model), arrays, int(threads))
    for _ in range(WARM_UP_RUNS):
        run()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        seconds, least = line.split()
        end = time.perf_counter() + float(seconds)
        times: list[float] = []
        while len(times) < int(least) or time.perf_counter() < end:
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        print(json.dumps(times), flush=True)


def _graphopt(model: Path, arrays: dict[str, np.ndarray], threads: int) -> Callable[[], object]:
    import torch

    from graphopt.codegen import load_artifact

    torch.set_num_threads(1)  # torch only passes tensors through here
    artifact = load_artifact(model)
    inputs = [torch.from_numpy(a) for a in arrays.values()]
    return lambda: artifact(*inputs)


def _onnxruntime(model: Path, arrays: dict[str, np.ndarray], threads: int) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, arrays)


def _openvino(model: Path, arrays: dict[str, np.ndarray], threads: int) -> Callable[[], object]:
    import openvino

    core = openvino.Core()
    network = core.read_model(model)
    # Fixed sizes, as it is fastest; and float32, since it would choose bfloat16 where the CPU has it.
    network.reshape({name: list(a.shape) for name, a in arrays.items()})
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(network, "CPU", settings).create_infer_request()
    return lambda: request.infer(arrays)


def _torch(model: Path, arrays: dict[str, np.ndarray], threads: int) -> Callable[[], object]:
    import torch

    from graphopt.workflows.loading import load

    torch.set_num_threads(threads)
    program = load(model)
    inputs = [torch.from_numpy(a) for a in arrays.values()]

    def run() -> object:
        with torch.inference_mode():
            return program.graph_module(*inputs)

    return run


def _torch_compile(model: Path, arrays: dict[str, np.ndarray], threads: int) -> Callable[[], object]:
    import torch

    from graphopt.workflows.loading import load

    torch.set_num_threads(threads)
    compiled = torch.compile(load(model).graph_module)
    inputs = [torch.from_numpy(a) for a in arrays.values()]

    def run() -> object:
        with torch.inference_mode():
            return compiled(*inputs)

    return run


_ENGINES = {
    "graphopt": _graphopt,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "torch": _torch,
    "torch-compile": _torch_compile,
}

if __name__ == "__main__":
    main()
