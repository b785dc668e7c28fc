"""How large the rounding error of one ATen operator can be.

The model behind the noise rule (Higham, *Accuracy and Stability of Numerical Algorithms*, ch. 3-4):
with unit roundoff ``u``, an operator that accumulates ``L`` terms has an error of about

    u * (sqrt(L) * |y| + m)

``sqrt(L) * |y|`` is the random walk of same-signed partial sums and ``m`` the size of the terms
before they cancel: ``|a| @ |b|`` for a product, ``|x - mean| + |mean|`` for a normalisation.  Moves of
data, selections (min, max, relu, where) and comparisons have none.

Operators are those that a dispatch mode sees, below the composite ones.  A name that is in no table
counts as elementwise arithmetic, with the relative error of one rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MOVES = frozenset(
    """
    abs alias amax amin argmax argmin argsort arange bucketize cat ceil chunk clamp clamp_max clamp_min
    clone constant_pad_nd contiguous copy copysign detach diag diag_embed dropout embedding empty
    empty_like empty_permuted expand_copy eye fill flatten flip floor full full_like gather glu_split
    hardtanh heaviside im2col index index_copy index_fill index_put _index_put_impl _unsafe_index
    _unsafe_masked_index isfinite kthvalue lift lift_fresh lift_fresh_copy logical_not masked_fill
    masked_scatter masked_select max max_pool2d_with_indices max_pool3d_with_indices
    adaptive_max_pool2d adaptive_max_pool3d max_unpool2d maximum median min minimum mode mvlgamma_sign
    nan_to_num neg new_empty new_full new_ones new_zeros nonzero ones ones_like one_hot pixel_shuffle
    pixel_unshuffle channel_shuffle put reflection_pad1d reflection_pad2d reflection_pad3d relu relu6
    repeat repeat_interleave replication_pad1d replication_pad2d replication_pad3d resize rot90 roll round
    scalar_tensor scatter select_backward select_scatter sgn sign slice_scatter diagonal_scatter sort
    split_with_sizes stack take threshold topk tril triu trunc unfold_copy unique _unique2
    upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d unbind unsafe_chunk unsafe_split
    unsafe_split_with_sizes _unsafe_view zero zeros zeros_like where _to_copy _local_scalar_dense
    _reshape_alias _conj _neg_view real imag view_as_real view_as_complex cummax cummin
    """.split()
)
"""Operators that return some of their inputs' values, or constants, unchanged."""


@dataclass(frozen=True)
class Rounding:
    """Error sizes of one output, in units of roundoff, beyond the final rounding ``|y|``.

    Attributes:
        stored: terms that any implementation may round to the tensor's dtype.
        accumulated: terms of a sum, which half-precision kernels keep in float32.
    """

    stored: Tensor | None = None
    accumulated: Tensor | None = None


Handler = Callable[[Any, Sequence[Any], dict[str, Any], Any], Rounding]


def operator_name(func: torch._ops.OpOverload) -> str:
    """``aten::add_.Tensor`` -> ``add``."""
    name = func._schema.name.split("::")[1]
    return name[:-1] if name.endswith("_") and not name.startswith("__") else name


def rounding(func: torch._ops.OpOverload, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    """The error sizes of the first output of one call.

    Args:
        func: the overload called; for in-place ones ``args`` hold the values from before.
        out: what it returned (a tensor, or the first of several).
    """
    handler = _HANDLERS.get(operator_name(func))
    return handler(func, args, kwargs, out) if handler is not None else Rounding()


def is_exact(func: torch._ops.OpOverload, args: Sequence[Any], out: Tensor, limit: float) -> bool:
    """Sums, differences and products of integers below ``limit`` (2^24 in float32), which no
    implementation rounds: a difference of window numbers that is compared with zero must stay zero."""
    if operator_name(func) not in ("add", "sub", "rsub", "mul"):
        return False
    return all(_holds_small_integers(a, limit) for a in (*args, out))


def _holds_small_integers(value: Any, limit: float) -> bool:
    if isinstance(value, Tensor):
        if value.dtype.is_complex or not value.numel():
            return False
        return bool((value.abs() < limit).all() and (value == value.round()).all())
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def accumulated_terms(func: torch._ops.OpOverload, args: Sequence[Any], out: Tensor) -> int:
    """``L``: how many terms each element of the output sums."""
    length = _LENGTHS.get(operator_name(func))
    return max(1, int(length(args, out))) if length is not None else 1


# -- lengths -------------------------------------------------------------------------------------


def _ratio(args: Sequence[Any], out: Tensor) -> int:
    return args[0].numel() // max(1, out.numel())


def _conv_length(args: Sequence[Any], out: Tensor) -> int:
    weight, transposed, groups = args[1], args[6], args[8]
    outputs = weight.shape[0] if not transposed else weight.shape[1] * groups
    return weight.numel() // max(1, outputs)


def _dim_length(args: Sequence[Any], out: Tensor) -> int:
    return args[0].shape[args[1]] if args[0].dim() else 1


def _kernel_length(args: Sequence[Any], out: Tensor) -> int:
    return math.prod(args[1])


_LENGTHS: dict[str, Callable[[Sequence[Any], Tensor], int]] = {
    "mm": lambda a, o: a[0].shape[-1],
    "bmm": lambda a, o: a[0].shape[-1],
    "mv": lambda a, o: a[0].shape[-1],
    "dot": lambda a, o: a[0].shape[-1],
    "addmm": lambda a, o: a[1].shape[-1],
    "addmv": lambda a, o: a[1].shape[-1],
    "baddbmm": lambda a, o: a[1].shape[-1],
    "convolution": _conv_length,
    "avg_pool2d": _kernel_length,
    "avg_pool3d": _kernel_length,
    "cumsum": _dim_length,
    "cumprod": _dim_length,
    "logcumsumexp": _dim_length,
    "_softmax": _dim_length,
    "_safe_softmax": _dim_length,
    "_log_softmax": _dim_length,
    "native_layer_norm": lambda a, o: math.prod(a[1]),
    "_fused_rms_norm": lambda a, o: math.prod(a[1]),
    "native_group_norm": lambda a, o: a[4] * (a[5] // a[6]),
    **dict.fromkeys(
        "sum mean prod nansum var std var_mean logsumexp linalg_vector_norm norm _adaptive_avg_pool2d "
        "_adaptive_avg_pool3d native_batch_norm _native_batch_norm_legit".split(),
        _ratio,
    ),
}


# -- magnitudes ----------------------------------------------------------------------------------


def _abs(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.abs() if value.is_floating_point() else value
    if isinstance(value, float):
        return abs(value)
    return value


def _linear_in_all(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    """Sums of products: the operator itself on absolute values."""
    scalars = {
        k: abs(v) if isinstance(v, int | float) and k in ("alpha", "beta") else v for k, v in kwargs.items()
    }
    return Rounding(accumulated=func(*[_abs(a) for a in args], **scalars))


def _add(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    """A sum may be taken in another order than its neighbours', so the operands count, not only y."""
    alpha = abs(kwargs.get("alpha", 1))
    a, b = (abs(v) if not isinstance(v, bool) else v for v in args[:2])
    total = a + alpha * b
    if not isinstance(total, Tensor) or not total.is_floating_point():
        return Rounding()
    return Rounding(stored=total.expand_as(out))


def _addc(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    scalars = {k: abs(v) for k, v in kwargs.items()}
    return Rounding(stored=func(*[_abs(a) for a in args], **scalars))


def _lerp(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    start, end, weight = args[:3]
    return Rounding(stored=start.abs() + abs(weight) * (start.abs() + end.abs()))


def _interpolate(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    """Source coordinates are rounded relative to the size of the axis, not to the weight."""
    size = max(max(args[0].shape[2:], default=1), max(out.shape[2:], default=1))
    neighbours = torch.nn.functional.adaptive_max_pool2d if out.dim() == 4 else None
    if neighbours is None:
        return Rounding(stored=args[0].abs().amax().expand_as(out) * size)
    return Rounding(stored=neighbours(args[0].abs(), out.shape[2:]) * size)


def _softmax(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    """The rounding of ``x - max(x)`` becomes a relative error of the exponential."""
    x = args[0]
    if not x.is_floating_point() or not x.dim():
        return Rounding()
    distance = (x.amax(args[1], keepdim=True) - x).nan_to_num(0.0, 0.0, 0.0)
    return Rounding(stored=out.abs() * distance)


def _log_softmax(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    x = args[0]
    return Rounding(stored=x.abs() + x.abs().amax(args[1], keepdim=True)) if x.dim() else Rounding()


def _logsumexp(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    return Rounding(stored=torch.ones_like(out) + out.abs())


def _pow(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    """``exp(b log a)``: the rounding of the product is a relative error of the result."""
    base, exponent = args[:2]
    if not isinstance(exponent, Tensor) and exponent in (0, 1, 2, 3, -1, 0.5, -0.5):
        return Rounding()
    base = base if isinstance(base, Tensor) else torch.tensor(float(base), dtype=torch.float64)
    product = (exponent * base.abs().to(torch.float64).log()).abs().nan_to_num(0.0, 0.0, 0.0)
    return Rounding(stored=out.abs() * product)


def _remainder(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    x = args[0]
    return Rounding(stored=x.abs().expand_as(out)) if isinstance(x, Tensor) else Rounding()


def _cancels_to_input(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    """``x * f`` where ``f`` is rounded near one although it is close to zero (1 + erf, 1 + tanh)."""
    return Rounding(stored=args[0].abs())


def _cancels_to_one(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    """Implementations go through a value near one: ``log(1 + e)``, ``exp(x) - 1``, range reduction;
    a sigmoid as ``(1 + tanh(x / 2)) / 2``, which gives 0 where the true value is 1e-9."""
    return Rounding(stored=torch.ones_like(out))


def _mean(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    return Rounding(accumulated=func(args[0].abs(), *args[1:], **kwargs))


def _variance(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    """``E[x^2] - E[x]^2`` is what some backends compute: the uncentred square is the magnitude."""
    x, rest = args[0], [a for a in args[1:] if isinstance(a, int | list | tuple) and not isinstance(a, bool)]
    dim = rest[0] if rest and rest[0] != [] else None
    square = (x * x).mean(dim, keepdim=kwargs.get("keepdim", False)) if dim is not None else (x * x).mean()
    if square.shape != out.shape:
        square = square.reshape(out.shape)
    if operator_name(func).startswith("std"):
        square = (square / out.abs()).nan_to_num(0.0, 0.0, 0.0)
    return Rounding(accumulated=square)


def normalisation(
    x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Magnitude of ``(x - mean) * rstd * weight + bias``, folded or not, all arguments broadcastable."""
    scale = rstd.abs() if weight is None else (rstd * weight).abs()
    magnitude = (x.abs() + mean.abs()) * scale
    return magnitude if bias is None else magnitude + bias.abs()


def _from_variance(x: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
    """Relative error of ``rstd`` when the variance is computed as a difference of squares."""
    return (mean * rstd).square()


def _layer_norm(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    x, shape, weight, bias, eps = args[:5]
    dims = list(range(x.dim() - len(shape), x.dim()))
    mean = x.mean(dims, keepdim=True)
    rstd = (x.var(dims, keepdim=True, correction=0) + eps).rsqrt()
    magnitude = normalisation(x, mean, rstd, weight, bias)
    return Rounding(stored=magnitude, accumulated=magnitude * _from_variance(x, mean, rstd))


def _group_norm(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    x, weight, bias, n, channels, _, groups, eps = args[:8]
    grouped = x.reshape(n, groups, -1)
    mean = grouped.mean(-1, keepdim=True)
    rstd = (grouped.var(-1, keepdim=True, correction=0) + eps).rsqrt()
    magnitude = normalisation(grouped, mean, rstd, None, None)
    accumulated = magnitude * _from_variance(grouped, mean, rstd)
    per_channel = [1, channels] + [1] * (x.dim() - 2)
    scale = 1.0 if weight is None else weight.abs().reshape(per_channel)
    shift = 0.0 if bias is None else bias.abs().reshape(per_channel)
    return Rounding(
        stored=magnitude.reshape(x.shape) * scale + shift, accumulated=accumulated.reshape(x.shape) * scale
    )


def _batch_norm(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    named = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)} | kwargs
    x, eps, training = named["input"], named["eps"], named.get("training", False)
    per_channel = [1, -1] + [1] * (x.dim() - 2)
    if training:
        dims = [d for d in range(x.dim()) if d != 1]
        mean, variance = x.mean(dims), x.var(dims, correction=0)
    else:
        mean, variance = named["running_mean"], named["running_var"]
    mean, rstd = mean.reshape(per_channel), (variance + eps).rsqrt().reshape(per_channel)
    weight, bias = (
        v.reshape(per_channel) if v is not None else None for v in (named.get("weight"), named.get("bias"))
    )
    magnitude = normalisation(x, mean, rstd, weight, bias)
    return Rounding(
        stored=magnitude, accumulated=magnitude * _from_variance(x, mean, rstd) if training else None
    )


def _fourier(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Rounding:
    """Error of the size of the root mean square, a rounding a stage (Higham, ch. 24)."""
    dims = list(args[1])
    stages = math.log2(max(2, math.prod(out.shape[d] for d in dims)))
    return Rounding(stored=out.abs().square().mean(dims, keepdim=True).sqrt().expand(out.shape) * stages)


_HANDLERS: dict[str, Handler] = {
    **dict.fromkeys("add sub rsub".split(), _add),
    **dict.fromkeys("addcmul addcdiv".split(), _addc),
    **dict.fromkeys(
        "mm bmm mv dot addmm addmv baddbmm convolution cumsum _adaptive_avg_pool2d _adaptive_avg_pool3d "
        "avg_pool2d avg_pool3d scatter_add index_add".split(),
        _linear_in_all,
    ),
    **dict.fromkeys("sum mean nansum".split(), _mean),
    **dict.fromkeys("var std".split(), _variance),
    **dict.fromkeys("gelu mish silu".split(), _cancels_to_input),
    **dict.fromkeys(
        "sigmoid softplus log_sigmoid_forward elu celu selu expm1 log1p sinh asinh acosh atanh "
        "sin cos tan".split(),
        _cancels_to_one,
    ),
    **dict.fromkeys(
        "upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d "
        "_upsample_bilinear2d_aa _upsample_bicubic2d_aa".split(),
        _interpolate,
    ),
    **dict.fromkeys("_softmax _safe_softmax".split(), _softmax),
    **dict.fromkeys(
        "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training".split(), _batch_norm
    ),
    **dict.fromkeys("remainder fmod".split(), _remainder),
    **dict.fromkeys("_fft_r2c _fft_c2r _fft_c2c".split(), _fourier),
    "_log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "lerp": _lerp,
    "pow": _pow,
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
}
