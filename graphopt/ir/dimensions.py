"""Names of symbolic dimensions: from torch's symbols to what signatures say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx

from graphopt.ir.signature import Dim, DimRange, Signature, TensorSpec


def name_symbols(
    placeholders: Sequence[fx.Node], names: Sequence[str], wanted: Mapping[tuple[int, int], str]
) -> dict[str, str]:
    """A dimension name for each symbol that is the size of an input's axis."""
    chosen: dict[str, str] = {}
    for prefer_wanted in (True, False):
        for i, (node, name) in enumerate(zip(placeholders, names, strict=True)):
            for axis, size in enumerate(node.meta["val"].shape):
                symbol = _plain_symbol(size)
                if symbol is None or symbol in chosen or (prefer_wanted and (i, axis) not in wanted):
                    continue
                stem = wanted.get((i, axis)) or f"{_identifier(name)}_{axis}"
                label, k = stem, 2
                while label in chosen.values():
                    label, k = f"{stem}_{k}", k + 1
                chosen[symbol] = label
    for i, (node, name) in enumerate(zip(placeholders, names, strict=True)):
        for axis, size in enumerate(node.meta["val"].shape):
            scaled = _scaled_symbol(size)
            if scaled is not None and scaled[0] not in chosen:
                label = wanted.get((i, axis)) or f"{_identifier(name)}_{axis}"
                chosen[scaled[0]] = f"{label}/{scaled[1]}"
    return chosen


def _scaled_symbol(size: int | torch.SymInt) -> tuple[str, int] | None:
    """``32*s`` as ``("s", 32)``: an axis whose size torch.export was told to be a multiple."""
    if isinstance(size, int):
        return None
    factor, rest = size.node.expr.as_coeff_Mul()
    return (str(rest), int(factor)) if rest.is_symbol and factor.is_Integer and factor > 1 else None


def split_label(label: str) -> tuple[str, int]:
    """An entry of :attr:`Program.symbols` as dimension name and divisor: ``"height/32"``, ``"batch"``."""
    name, _, divisor = label.partition("/")
    return name, int(divisor or 1)


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _plain_symbol(size: int | torch.SymInt) -> str | None:
    if isinstance(size, int):
        return None
    expr = size.node.expr
    return str(expr) if expr.is_symbol else None


def dim_of(size: int | torch.SymInt, symbols: Mapping[str, str]) -> Dim:
    """A size as the signature writes it."""
    if isinstance(size, int):
        return size
    expr = size.node.expr
    if expr.is_number:
        return int(expr)
    named: dict[Any, Any] = {}
    for symbol in expr.free_symbols:
        label, divisor = split_label(symbols.get(str(symbol), str(symbol)))
        named[symbol] = type(symbol)(label, integer=True) / divisor
    text = str(expr.xreplace(named))
    return re.sub(r"\s+", " ", text)


def build_signature(
    placeholders: Sequence[fx.Node],
    outputs: Sequence[fx.Node],
    names_in: Sequence[str],
    names_out: Sequence[str],
    symbols: Mapping[str, str],
    ranges: Mapping[str, Any],
    overrides: Mapping[str, DimRange],
    state: Mapping[str, str],
) -> Signature:
    """The signature that the values of ``placeholders`` and ``outputs`` imply."""

    def spec(node: fx.Node, name: str) -> TensorSpec:
        value = node.meta["val"]
        return TensorSpec(name, value.dtype, tuple(dim_of(d, symbols) for d in value.shape))

    dims: dict[str, DimRange] = {}
    for symbol, label in symbols.items():
        dim, factor = split_label(label)
        low, high = _range(ranges.get(symbol))
        dims[dim] = DimRange(low * factor, None if high is None else high * factor, factor)
    dims.update({label: r for label, r in overrides.items() if label in dims})
    return Signature(
        tuple(spec(n, name) for n, name in zip(placeholders, names_in, strict=True)),
        tuple(spec(n, name) for n, name in zip(outputs, names_out, strict=True)),
        dims,
        dict(state),
    )


def _range(value_range: Any) -> tuple[int, int | None]:
    if value_range is None:
        return 1, None
    lower, upper = value_range.lower, value_range.upper
    # torch.export reasons as if a symbol were at least 2; the graph itself also takes 1.
    low = 1 if lower <= 2 else int(lower)
    high = int(upper) if upper.is_Integer and upper < 2**31 else None
    return low, high
