"""Arithmetic on uint16, uint32 and uint64, for which torch has storage but hardly any kernels.

The narrow two are exact in int64, reduced modulo 2^bits.  uint64 shares its bits with int64: sums,
differences and products wrap alike; order is that of the numbers with their top bit flipped; quotients
come from dividing half of the dividend.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_TOP_BIT = -(2**63)
UNSIGNED = frozenset({torch.uint16, torch.uint32, torch.uint64})


def unsigned_dtype(*operands: Any) -> torch.dtype | None:
    """The dtype of the operands if it is one of the three, else None."""
    dtypes = {o.dtype for o in operands if isinstance(o, torch.Tensor)}
    found = dtypes & UNSIGNED
    return found.pop() if len(dtypes) == 1 and found else None


def signed(operand: Any) -> torch.Tensor:
    """The operand in int64: its value, or for uint64 its bits."""
    if isinstance(operand, torch.Tensor):
        return operand.to(torch.int64)
    number = operand - 2**64 if isinstance(operand, int) and operand >= 2**63 else operand
    return torch.full((), number, dtype=torch.int64)


def wrap(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """int64 modulo 2^bits, as ``dtype``."""
    if dtype != torch.uint64:
        x = x & (2 ** (8 * dtype.itemsize) - 1)
    return x.to(dtype)


def modular(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Extends an operation that commutes with reduction modulo 2^bits: +, -, *, and the bitwise ones."""

    def extended(*operands: Any) -> torch.Tensor:
        dtype = unsigned_dtype(*operands)
        if dtype is None:
            return function(*operands)
        return wrap(function(*(signed(o) for o in operands)), dtype)

    return extended


def ordered(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Extends an operation that only compares: <, maximum, and so on."""

    def extended(*operands: Any) -> torch.Tensor:
        dtype = unsigned_dtype(*operands)
        if dtype is None:
            return function(*operands)
        values = [signed(o) for o in operands]
        if dtype == torch.uint64:
            values = [v ^ _TOP_BIT for v in values]
        result = function(*values)
        if result.dtype == torch.bool:
            return result
        return (result ^ _TOP_BIT if dtype == torch.uint64 else result).to(dtype)

    return extended


def divided(a: Any, b: Any, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Quotient and remainder of unsigned numbers."""
    dividend, divisor = signed(a), signed(b)
    if dtype != torch.uint64:
        quotient = torch.div(dividend, divisor, rounding_mode="trunc")
        return wrap(quotient, dtype), wrap(dividend - quotient * divisor, dtype)
    # Hacker's Delight, 9-3: the quotient of half the dividend, doubled, is at most one too small.  A
    # divisor with the top bit goes into the dividend once or not at all.
    large = divisor < 0
    safe = torch.where(large, 1, divisor)
    half = torch.bitwise_and(dividend >> 1, 2**63 - 1)
    quotient = torch.div(half, safe, rounding_mode="trunc") << 1
    quotient = torch.where(large, 0, quotient)
    rest = dividend - quotient * divisor
    more = (rest ^ _TOP_BIT) >= (divisor ^ _TOP_BIT)
    return wrap(quotient + more, dtype), wrap(rest - torch.where(more, divisor, 0), dtype)
