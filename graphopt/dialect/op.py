"""What a dialect op consists of: one value that holds every form of the op."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

NAMESPACE = "graphopt"

FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""The dtypes that a floating-point op computes in, half precision with float32 inside."""


@dataclass(frozen=True)
class Absent:
    """A form that an op does not have, and why; the only way to leave a form out."""

    reason: str

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ValueError("an absent form needs a reason")


@dataclass(frozen=True)
class Autograd:
    """The gradient, in the terms of :func:`torch.library.register_autograd`.

    Attributes:
        setup_context: ``(ctx, inputs, output) -> None``, saves what the backward pass needs.
        backward: ``(ctx, grad) -> tuple``, one gradient or None for each operand.  It is plain torch
            and itself differentiable, so that second derivatives exist.
    """

    setup_context: Callable[[Any, tuple[Any, ...], Any], None]
    backward: Callable[..., tuple[Any, ...]]


@dataclass(frozen=True)
class OnnxForm:
    """The op as nodes of the standard ONNX operator set.

    Attributes:
        build: called with the op's operands in schema order; emits nodes through an
            ``onnxscript.opset<N>`` module and returns the result.  Attribute parameters are
            annotated ``float``, ``int``, ``bool`` or ``str``, which is how the exporter tells them
            from tensors.
        opset: the lowest opset that has all the nodes used.
        dtypes: the dtypes for which plain onnxruntime runs those nodes on a CPU.
    """

    build: Callable[..., Any]
    opset: int = 18
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64, torch.float16)


@dataclass(frozen=True)
class RelaxForm:
    """The op in Relax.

    Attributes:
        build: ``(block_builder, *operands) -> relax.Expr``; tensors are Relax expressions whose
            shapes may be symbolic, the rest plain Python values.  It emits into the builder's
            current block.
        dtypes: the dtypes that it is right in.
    """

    build: Callable[..., Any]
    dtypes: tuple[torch.dtype, ...] = FLOATING


@dataclass(frozen=True)
class Sample:
    """One call of an op, drawn or written by hand, that every form is tried on.

    Attributes:
        name: distinct among the samples of the op.
        args: all operands in schema order; floating-point tensors are float32.
        dynamic: for an operand's index, a dimension name or None for each of its axes.  Axes with the
            same name have the same size.
        differentiable: False where the sample sits on a kink or masks everything out, so that a
            finite difference says nothing.
    """

    name: str
    args: tuple[Any, ...]
    dynamic: Mapping[int, tuple[str | None, ...]] = field(default_factory=dict)
    differentiable: bool = True

    def to(self, dtype: torch.dtype) -> Sample:
        """The same sample with its floating-point tensors in ``dtype``."""
        return Sample(
            self.name,
            tuple(
                a.to(dtype) if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in self.args
            ),
            self.dynamic,
            self.differentiable,
        )


@dataclass(frozen=True, eq=False)
class DialectOp:
    """An op of the ``graphopt::`` namespace in every form that it has.

    Attributes:
        name: its name without the namespace.
        schema: operands and results in torch's schema language, ``(Tensor x, float eps) -> Tensor``.
            Functional: nothing mutated, no output aliases an operand.
        summary: one line for the table in the documentation.
        source: the paper, specification or model that defines the semantics.
        check: raises :class:`~graphopt.errors.InputError` for operands that the op does not take.
            Runs before the reference and before the fake kernel, with the same operands.
        reference: the semantics, in plain differentiable torch, right in float64.
        fake: shape and dtype of the result, for fake tensors with symbolic sizes.
        autograd: the gradient, or why there is none.
        onnx: the ONNX form, or why there is none.
        relax: the Relax form, or why there is none.
        samples: calls that every form is tried on: several shapes, attribute values and edge cases.
        decomposition: the op in terms that lower to core ATen; the reference unless given.
        dtypes: what the first operand may be.
    """

    name: str
    schema: str
    summary: str
    source: str
    check: Callable[..., None]
    reference: Callable[..., Any]
    fake: Callable[..., Any]
    autograd: Autograd | Absent
    onnx: OnnxForm | Absent
    relax: RelaxForm | Absent
    samples: Callable[[], Sequence[Sample]]
    decomposition: Callable[..., Any] | None = None
    dtypes: tuple[torch.dtype, ...] = FLOATING

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"{self.name!r} is not a dialect op name: lower case, digits, underscores")
        for form, kind in (("autograd", Autograd), ("onnx", OnnxForm), ("relax", RelaxForm)):
            if not isinstance(getattr(self, form), (kind, Absent)):
                raise TypeError(f"{self.name}.{form} must be {kind.__name__} or Absent(reason)")

    @property
    def qualified_name(self) -> str:
        """The name as torch knows it, ``graphopt::<name>``."""
        return f"{NAMESPACE}::{self.name}"

    @property
    def overload(self) -> torch._ops.OpOverload:
        """The ``torch.ops`` overload; the op must be registered."""
        return getattr(getattr(torch.ops, NAMESPACE), self.name).default

    def decompose(self, *args: Any) -> Any:
        """The op on ``args`` in ops of ATen only."""
        return (self.decomposition or self.reference)(*args)
