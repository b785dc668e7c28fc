"""The registry of dialect ops, and the tables that exporters and code generation read from it."""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable
from typing import Any

import torch

from graphopt.dialect.op import Absent, Autograd, DialectOp, OnnxForm
from graphopt.errors import InputError, UsageError, did_you_mean

FAMILIES = ("norm", "rotary", "activation", "gated", "attention")
"""The modules of this package that hold ops, one family each."""

_ops: dict[str, DialectOp] = {}
_lock = threading.RLock()


def register(op: DialectOp) -> DialectOp:
    """Make ``op`` known to torch as ``graphopt::<name>`` and to the tables of this module.

    Raises:
        UsageError: an op of that name exists (GO-2006).
    """
    with _lock:
        if op.name in _ops:
            raise UsageError(
                f"dialect op {op.qualified_name} is registered already",
                code="GO-2006",
                hint="each op is registered once, by the module of its family",
            )
        _define(op)
        _ops[op.name] = op
    return op


def _define(op: DialectOp) -> None:
    @functools.wraps(op.reference)
    def kernel(*args: Any) -> Any:
        op.check(*args)
        return op.reference(*args)

    def fake(*args: Any) -> Any:
        op.check(*args)
        return op.fake(*args)

    definition = torch.library.custom_op(op.qualified_name, kernel, mutates_args=(), schema=op.schema)
    definition.register_fake(fake)
    if isinstance(op.autograd, Autograd):
        definition.register_autograd(op.autograd.backward, setup_context=op.autograd.setup_context)


def load() -> None:
    """Import every family, so that ``torch.ops.graphopt`` is complete.  Further calls do nothing."""
    for family in FAMILIES:
        importlib.import_module(f"graphopt.dialect.{family}")


def all_ops() -> tuple[DialectOp, ...]:
    """Every dialect op, sorted by name."""
    load()
    return tuple(_ops[name] for name in sorted(_ops))


def get(target: torch._ops.OpOverload | str) -> DialectOp:
    """The op behind a node's target, or of that name (``graphopt::`` may be left out).

    Raises:
        InputError: the dialect has no such op (GO-3005).
    """
    load()
    qualified = target.name() if isinstance(target, torch._ops.OpOverload) else target
    op = _ops.get(qualified.removeprefix("graphopt::").removesuffix(".default"))
    if op is None:
        raise InputError(
            f"{qualified} is not an op of the graphopt dialect",
            code="GO-3005",
            hint=did_you_mean(qualified, (o.qualified_name for o in _ops.values())),
        )
    return op


def is_dialect(target: Any) -> bool:
    """Whether a node's target is an op of the dialect."""
    return isinstance(target, torch._ops.OpOverload) and target.namespace == "graphopt"


def onnx_translation_table(opset: int) -> dict[Callable[..., Any], Callable[..., Any]]:
    """The ``custom_translation_table`` of :func:`torch.onnx.export` for models of ``opset``.

    Ops whose ONNX form needs a newer opset, or that have none, are left out: the exporter then
    reports them as untranslatable unless they are decomposed first (:func:`decomposition_table`).
    """
    return {
        op.overload: op.onnx.build
        for op in all_ops()
        if isinstance(op.onnx, OnnxForm) and op.onnx.opset <= opset
    }


def decomposition_table() -> dict[torch._ops.OpOverload, Callable[..., Any]]:
    """A table for ``ExportedProgram.run_decompositions`` that removes the dialect."""
    return {op.overload: op.decompose for op in all_ops()}


def absent_forms() -> dict[str, dict[str, str]]:
    """For each op that lacks a form: the form and the reason given."""
    lacking = {
        op.name: {
            form: value.reason
            for form in ("autograd", "onnx", "relax")
            if isinstance(value := getattr(op, form), Absent)
        }
        for op in all_ops()
    }
    return {name: forms for name, forms in lacking.items() if forms}
