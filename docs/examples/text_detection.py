"""Compiles PP-OCRv4's text detector, verifies it, and finds the lines of text on a photograph.

Run it with ``make demo``.  Model and photograph come from installed packages.
"""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

import graphopt as go
from graphopt.cli.tables import check_table, console, pass_table, table

OUTPUT = Path("demo-output")
TEXT_PROBABILITY = 0.3  # the threshold of PP-OCR's own post-processing


def package_file(package: str, path: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the package {package} is missing: run `make demo`")
    return Path(spec.origin).parent / path


def photograph(path: Path) -> np.ndarray:
    """A picture as PP-OCR wants it: float32 [1, 3, H, W] in [-1, 1], H and W multiples of 32."""
    picture = Image.open(path).convert("RGB")
    width, height = (max(32, round(2 * side / 32) * 32) for side in picture.size)
    pixels = np.asarray(picture.resize((width, height)), dtype=np.float32)
    return np.ascontiguousarray((pixels / 127.5 - 1.0).transpose(2, 0, 1)[None])


def main() -> None:
    OUTPUT.mkdir(exist_ok=True)
    model = package_file("rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx")
    photo = package_file("skimage", "data/page.png")
    picture = photograph(photo)
    np.savez(OUTPUT / "photo.npz", x=picture)

    result = go.compile_model(
        model,
        "cpu",
        output=OUTPUT / "text_detector.so",
        calibration=OUTPUT / "photo.npz",
        instruments=[go.Progress()],
    )
    out = console()
    out.print(pass_table(result.passes.records))
    out.print(check_table(result.checks))

    artifact = go.load_artifact(OUTPUT / "text_detector.so")
    reference = go.OnnxRuntimeRunner(model)
    start = time.perf_counter()
    (probability,) = artifact(picture)
    seconds = time.perf_counter() - start
    (expected,) = reference(torch.from_numpy(picture))
    lines, count = ndimage.label(probability[0, 0] > TEXT_PROBABILITY)
    boxes = [(b[1].start, b[0].start, b[1].stop, b[0].stop) for b in ndimage.find_objects(lines)]
    rows = [
        ("photograph", f"{photo.name}, {picture.shape[3]} x {picture.shape[2]} pixels"),
        ("regions of text", str(count)),
        ("first regions (x0, y0, x1, y1)", ", ".join(map(str, boxes[:3]))),
        ("largest difference from onnxruntime", f"{np.abs(probability - expected.numpy()).max():.2e}"),
        ("first run", f"{seconds * 1e3:.0f} ms"),
        ("artifact", str(OUTPUT / "text_detector.so")),
    ]
    out.print(table("text detection", ("", ""), rows))
    if count == 0:
        raise SystemExit("no text was found on a page of text")


if __name__ == "__main__":
    main()
