"""The readable form of a program.

Stable: values are numbered in order, symbols carry their dimension names, and weights keep the
names that the user's model gave them.  Golden tests compare it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from graphopt.ir.bodies import bodies
from graphopt.ir.dimensions import dim_of
from graphopt.ir.program import Program
from graphopt.ir.provenance import origin
from graphopt.ir.signature import dtype_name

_SHORT = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16", "int64": "i64",
          "int32": "i32", "int16": "i16", "int8": "i8", "uint8": "u8"}  # fmt: skip


def program_text(program: Program, *, layers: bool = False) -> str:
    """See :meth:`Program.text`."""
    names = _value_names(program)
    head = ", ".join(str(s) for s in program.signature.inputs)
    lines = [f"program({head}) @ {program.level.value}"]
    if program.signature.dims:
        lines.append("  where " + "; ".join(f"{n} in {r}" for n, r in program.signature.dims.items()))
    for target, value in program.constants.items():
        lines.append(f"  @{target}: {dtype_name(value.dtype)}{list(value.shape)}")
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        line = f"  {names[node]} = {operator_name(node.target)}({_operands(node, names, program.symbols)})"
        line += f" : {_value_type(node.meta.get('val'), program.symbols)}"
        layer = origin(node).layer if layers else None
        lines.append(f"{line}  # {layer}" if layer else line)
    results = [
        f"{spec.name}={names[n]}"
        for spec, n in zip(program.signature.outputs, program.output_nodes, strict=True)
    ]
    lines.append(f"  return {', '.join(results)}")
    for name, module in bodies(program.graph_module):
        lines += _body_lines(name, module, program.symbols)
    return "\n".join(lines) + "\n"


def _body_lines(name: str, module: fx.GraphModule, symbols: Mapping[str, str]) -> list[str]:
    names: dict[fx.Node, str] = {}
    heads: list[str] = []
    lines: list[str] = []
    count = 0
    for node in module.graph.nodes:
        if node.op == "placeholder":
            names[node] = f"%in{len(heads)}"
            heads.append(f"{names[node]}: {_value_type(node.meta.get('val'), symbols)}")
        elif node.op == "get_attr":
            names[node] = f"@{name}.{node.target}"
        elif node.op == "output":
            lines.append(f"    return {_operand(node.args[0], names)}")
        else:
            names[node] = f"%{count}"
            count += 1
            call = f"{operator_name(node.target)}({_operands(node, names, symbols)})"
            lines.append(f"    {names[node]} = {call} : {_value_type(node.meta.get('val'), symbols)}")
    return [f"  body @{name}({', '.join(heads)})", *lines]


def operator_name(target: Any) -> str:
    """``aten.add`` for ``torch.ops.aten.add.Tensor``; the overload shows where it is not obvious."""
    if isinstance(target, torch._ops.OpOverload):
        base = f"{target.namespace}.{target._schema.name.split('::')[1]}"
        return base if target._overloadname in _QUIET else f"{base}.{target._overloadname}"
    return getattr(target, "__name__", str(target))


_QUIET = {"default", "Tensor", "int", "dim"}


def _value_names(program: Program) -> dict[fx.Node, str]:
    names: dict[fx.Node, str] = {}
    for spec, node in zip(program.signature.inputs, program.input_nodes, strict=True):
        names[node] = f"%{spec.name}"
    count = 0
    for node in program.graph.nodes:
        if node.op == "get_attr":
            names[node] = f"@{node.target}"
        elif node.op == "call_function":
            names[node] = f"%{count}"
            count += 1
    return names


def _operands(node: fx.Node, names: Mapping[fx.Node, str], symbols: Mapping[str, str]) -> str:
    parts = [_operand(a, names) for a in node.args]
    parts += [f"{k}={_operand(v, names)}" for k, v in sorted(node.kwargs.items())]
    return ", ".join(parts)


def _operand(value: Any, names: Mapping[fx.Node, str]) -> str:
    if isinstance(value, fx.Node):
        return names[value]
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_operand(v, names) for v in value) + "]"
    if isinstance(value, torch.dtype):
        return dtype_name(value)
    if isinstance(value, slice):
        return ":".join(
            "" if v is None else _operand(v, names) for v in (value.start, value.stop, value.step)
        )
    return str(value)


def _value_type(value: Any, symbols: Mapping[str, str]) -> str:
    if isinstance(value, torch.Tensor):
        dtype = dtype_name(value.dtype)
        return f"{_SHORT.get(dtype, dtype)}[{', '.join(str(dim_of(d, symbols)) for d in value.shape)}]"
    if isinstance(value, (tuple, list)):
        return "(" + ", ".join(_value_type(v, symbols) for v in value) + ")"
    if isinstance(value, torch.SymInt):
        return f"int {dim_of(value, symbols)}"
    return type(value).__name__
