"""Whether a program has constants that another has not.

A pass that folds weights rounds the result once to the weights' dtype; after that two programs that
are equal in exact arithmetic no longer agree to float64 precision.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch
from torch import Tensor, fx

from graphopt.ir.program import Program


def has_new_constants(candidate: Program, reference: Program) -> bool:
    """True if a floating-point constant of ``candidate`` is not, bit for bit, one of ``reference``.

    Or if a number of ``reference`` that had to be rounded is gone: ``gelu`` has the exact ``sqrt(2)``
    inside where its decomposition, as files hold it, has 1.41421354.
    """
    new, old = _numbers(candidate), _numbers(reference)
    if {v for v in new - old if _rounded(v, torch.float32)}:
        return True
    single = {t.item() for t in reference.constants.values() if t.numel() == 1 and t.is_floating_point()}
    kept = {t.item() for t in candidate.constants.values() if t.numel() == 1 and t.is_floating_point()}
    if {v for v in (old | single) - new - kept if math.isfinite(v) and _rounded(v, torch.float16)}:
        return True
    known = list(reference.constants.values())
    same_storage = {_key(t) for t in known}
    unknown = [
        t for t in candidate.constants.values() if t.is_floating_point() and _key(t) not in same_storage
    ]
    if not unknown:
        return False
    shapes = {(t.shape, t.dtype) for t in unknown}
    digests = {digest(t) for t in known if (t.shape, t.dtype) in shapes}
    return any(digest(t) not in digests for t in unknown)


def _numbers(program: Program) -> set[float]:
    """Floating-point numbers written in the graph."""
    found: set[float] = set()

    def collect(value: Any) -> None:
        if isinstance(value, float) and math.isfinite(value):
            found.add(value)

    for node in program.calls():
        fx.node.map_aggregate((node.args, node.kwargs), collect)
    return found


def _rounded(value: float, dtype: torch.dtype) -> bool:
    """Whether ``dtype`` cannot hold a number exactly: it is not one like 6.0 or 0.5."""
    return float(torch.tensor(value, dtype=dtype)) != value


def _key(tensor: Tensor) -> tuple[object, ...]:
    return (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)


def digest(tensor: Tensor) -> tuple[object, ...]:
    """Equal for tensors of equal dtype, shape and bits."""
    flat = tensor.detach().contiguous().reshape(-1)
    if flat.stride(-1) != 1:  # one element of a wider tensor counts as contiguous
        flat = flat.clone(memory_format=torch.contiguous_format)
    flat = flat.view(torch.uint8)
    return tensor.dtype, tensor.shape, hashlib.blake2b(flat.numpy().tobytes(), digest_size=16).digest()
