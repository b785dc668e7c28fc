"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.registry import HOST, op
from graphopt.frontends.onnx.values import HostValue

Reduce = Callable[[torch.Tensor, list[int], bool], torch.Tensor]


def _sum(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return x.sum(dim=axes, keepdim=keep, dtype=x.dtype)


def _mean(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    if x.dtype.is_floating_point:
        return x.mean(dim=axes, keepdim=keep)
    return torch.div(_sum(x, axes, keep), _count(x, axes), rounding_mode="trunc")


def _count(x: torch.Tensor, axes: Sequence[int]) -> Any:
    count: Any = 1
    for axis in axes:
        count = count * x.shape[axis]
    return count


def _prod(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    # torch.prod takes one axis at a time.
    for axis in sorted((a % x.ndim for a in axes), reverse=True):
        x = x.prod(dim=axis, keepdim=keep, dtype=x.dtype)
    return x


def _extreme(largest: bool) -> Reduce:
    def reduce(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
        if any(isinstance(x.shape[a], int) and x.shape[a] == 0 for a in axes):
            shape = [1 if i in [a % x.ndim for a in axes] else n for i, n in enumerate(x.shape)]
            if x.dtype == torch.bool:
                fill: Any = not largest
            elif x.dtype.is_floating_point:
                fill = float("-inf") if largest else float("inf")
            else:
                info = torch.iinfo(x.dtype)
                fill = info.min if largest else info.max
            full = torch.full(shape, fill, dtype=x.dtype)
            return full if keep else full.squeeze([a % x.ndim for a in axes])
        return (torch.amax if largest else torch.amin)(x, dim=axes, keepdim=keep)

    return reduce


def _square_sum(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return _sum(x * x, axes, keep)


def _l1(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return _sum(x.abs(), axes, keep)


def _l2(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    squares = _square_sum(x, axes, keep)
    return squares.sqrt() if x.dtype.is_floating_point else squares.double().sqrt().to(x.dtype)


def _log_sum(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return torch.log(_sum(x, axes, keep))


def _log_sum_exp(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return torch.logsumexp(x, dim=axes, keepdim=keep)


def _register(op_type: str, function: Reduce, axes_input_since: int) -> None:
    def reduce(call: Call, x: torch.Tensor, axes: Sequence[int] | None) -> torch.Tensor:
        keep = call.flag("keepdims", True)
        if not axes:
            if axes is not None and call.flag("noop_with_empty_axes"):
                return x
            axes = list(range(x.ndim))
        if x.ndim == 0:
            return function(x.reshape(1), [0], False)
        return function(x, list(axes), keep)

    @op(op_type, since=1)
    def axes_as_attribute(call: Call, x: torch.Tensor) -> torch.Tensor:
        return reduce(call, x, call.ints("axes"))

    @op(op_type, since=axes_input_since, kinds={1: HOST}, ignores=("keepdims", "noop_with_empty_axes"))
    def axes_as_input(call: Call, x: torch.Tensor, axes: HostValue | None = None) -> torch.Tensor:
        # Absent axes count as empty ones.
        numbers = [] if axes is None else axes.numbers()
        if not numbers and call.flag("noop_with_empty_axes"):
            return _reduce_nothing(op_type, x)
        return reduce(call, x, numbers or None)


def _reduce_nothing(op_type: str, x: torch.Tensor) -> torch.Tensor:
    """``noop_with_empty_axes`` keeps the elementwise part of a reduction."""
    if op_type in ("ReduceL1", "ReduceL2"):
        return x.abs()
    if op_type == "ReduceSumSquare":
        return x * x
    return torch.log(x) if op_type == "ReduceLogSum" else x


for _name, _function in {
    "ReduceMean": _mean,
    "ReduceProd": _prod,
    "ReduceMax": _extreme(largest=True),
    "ReduceMin": _extreme(largest=False),
    "ReduceSumSquare": _square_sum,
    "ReduceL1": _l1,
    "ReduceL2": _l2,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
}.items():
    _register(_name, _function, 18)
_register("ReduceSum", _sum, 13)


def _arg(largest: bool) -> Callable[..., torch.Tensor]:
    def converter(call: Call, x: torch.Tensor) -> torch.Tensor:
        axis, keep = call.int("axis", 0), call.flag("keepdims", True)
        find = torch.argmax if largest else torch.argmin
        if not call.flag("select_last_index"):
            return find(x, dim=axis, keepdim=keep)
        return x.shape[axis] - 1 - find(x.flip(axis), dim=axis, keepdim=keep)

    return converter


op("ArgMax")(_arg(largest=True))
op("ArgMin")(_arg(largest=False))


@op("CumSum", since=11, kinds={1: HOST})
def cumulative_sum(call: Call, x: torch.Tensor, axis: HostValue) -> torch.Tensor:
    return _cumulative(call, x, axis, torch.cumsum, 0)


@op("CumProd", since=26, kinds={1: HOST})
def cumulative_product(call: Call, x: torch.Tensor, axis: HostValue) -> torch.Tensor:
    return _cumulative(call, x, axis, torch.cumprod, 1)


def _cumulative(
    call: Call, x: torch.Tensor, axis: HostValue, function: Callable[..., torch.Tensor], neutral: int
) -> torch.Tensor:
    dim = axis.number() % x.ndim
    if call.flag("reverse"):
        x = x.flip(dim)
    result = function(x, dim=dim, dtype=x.dtype)
    if call.flag("exclusive"):
        first = torch.full_like(x.narrow(dim, 0, 1), neutral)
        result = torch.cat([first, result.narrow(dim, 0, x.shape[dim] - 1)], dim=dim)
    return result.flip(dim) if call.flag("reverse") else result
