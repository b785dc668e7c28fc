"""The files that each engine needs to run one model, made in a process of its own.

``python -m benchmarks.latency_files NAME FOLDER`` writes ``model.so`` (ours), ``model.onnx``
(onnxruntime, OpenVINO), ``model.pt2`` (torch) and ``inputs.npz``.  What is there already is kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.zoo.model import Model

FILES = {
    "graphopt": "model.so",
    "onnxruntime": "model.onnx",
    "openvino": "model.onnx",
    "torch": "model.pt2",
    "torch-compile": "model.pt2",
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency_files", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=("small", "full"), default="full")
    parser.add_argument("--dynamic", action="store_true")
    parser.add_argument("--engines", default=",".join(FILES))
    options = parser.parse_args(arguments)
    prepare(options.name, options.size, options.dynamic, options.folder, options.engines.split(","))
    return 0


def prepare(name: str, size: str, dynamic: bool, folder: Path, engines: list[str]) -> None:
    """Writes the files of ``engines`` for one model into ``folder``."""
    import numpy as np

    import graphopt
    from graphopt import PassManager
    from graphopt import passes as P

    folder.mkdir(parents=True, exist_ok=True)
    model = sized(name, size)
    arrays = {n: t.numpy() for n, t in zip(model.input_names, model.inputs, strict=True)}
    np.savez(folder / "inputs.npz", **arrays)  # type: ignore[arg-type]
    work = folder / "work.json"
    if not work.exists():
        work.write_text(json.dumps(work_of(model)))
    wanted = {FILES[e] for e in engines if not (folder / FILES[e]).exists()}
    if "model.onnx" in wanted:
        shutil.copyfile(onnx_file(model, name, size), folder / "model.onnx")
    if not wanted & {"model.pt2", "model.so"}:
        return
    program = model.capture(dynamic=dynamic)
    if "model.pt2" in wanted:
        program.save(folder / "model.pt2")
    if "model.so" in wanted:
        cleaned = PassManager([P.Cleanup()], verify="off").run(program).program
        graphopt.compile(cleaned, target="cpu", tuned=False).save(folder / "model.so")


def sized(name: str, size: str) -> Model:
    """The model of ``NAME`` or ``NAME@DIM=SIZE,...``, whose example inputs then have these sizes."""
    from benchmarks.zoo import get

    name, _, sizes = name.partition("@")
    model = get(name, "small" if size == "small" else "full")
    if not sizes:
        return model
    chosen = {dim: int(value) for dim, _, value in (part.partition("=") for part in sizes.split(","))}
    return replace(model, inputs=model.resized(chosen))


def work_of(model: Model) -> dict[str, int]:
    """Operations of products and convolutions, and bytes of weights, inputs and outputs, of one run."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    program = model.capture(dynamic=False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        outputs = program(*model.inputs)
    tensors = [*program.constants.values(), *model.inputs, *outputs]
    return {"flops": counter.get_total_flops(), "bytes": sum(t.nbytes for t in tensors)}


def onnx_file(model: Model, name: str, size: str) -> Path:
    """The model's own file, or what ``torch.onnx.export`` writes."""
    if model.path is not None:
        return model.path
    from benchmarks.zoo.onnx_export import as_onnx

    path = as_onnx(model, f"{name.replace('@', '-')}-{size}").path
    assert path is not None
    return path


if __name__ == "__main__":
    sys.exit(main())
