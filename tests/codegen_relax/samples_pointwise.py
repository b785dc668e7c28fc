# ruff: noqa: E501 - a table, one line a case
"""Samples of elementwise operators."""

from __future__ import annotations

import torch
from samples import Maker, aten, case, cases, overloads

cases(
    overloads(
        "exp", "exp2", "expm1", "sin", "cos", "tan", "atan", "sinh", "cosh", "tanh", "asinh", "erf", "erfc", "sigmoid",
        "neg", "sign", "square", "relu", "floor", "ceil", "trunc", "round", "frac", "logical_not", "bitwise_not",
        "positive", "gelu", "silu", "mish", "softplus", "log_sigmoid", "elu", "selu", "celu", "leaky_relu",
        "hardtanh", "relu6", "hardsigmoid", "hardswish", "hardshrink", "softshrink", "abs",
    ),
    lambda t: (t(t.n, 11) * 3 if t.dtype.is_floating_point else t(t.n, 11),),
)  # fmt: skip
cases(overloads("neg", "exp"), lambda t: (t(),))
cases(
    overloads("log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal"), lambda t: (t.positive(t.n, 5),)
)
cases(overloads("acosh"), lambda t: (t.positive(t.n, 5) + 1,))
cases(
    overloads("asin", "acos", "atanh"),
    lambda t: (t.unit(t.n, 5) if t.dtype.is_floating_point else t.unit(t.n, 5) * 0,),
)
cases(overloads("gelu"), lambda t: (t(t.n, 5), "tanh"))
cases(overloads("tanh"), lambda t: (t(t.n, 5) * 1e-3,) if t.dtype.is_floating_point else (t(t.n, 5),))
cases(overloads("elu"), lambda t: (t(t.n, 5), 0.7, 1.3, 0.9))
cases(overloads("celu"), lambda t: (t(t.n, 5), 2.0))
cases(overloads("softplus"), lambda t: (t(t.n, 5) * 4, 2.0, 3.0))
cases(overloads("hardtanh"), lambda t: (t(t.n, 5), t.number(0), t.number(1)))
cases(overloads("threshold"), lambda t: (t(t.n, 5), t.number(1), t.number(3)))
cases(overloads("rrelu"), lambda t: (t(t.n, 5), 0.1, 0.3, False))
cases(overloads("prelu"), lambda t: (t(t.n, 3, 4), t(3)), lambda t: (t(t.n, 3), t(1)))
cases(overloads("round.decimals"), lambda t: (t(t.n, 5), 1))


def _special(t: Maker) -> tuple[torch.Tensor]:
    if not t.dtype.is_floating_point:
        return (t(t.n, 4),)
    x = t(t.n, 4)
    x[0] = torch.tensor([float("nan"), float("inf"), float("-inf"), -0.0])
    return (x,)


cases(overloads("isnan", "isinf", "isfinite", "nan_to_num", "relu"), _special)
cases(overloads("nan_to_num"), lambda t: (*_special(t), 1.0, 2.0, -3.0))

_BINARY = ("eq", "ne", "lt", "le", "gt", "ge", "mul", "div", "remainder", "fmod", "add", "sub", "rsub", "atan2",
           "hypot", "copysign", "logaddexp", "maximum", "minimum", "max.other", "min.other", "floor_divide",
           "logical_and", "logical_or", "logical_xor", "where.self")  # fmt: skip


def _overloads_of(name: str) -> list[torch._ops.OpOverload]:
    packet = getattr(aten, name.partition(".")[0])
    overload = name.partition(".")[2] or ("Tensor" if "Tensor" in packet.overloads() else "default")
    return [getattr(packet, overload)]


for _name in _BINARY[:-1]:
    cases(
        _overloads_of(_name),
        lambda t: (t(t.n, 5), t.positive(t.n, 5)),
        lambda t: (t(t.n, 1, 3), t.positive(4, 1)),
    )

_SCALAR = (
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "mul",
    "div",
    "remainder",
    "fmod",
    "add",
    "sub",
    "rsub",
    "copysign",
)
for _name in _SCALAR:
    cases([getattr(aten, _name).Scalar], lambda t: (t(t.n, 5), t.number(2)))
# Types that differ from the tensor's: the promotion is torch's.
cases(
    overloads("mul.Tensor", "add.Tensor", "sub.Tensor", "div.Tensor", "remainder.Tensor"),
    lambda t: (t(t.n, 5), t(1, 5, dtype=torch.float32).abs() + 1),
)
cases(overloads("eq.Tensor", "lt.Tensor", "maximum"), lambda t: (t(t.n, 3), t(t.n, 3, dtype=torch.int64)))
cases(overloads("mul.Tensor", "eq.Tensor"), lambda t: (t(t.n, 3), t(dtype=torch.float64)))
cases(overloads("floor_divide", "floor_divide.Scalar"), lambda t: (t(t.n, 5), 3))
for _mode in ("floor", "trunc", None):
    cases(overloads("div.Tensor_mode"), lambda t, m=_mode: (t(t.n, 5), t.positive(t.n, 5), m))
    cases(
        overloads("div.Tensor_mode"),
        lambda t, m=_mode: (
            t(t.n, 5),
            -t.positive(t.n, 5) if t.dtype != torch.uint8 else t.positive(t.n, 5),
            m,
        ),
    )
    cases(overloads("div.Scalar_mode"), lambda t, m=_mode: (t(t.n, 5), 3, m))
cases(overloads("add.Tensor", "sub.Tensor", "rsub.Tensor"), lambda t: (t(t.n, 5), t(t.n, 5), t.number(2)))
cases(overloads("add.Scalar", "sub.Scalar", "rsub.Scalar"), lambda t: (t(t.n, 5), t.number(3), t.number(2)))
cases(
    overloads("pow.Tensor_Tensor"),
    lambda t: (t.positive(t.n, 5), t(t.n, 5) if t.dtype.is_floating_point else t(t.n, 5).abs()),
)
cases(overloads("pow.Scalar"), lambda t: (3, t(t.n, 5) if t.dtype.is_floating_point else t(t.n, 5).abs()))
for _exponent in (0.5, 2, 3, -1, 5, 1.7):
    cases(overloads("pow.Tensor_Scalar"), lambda t, e=_exponent: (
        t.positive(t.n, 5), e if t.dtype.is_floating_point else abs(int(e) + 1)))  # fmt: skip
for _name in ("and", "or", "xor"):
    cases(overloads(f"bitwise_{_name}.Tensor", f"__{_name}__.Tensor"), lambda t: (t(t.n, 5), t(t.n, 5)))
    cases(overloads(f"bitwise_{_name}.Scalar", f"__{_name}__.Scalar"), lambda t: (t(t.n, 5), t.number(3)))
for _name in ("left", "right"):
    _arrow = "__lshift__" if _name == "left" else "__rshift__"
    cases(
        overloads(f"bitwise_{_name}_shift.Tensor", f"{_arrow}.Tensor"),
        lambda t: (t(t.n, 5), t.index(t.n, 5, size=4, negative=False).to(t.dtype)),
    )
    cases(overloads(f"bitwise_{_name}_shift.Tensor_Scalar", f"{_arrow}.Scalar"), lambda t: (t(t.n, 5), 2))

cases(overloads("where.self"), lambda t: (t.mask(t.n, 4), t(t.n, 4), t(4)))
cases(overloads("where.ScalarOther"), lambda t: (t.mask(t.n, 4), t(t.n, 4), t.number(1)))
cases(overloads("where.ScalarSelf"), lambda t: (t.mask(t.n, 4), t.number(1), t(t.n, 4)))
cases(overloads("where.Scalar"), lambda t: (t.mask(t.n, 4), 1.0, 2.0))
cases(overloads("masked_fill.Scalar"), lambda t: (t(t.n, 4), t.mask(t.n, 1), t.number(3)))
cases(
    overloads("masked_fill.Scalar"),
    lambda t: (t(t.n, 4), t.mask(4), float("-inf") if t.dtype.is_floating_point else 1),
)
cases(overloads("masked_fill.Tensor"), lambda t: (t(t.n, 4), t.mask(t.n, 4), t()))
cases(
    overloads("clamp", "clip"),
    lambda t: (t(t.n, 4), t.number(-1), t.number(1)),
    lambda t: (t(t.n, 4), None, t.number(1)),
)
cases(
    overloads("clamp.Tensor", "clip.Tensor"),
    lambda t: (t(t.n, 4), t(4), None),
    lambda t: (t(t.n, 4), t(4), t(t.n, 1)),
)
cases(overloads("clamp_min", "clamp_max"), lambda t: (t(t.n, 4), t.number(1)))
cases(overloads("clamp_min.Tensor", "clamp_max.Tensor"), lambda t: (t(t.n, 4), t(t.n, 1)))


@case(aten.addcmul.default, aten.addcdiv.default)
def _addc(t: Maker) -> tuple[torch.Tensor, ...]:
    return (t(t.n, 4), t(4), t.positive(t.n, 1))


cases(overloads("lerp.Scalar"), lambda t: (t(t.n, 4), t(t.n, 4), 0.3))
cases(overloads("lerp.Tensor"), lambda t: (t(t.n, 4), t(t.n, 4), t(t.n, 4)))
for _dtype in (torch.float32, torch.float16, torch.int64, torch.int8, torch.bool):
    cases(overloads("to.dtype"), lambda t, d=_dtype: (t(t.n, 4), d))
    cases([torch.ops.prims.convert_element_type.default], lambda t, d=_dtype: (t(t.n, 4), d))
cases(overloads("_to_copy"), lambda t: (t(t.n, 4),))
cases(overloads("to.dtype_layout"), lambda t: (t(t.n, 4),))
cases(overloads("to.device"), lambda t: (t(t.n, 4), torch.device("cpu"), torch.float32))
cases(overloads("to.other", "type_as"), lambda t: (t(t.n, 4), t(2, dtype=torch.float64)))
cases(
    overloads("clone", "contiguous", "alias", "detach", "lift_fresh_copy", "lift_fresh"),
    lambda t: (t(t.n, 4),),
)
cases(overloads("dropout", "feature_dropout", "alpha_dropout"), lambda t: (t(t.n, 4), 0.5, False))
