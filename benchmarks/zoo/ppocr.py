"""PP-OCRv4: text detection, recognition and orientation, the ONNX files of ``rapidocr-onnxruntime``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch

from benchmarks.zoo.model import Model
from benchmarks.zoo.registry import Size

_BATCH_AND_WIDTH = {0: "batch", 3: "width"}


def model_file(name: str) -> Path:
    """A file of the wheel's ``models`` folder; the package itself (which needs OpenCV) is not imported."""
    spec = importlib.util.find_spec("rapidocr_onnxruntime")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "models" / name


def text_image(height: int, width: int, lines: int) -> torch.Tensor:
    """A picture of printed lines, ``[1, 3, H, W]`` float32 normalised to [-1, 1].

    On noise the detector answers 0 everywhere, which would hide any error; on text it does not.
    """
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (width, height), (236, 233, 225))
    draw = ImageDraw.Draw(picture)
    step = height / lines
    for line in range(lines):
        draw.text(
            (0.04 * width, (line + 0.15) * step),
            f"graph {line} rewritten 0123456789" * 2,
            fill=(30 + 20 * (line % 5), 28, 60),
            font=ImageFont.load_default(size=max(8, int(0.6 * step))),
        )
    pixels = torch.from_numpy(np.array(picture, dtype=np.float32))
    return (pixels / 127.5 - 1.0).permute(2, 0, 1).unsqueeze(0).contiguous()


def ppocr_det(size: Size) -> Model:
    side = 640 if size == "full" else 64
    return Model(
        path=model_file("ch_PP-OCRv4_det_infer.onnx"),
        inputs=(text_image(side, side, lines=8 if size == "full" else 2),),
        input_names=("x",),
        output_names=("sigmoid_0.tmp_0",),
        axes=({0: "batch", 2: "height", 3: "width"},),
        ranges={"batch": (1, 16), "height": (32, 2048), "width": (32, 2048)},
        multiples={"height": 32, "width": 32},
    )


def ppocr_rec(size: Size) -> Model:
    return Model(
        path=model_file("ch_PP-OCRv4_rec_infer.onnx"),
        inputs=(text_image(48, 320 if size == "full" else 64, lines=1),),
        input_names=("x",),
        output_names=("softmax_11.tmp_0",),
        axes=(_BATCH_AND_WIDTH,),
        ranges={"batch": (1, 16), "width": (32, 2048)},
        multiples={"width": 8},
    )


def ppocr_cls(size: Size) -> Model:
    return Model(
        path=model_file("ch_ppocr_mobile_v2.0_cls_infer.onnx"),
        inputs=(text_image(48, 192, lines=1),),
        input_names=("x",),
        output_names=("save_infer_model/scale_0.tmp_1",),
        axes=({0: "batch", 2: "height", 3: "width"},),
        ranges={"batch": (1, 16), "height": (32, 512), "width": (32, 2048)},
    )
