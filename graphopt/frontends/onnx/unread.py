"""Attributes that nothing has read are refused, not ignored.

A converter knows the attributes of the versions it was written for.  A later version adds one, or an
exporter writes one of its own: leaving it aside would give other numbers without a word.
"""

from __future__ import annotations

import functools
from typing import Any

import onnx
import onnx_ir as ir

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.registry import Converter, normal_domain

_NO_EFFECT = frozenset({"consumed_inputs"})
"""Of opset 1: which inputs an implementation may overwrite."""


def refuse_unread(call: Call, converter: Converter | None) -> None:
    """Checks a node after its evaluation.

    Args:
        converter: its declaration says which attributes may stay unread.

    Raises:
        InputError: GO-3006, naming the attribute; none for one that has its default value.
    """
    unread = call.unread()
    if not unread:
        return
    ignored = converter.ignores if converter is not None else frozenset()
    defaults = _defaults(normal_domain(call.domain), call.op_type, call.opset)
    for name in unread:
        attr = call.attribute(name)
        if name in ignored or name in _NO_EFFECT or attr is None:
            continue
        if name not in defaults or _plain(attr.value) != defaults[name]:
            raise call.error(f"has the attribute {name!r} = {_shown(attr)}, which is not supported")


@functools.cache
def _defaults(domain: str, op_type: str, opset: int) -> dict[str, Any]:
    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return {}
    return {
        name: _plain(onnx.helper.get_attribute_value(attribute.default_value))
        for name, attribute in schema.attributes.items()
        if attribute.default_value is not None and attribute.default_value.name
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _shown(attr: ir.Attr) -> str:
    text = str(_plain(attr.value)) if attr.type != ir.AttributeType.GRAPH else "a graph"
    return text if len(text) <= 60 else f"{text[:59]}…"
