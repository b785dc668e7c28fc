"""Operators on host values: the arithmetic that ONNX graphs do on shapes.

Entries are Python numbers or symbolic ones.  A function returns None where its result has no host form
(a Range of dynamic length); the operator's converter then makes a tensor.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from graphopt._torch import statically_known_true
from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.dtypes import numpy_dtype
from graphopt.frontends.onnx.limits import check_host_size
from graphopt.frontends.onnx.packed_types import PACKED
from graphopt.frontends.onnx.registry import host_op
from graphopt.frontends.onnx.values import HostValue, is_symbolic

Host = HostValue | None
_LARGEST_EXPONENT = 64


# -- elementwise ---------------------------------------------------------------------------------


def _elementwise(
    op_type: str, function: Callable[..., Any], dtype: torch.dtype | None = None, since: int = 1
) -> None:
    @host_op(op_type, since=since)
    def evaluate(call: Call, *inputs: HostValue) -> Host:
        if call.opset < 7 and call.has("axis"):
            return None
        result = dtype or inputs[0].dtype
        if len(inputs) == 1:
            return inputs[0].map(function, dtype=result)
        accumulated = inputs[0]
        for other in inputs[1:]:
            accumulated = accumulated.map(function, other, dtype=result)
        return accumulated


def _maximum(a: Any, b: Any) -> Any:
    return torch.sym_max(a, b) if is_symbolic(a) or is_symbolic(b) else max(a, b)


def _minimum(a: Any, b: Any) -> Any:
    return torch.sym_min(a, b) if is_symbolic(a) or is_symbolic(b) else min(a, b)


def _sign(a: Any) -> Any:
    if is_symbolic(a):
        return 1 if statically_known_true(a > 0) else torch.sym_ite(a > 0, 1, torch.sym_ite(a < 0, -1, 0))
    return (a > 0) - (a < 0)


_elementwise("Add", operator.add)
_elementwise("Sub", operator.sub)
_elementwise("Mul", operator.mul)
_elementwise("Neg", operator.neg)
_elementwise("Abs", abs)
_elementwise("Max", _maximum)
_elementwise("Min", _minimum)
_elementwise("Sum", operator.add)
_elementwise("Sign", _sign)
_elementwise("Ceil", lambda a: float(math.ceil(a)) if not is_symbolic(a) else torch.sym_float(math.ceil(a)))
_elementwise(
    "Floor", lambda a: float(math.floor(a)) if not is_symbolic(a) else torch.sym_float(math.floor(a))
)
_elementwise("Not", lambda a: torch.sym_not(a) if is_symbolic(a) else not a)
_elementwise("And", lambda a, b: _both(a, b), torch.bool)
_elementwise("Or", lambda a, b: _either(a, b), torch.bool)


def _both(a: Any, b: Any) -> Any:
    return a & b if is_symbolic(a) or is_symbolic(b) else a and b


def _either(a: Any, b: Any) -> Any:
    return a | b if is_symbolic(a) or is_symbolic(b) else a or b


def _compare(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A comparison, decided where the ranges of the sizes decide it."""

    def compare(a: Any, b: Any) -> Any:
        result = function(a, b)
        if not is_symbolic(result):
            return bool(result)
        if statically_known_true(result):
            return True
        return False if statically_known_true(torch.sym_not(result)) else result

    return compare


for _name, _function in {
    "Equal": operator.eq,
    "Less": operator.lt,
    "LessOrEqual": operator.le,
    "Greater": operator.gt,
    "GreaterOrEqual": operator.ge,
}.items():
    _elementwise(_name, _compare(_function), torch.bool)


@host_op("Div")
def divide(call: Call, a: HostValue, b: HostValue) -> Host:
    if a.dtype.is_floating_point:
        if any(n == 0 for n in b.numbers() if not is_symbolic(n)):
            return None
        return a.map(operator.truediv, b, dtype=a.dtype)
    numbers = (*a.numbers(), *b.numbers())
    if not all(_known_non_negative(n) for n in numbers):
        if a.symbolic or b.symbolic or any(n == 0 for n in b.numbers()):
            return None
        return a.map(lambda x, y: int(math.trunc(Fraction(x, y))), b, dtype=a.dtype)
    if any(n == 0 for n in b.numbers() if not is_symbolic(n)):
        return None
    return a.map(operator.floordiv, b, dtype=a.dtype)


def _known_non_negative(number: Any) -> bool:
    return statically_known_true(number >= 0) if is_symbolic(number) else number >= 0


@host_op("Mod", since=10)
def modulo(call: Call, a: HostValue, b: HostValue) -> Host:
    if call.flag("fmod") or a.dtype.is_floating_point:
        return None
    if any(n == 0 for n in b.numbers() if not is_symbolic(n)):
        return None
    return a.map(operator.mod, b, dtype=a.dtype)


@host_op("Pow")
def power(call: Call, a: HostValue, b: HostValue) -> Host:
    # Python's integers have no largest one: 10^9 to the power of 10^9 would be computed.
    if a.symbolic or b.symbolic or any(abs(n) > _LARGEST_EXPONENT for n in b.numbers()):
        return None
    return a.map(operator.pow, b, dtype=a.dtype)


@host_op("Sqrt")
def square_root(call: Call, a: HostValue) -> Host:
    function = torch.sym_sqrt if a.symbolic else math.sqrt
    return a.map(function, dtype=a.dtype)


@host_op("Where", since=9)
def where(call: Call, condition: HostValue, a: HostValue, b: HostValue) -> Host:
    # A condition on sizes that is not decided by their ranges is asked: the answer becomes a guard.
    return condition.map(lambda c, x, y: x if bool(c) else y, a, b, dtype=a.dtype)


@host_op("Cast", since=6)
def cast(call: Call, x: HostValue) -> Host:
    dtype = call.dtype("to")
    return None if dtype is None or call.element_type("to") in PACKED else cast_host(x, dtype)


@host_op("CastLike", since=15)
def cast_like(call: Call, x: HostValue, like: HostValue) -> Host:
    return cast_host(x, like.dtype) if call.packed_type(1) is None else None


def cast_host(x: HostValue, dtype: torch.dtype) -> Host:
    """A host value in another element type; None where numpy lacks the type."""
    target = numpy_dtype(dtype)
    if target is None:
        return None
    if not x.symbolic:
        if x.dtype.is_floating_point and not dtype.is_floating_point and not np.isfinite(x.array).all():
            return None
        return HostValue(x.array.astype(target), dtype)
    return x.map(lambda n: _cast_number(n, dtype), dtype=dtype)


def _cast_number(number: Any, dtype: torch.dtype) -> Any:
    if dtype == torch.bool:
        return number if isinstance(number, (bool, torch.SymBool)) else number != 0
    if isinstance(number, (bool, torch.SymBool)):
        return torch.sym_ite(number, 1, 0) if is_symbolic(number) else int(number)
    if dtype.is_floating_point:
        return torch.sym_float(number) if is_symbolic(number) else float(number)
    # sym_int truncates towards zero, as ONNX does.
    return torch.sym_int(number) if isinstance(number, torch.SymFloat) else number


# -- structure -----------------------------------------------------------------------------------


@host_op("Identity")
def identity(call: Call, x: HostValue) -> Host:
    return x


@host_op("Gather")
def gather(call: Call, x: HostValue, indices: HostValue) -> Host:
    if indices.symbolic:
        return None
    check_host_size([x.size, indices.size])
    return HostValue.of(np.take(x.array, indices.array, axis=call.int("axis", 0)), x.dtype)


@host_op("GatherElements", since=11)
def gather_elements(call: Call, x: HostValue, indices: HostValue) -> Host:
    if indices.symbolic:
        return None
    return HostValue.of(np.take_along_axis(x.array, indices.array, call.int("axis", 0)), x.dtype)


@host_op("ScatterElements", since=11)
def scatter_elements(call: Call, x: HostValue, indices: HostValue, updates: HostValue) -> Host:
    if indices.symbolic or call.str("reduction", "none") != "none":
        return None
    array = x.array.astype(object)
    np.put_along_axis(array, indices.array, updates.array.astype(object), call.int("axis", 0))
    return HostValue.of(array, x.dtype)


@host_op("ScatterND", since=11)
def scatter_nd(call: Call, x: HostValue, indices: HostValue, updates: HostValue) -> Host:
    if indices.symbolic or call.str("reduction", "none") != "none":
        return None
    array = x.array.astype(object)
    for position in np.ndindex(*indices.shape[:-1]):
        array[tuple(indices.array[position])] = updates.array[position]
    return HostValue.of(array, x.dtype)


@host_op("Concat")
def concat(call: Call, *inputs: HostValue) -> Host:
    check_host_size([sum(i.size for i in inputs)])
    arrays = [i.array.astype(object) for i in inputs]
    return HostValue.of(np.concatenate(arrays, axis=call.int("axis", 0)), inputs[0].dtype)


@host_op("Slice", since=10)
def slice_inputs(
    call: Call,
    x: HostValue,
    starts: HostValue,
    ends: HostValue,
    axes: Host = None,
    steps: Host = None,
) -> Host:
    if any(v is not None and v.symbolic for v in (starts, ends, axes, steps)):
        return None
    count = starts.size
    where_ = axes.numbers() if axes is not None else list(range(count))
    by = steps.numbers() if steps is not None else [1] * count
    return _slice(x, starts.numbers(), ends.numbers(), where_, by)


@host_op("Slice", since=1)
def slice_attributes(call: Call, x: HostValue) -> Host:
    starts = call.ints("starts")
    axes = call.ints("axes", list(range(len(starts))))
    return _slice(x, starts, call.ints("ends"), axes, [1] * len(starts))


def _slice(
    x: HostValue, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]
) -> HostValue:
    selection: list[slice] = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # Backwards beyond the first element: Python would read -1 as "the last".
        stop = None if step < 0 and end < -x.shape[axis] else end
        selection[axis] = slice(start, stop, step)
    return HostValue.of(x.array[tuple(selection)], x.dtype)


@host_op("Squeeze", since=1)
def squeeze_attribute(call: Call, x: HostValue) -> Host:
    axes = call.ints("axes")
    return HostValue(np.squeeze(x.array, None if axes is None else tuple(axes)), x.dtype)


@host_op("Squeeze", since=13)
def squeeze(call: Call, x: HostValue, axes: Host = None) -> Host:
    return HostValue(np.squeeze(x.array, None if axes is None else tuple(axes.numbers())), x.dtype)


@host_op("Unsqueeze", since=1)
def unsqueeze_attribute(call: Call, x: HostValue) -> Host:
    return HostValue(np.expand_dims(x.array, tuple(call.ints("axes"))), x.dtype)


@host_op("Unsqueeze", since=13)
def unsqueeze(call: Call, x: HostValue, axes: HostValue) -> Host:
    return HostValue(np.expand_dims(x.array, tuple(axes.numbers())), x.dtype)


@host_op("Reshape", since=5)
def reshape(call: Call, x: HostValue, shape: HostValue) -> Host:
    if shape.symbolic:
        return None
    zero = call.flag("allowzero")
    wanted = [x.shape[i] if s == 0 and not zero else s for i, s in enumerate(shape.numbers())]
    return HostValue(x.array.reshape(wanted), x.dtype)


@host_op("Flatten")
def flatten(call: Call, x: HostValue) -> Host:
    axis = call.int("axis", 1)
    return HostValue(x.array.reshape(math.prod(x.shape[:axis]), -1), x.dtype)


@host_op("Transpose")
def transpose(call: Call, x: HostValue) -> Host:
    return HostValue(np.transpose(x.array, call.ints("perm")), x.dtype)


@host_op("Expand", since=8)
def expand(call: Call, x: HostValue, shape: HostValue) -> Host:
    if shape.symbolic:
        return None
    target = np.broadcast_shapes(x.shape, tuple(shape.numbers()))
    check_host_size(target)
    return HostValue(np.broadcast_to(x.array, target), x.dtype)


@host_op("Tile", since=6)
def tile(call: Call, x: HostValue, repeats: HostValue) -> Host:
    if repeats.symbolic:
        return None
    check_host_size([x.size, *repeats.numbers()])
    return HostValue(np.tile(x.array, repeats.numbers()), x.dtype)


@host_op("Split", since=13)
def split(call: Call, x: HostValue, sizes: Host = None) -> Any:
    if sizes is not None and sizes.symbolic:
        return None
    axis = call.int("axis", 0)
    parts: Any = call.int("num_outputs", call.output_count)
    if sizes is not None:
        parts = np.cumsum(sizes.numbers())[:-1]
    elif x.shape[axis] % parts:
        return None
    return tuple(HostValue.of(a, x.dtype) for a in np.split(x.array, parts, axis=axis))


# -- creation and reduction ----------------------------------------------------------------------


@host_op("ConstantOfShape", since=9)
def constant_of_shape(call: Call, shape: HostValue) -> Host:
    if shape.symbolic or math.prod(shape.numbers()) > 64:
        return None
    tensor = call.tensor("value")
    fill = np.zeros(1, np.float32) if tensor is None else tensor.numpy()
    if fill.dtype.kind not in "iub":
        return None
    return HostValue.from_numpy(np.full(shape.numbers(), fill.ravel()[0]))


@host_op("Range", since=11)
def value_range(call: Call, start: HostValue, limit: HostValue, delta: HostValue) -> Host:
    if any(v.symbolic or v.dtype.is_floating_point for v in (start, limit, delta)):
        return None
    numbers = range(start.number(), limit.number(), delta.number())
    if len(numbers[:65]) > 64:
        return None
    return HostValue.of(list(numbers), start.dtype)


@host_op("NonZero", since=9)
def non_zero(call: Call, x: HostValue) -> Host:
    return None if x.symbolic else HostValue.of(np.array(np.nonzero(x.array)), torch.int64)


def _reduction(op_type: str, function: Callable[[Any, Any], Any], axes_input_since: int) -> None:
    def reduce(call: Call, x: HostValue, axes: Sequence[int] | None) -> Host:
        everything = axes is None or sorted(a % x.ndim for a in axes) == list(range(x.ndim))
        if not everything or x.size == 0 or x.dtype.is_floating_point:
            return None
        result = x.numbers()[0]
        for entry in x.numbers()[1:]:
            result = function(result, entry)
        shape = (1,) * x.ndim if call.flag("keepdims", True) else ()
        return HostValue(HostValue.of(result, x.dtype).array.reshape(shape), x.dtype)

    @host_op(op_type, since=1)
    def axes_as_attribute(call: Call, x: HostValue) -> Host:
        return reduce(call, x, call.ints("axes"))

    @host_op(op_type, since=axes_input_since)
    def axes_as_input(call: Call, x: HostValue, axes: Host = None) -> Host:
        if call.flag("noop_with_empty_axes") and (axes is None or axes.size == 0):
            return x
        return reduce(call, x, None if axes is None or axes.size == 0 else axes.numbers())


_reduction("ReduceProd", operator.mul, 18)
_reduction("ReduceMax", _maximum, 18)
_reduction("ReduceMin", _minimum, 18)
_reduction("ReduceSum", operator.add, 13)
