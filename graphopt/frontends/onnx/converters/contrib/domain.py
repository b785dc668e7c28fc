"""The domain of onnxruntime's own operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphopt.frontends.onnx.registry import op

MICROSOFT = "com.microsoft"


def contrib_op(op_type: str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the converter of a ``com.microsoft`` operator; options as for :func:`op`."""
    return op(op_type, domain=MICROSOFT, **options)
