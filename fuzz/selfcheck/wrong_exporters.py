"""Wrong translations to ONNX."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from graphopt.fuzz.selfcheck.variant import replaced, variant

aten = torch.ops.aten
Patch = AbstractContextManager[Any]


def _translation(target: Any, wrong: Callable[..., Any]) -> Patch:
    """``wrong(right, *operands)`` in the place of a translation ``right(*operands)``."""
    import functools

    from graphopt.exporters.onnx import export, translations

    table = translations.translation_table

    def changed(opset: int) -> Any:
        found = table(opset)
        right = found[target]

        @functools.wraps(right)
        def translate(*operands: Any, **keywords: Any) -> Any:
            return wrong(right, *operands, **keywords)

        return {**found, target: translate}

    return replaced(export, "translation_table", changed)


@variant("export of batch_norm", "the epsilon is that of ONNX, whatever the model's", within=800,
         stage="export", needs=("batch_norm.default",))  # fmt: skip
def epsilon_of_the_standard() -> Patch:
    def wrong(right: Any, x: Any, w: Any, b: Any, mean: Any, var: Any, training: Any, momentum: Any, eps: Any,
              *rest: Any) -> Any:  # fmt: skip
        return right(x, w, b, mean, var, training, momentum, 1e-1, *rest)

    return _translation(aten.batch_norm.default, wrong)


@variant(
    "export of hardtanh", "the bounds are those of relu6", within=1500, stage="export", needs=("hardtanh",)
)
def bounds_of_relu6() -> Patch:
    return _translation(aten.hardtanh.default, lambda right, x, *bounds: right(x, 0.0, 6.0))


@variant("export of conv2d", "the bias is left out", within=400, stage="export", needs=("conv2d.default",))
def exported_without_bias() -> Patch:
    return _translation(aten.conv2d.default, lambda right, x, w, b=None, *rest: right(x, w, None, *rest))


@variant(
    "export of leaky_relu", "the slope is that of ONNX", within=1500, stage="export", needs=("leaky_relu",)
)
def slope_of_the_standard() -> Patch:
    return _translation(aten.leaky_relu.default, lambda right, x, slope=0.01: right(x, 0.01))


@variant("export of remainder", "the remainder has the sign of the dividend", within=3000, stage="export",
         needs=("remainder",))  # fmt: skip
def sign_of_the_dividend() -> Patch:
    from graphopt.exporters.onnx import pointwise

    return replaced(pointwise, "remainder", pointwise.fmod)


@variant(
    "export of softmax", "the axis is always the last one", within=600, stage="export", needs=("softmax.int",)
)
def softmax_over_the_last_axis() -> Patch:
    return _translation(aten.softmax.int, lambda right, x, dim, *rest: right(x, -1, *rest))


@variant("export of squeeze", "a size of one on another axis is squeezed as well", within=800, stage="export",
         needs=("squeeze.dim",))  # fmt: skip
def squeezes_too_much() -> Patch:
    from graphopt.exporters.onnx import translations

    return replaced(translations, "squeeze_dim", lambda x, dim: translations.squeeze_all(x))


@variant("export of attention", "the scale is left to ONNX", within=3000, stage="export",
         needs=("scaled_dot_product_attention",))  # fmt: skip
def attention_of_default_scale() -> Patch:
    return _translation(
        aten.scaled_dot_product_attention.default,
        lambda right, *operands, **keywords: right(*operands, **{**keywords, "scale": 1.0}),
    )
