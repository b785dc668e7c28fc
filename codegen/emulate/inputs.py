"""Sizes and data on which a kernel is tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tvm import ir, sym, tirx
from tvm.ir.prim import expr as prim

from graphopt.codegen.emulate.memory import NotModelled
from graphopt.codegen.rewrite import loads, substitute, variables
from graphopt.codegen.schedules.blocks import collect
from graphopt.ir.signature import DimRange

# No tile divides a prime; different ones, so that exchanged dimensions are seen.
_SIZES = (13, 7, 11, 5, 17, 3, 19, 23)
_TORCH = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "bool": torch.bool,
}


@dataclass(frozen=True)
class Sizes:
    """Sizes at which a function is tried.

    Attributes:
        values: of its symbols, by name.
        shapes: of its buffer parameters; None for a parameter that is a number, one of the symbols.
    """

    values: dict[str, int]
    shapes: list[tuple[int, ...] | None]


def choose_sizes(func: tirx.PrimFunc, dims: Mapping[str, DimRange]) -> Sizes:
    """Sizes that no tile divides, within the bounds that are known.

    Args:
        dims: the range of a symbol, by name; any size from 1 where it is not known.

    Raises:
        NotModelled: a parameter that is neither a buffer nor an integer, or shapes that are empty at all
            sizes that were tried.
    """
    symbols: dict[str, None] = {}
    for param in func.params:
        if tirx.is_buffer_var(param):
            symbols |= {str(var.name): None for extent in param.shape for var in variables(extent)}
        elif "int" in str(param.ty):
            symbols[str(param.name)] = None
        else:
            raise NotModelled(f"parameter {param.name} of type {param.ty}")
    for attempt in (1, 3, 10, 40):
        values = {}
        for position, name in enumerate(symbols):
            values[name] = _nearest(_SIZES[position % len(_SIZES)] * attempt, dims.get(name, DimRange()))
        shapes = [
            tuple(_number(e, values) for e in p.shape) if tirx.is_buffer_var(p) else None for p in func.params
        ]
        if all(size > 0 for shape in shapes if shape for size in shape):
            return Sizes(values, shapes)
    raise NotModelled("shapes that are empty at all sizes that were tried")


def _nearest(size: int, allowed: DimRange) -> int:
    """The allowed size closest to ``size``, from below where there is one."""
    step = allowed.multiple_of
    lowest = -(-allowed.min // step) * step
    highest = size if allowed.max is None else min(size, allowed.max)
    return max(lowest, highest // step * step)


def _number(expr: Any, values: Mapping[str, int]) -> int:
    found = {v: prim.IntImm(str(v.ty), values[str(v.name)]) for v in variables(expr)}
    result = sym.Analyzer().simplify(substitute(expr, found))
    return int(result)


def draw(func: tirx.PrimFunc, sizes: Sizes, kind: str, seed: int) -> list[torch.Tensor | int]:
    """A tensor for each buffer parameter, and the value of each symbol that is one.

    Numbers that the function uses as indices stay within what they index, and are distinct where there
    are enough; other integers are small.

    Args:
        kind: ``"normal"`` or ``"uniform"`` (in [0, 1)), of floating-point data.
    """
    generator = torch.Generator().manual_seed(seed)
    limits = _index_limits(func, sizes)
    return [
        sizes.values[str(p.name)]
        if shape is None
        else _tensor(str(p.dtype), shape, limits.get(p), kind, generator)
        for p, shape in zip(func.params, sizes.shapes, strict=True)
    ]


def _tensor(
    dtype: str, shape: tuple[int, ...], limit: int | None, kind: str, generator: torch.Generator
) -> torch.Tensor:
    if dtype not in _TORCH:
        raise NotModelled(f"a buffer of dtype {dtype}")
    made = _TORCH[dtype]
    if made.is_floating_point:
        wide = torch.randn if kind == "normal" else torch.rand
        return wide(shape, generator=generator, dtype=torch.float64).to(made)
    if made == torch.bool:
        return torch.randint(0, 2, shape, generator=generator).bool()
    if limit is not None:
        count = 1
        for size in shape:
            count *= size
        if count <= limit:
            return torch.randperm(limit, generator=generator)[:count].reshape(shape).to(made)
        return torch.randint(0, limit, shape, generator=generator).to(made)
    info = torch.iinfo(made)
    low, high = (info.min, info.max + 1) if info.bits == 8 else (0, 8)
    return torch.randint(low, high, shape, generator=generator).to(made)


def _index_limits(func: tirx.PrimFunc, sizes: Sizes) -> dict[ir.Var, int]:
    """For each integer parameter whose values index a dimension: the smallest such dimension."""
    buffers = [p for p in func.params if tirx.is_buffer_var(p)]
    params = {p for p in buffers if not str(p.dtype).startswith(("float", "bfloat", "bool"))}
    limits: dict[ir.Var, int] = {}

    def note(buffer: ir.Var, indices: Any) -> None:
        for index, extent in zip(indices, buffer.shape, strict=True):
            for load in loads(index):
                if load.source in params:
                    size = _number(extent, sizes.values)
                    limits[load.source] = min(size, limits.get(load.source, size))

    for load in collect(func.body, ir.TensorLoad):
        note(load.source, load.indices)
    for store in collect(func.body, tirx.BufferStore):
        note(store.buffer, store.indices)
    return limits
