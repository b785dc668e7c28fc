"""Keeps fused kernels from growing without bound.

A fused kernel is one expression: the producer's stands wherever the consumer reads it.  erf in float32 reads
its operand 480 times, so erf of erf has two million terms, and TVM, whose passes visit them again and again,
takes minutes and gigabytes.  Where an expression would be too large, an operand gets a kernel of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm import ir, relax, tirx

from graphopt.codegen.rewrite import operands
from graphopt.codegen.schedules.blocks import collect

LARGEST = 20_000
"""Terms of a fused expression.  GELU has 3,600; TVM takes about 0.2 ms for each term."""

_INJECTIVE, _OPAQUE = 2, 8
"""TVM's OpPatternKind: up to the first, functions become part of others; the second never does."""


@dataclass
class Terms:
    """The size of what a function computes for one element.

    Attributes:
        own: terms that are not reads of its operands.
        reads: of each operand, by its position.
    """

    own: int = 0
    reads: dict[int, int] = field(default_factory=dict)

    def add(self, other: Terms) -> None:
        self.own += other.own
        for operand, count in other.reads.items():
            self.reads[operand] = self.reads.get(operand, 0) + count

    def total(self, sizes: Mapping[int, int]) -> int:
        """Terms once operands of these sizes stand where they are read."""
        return self.own + sum(count * sizes.get(i, 1) for i, count in self.reads.items())


def terms_of(function: tirx.PrimFunc) -> Terms:
    """The terms of the value that a function stores last, those of its intermediate values included."""
    stored: list[tuple[Any, Terms]] = []
    for store in collect(function.body, tirx.BufferStore):
        stored.append((store.buffer, _terms(store.value, list(function.params), stored)))
    return stored[-1][1] if stored else Terms()


def _terms(expr: Any, parameters: list[Any], stored: list[tuple[Any, Terms]]) -> Terms:
    found, work = Terms(), [expr]
    while work:  # not recursive: the value of a concatenation is as deep as it has parts
        term = work.pop()
        if type(term) is not ir.TensorLoad:
            found.own += 1
            work += operands(term)
            continue
        read = next((i for i, p in enumerate(parameters) if p.same_as(term.source)), None)
        if read is not None:
            found.reads[read] = found.reads.get(read, 0) + 1
        else:
            known = (terms for buffer, terms in reversed(stored) if buffer.same_as(term.source))
            found.add(next(known, Terms(1)))
    return found


def limit_fusion() -> tvm.transform.Pass:
    """A pass over a module whose functions have their ``op_pattern``: what fusion must leave apart becomes
    opaque to it."""

    @tvm.transform.module_pass(opt_level=0, name="GraphoptLimitFusion")
    def run(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        alone = [
            call for f in mod.functions.values() if isinstance(f, relax.Function) for call in _alone(mod, f)
        ]
        return _apart(mod, alone) if alone else mod

    return run


def _alone(mod: tvm.IRModule, function: relax.Function) -> list[relax.Call]:
    """The calls of a function whose results would make an expression too large."""
    terms: dict[str, Terms] = {}
    producers: dict[Any, tuple[int, relax.Call]] = {}
    found = []
    for block in function.body.blocks:
        for binding in block.bindings:
            call = binding.value if isinstance(binding, relax.VarBinding) else None
            if not isinstance(call, relax.Call) or call.op != ir.Op.get("relax.call_tir"):
                continue
            kernel = mod[call.args[0]]
            pattern = int((kernel.attrs or {}).get("op_pattern", _OPAQUE))
            if pattern == _OPAQUE:
                continue
            name = call.args[0].name_hint
            if name not in terms:
                terms[name] = terms_of(kernel)
            sizes = {i: producers[x][0] for i, x in enumerate(call.args[1].fields) if x in producers}
            while sizes and terms[name].total(sizes) > LARGEST:
                worst = max(sizes, key=lambda i: terms[name].reads.get(i, 0) * sizes[i])
                operand = call.args[1].fields[worst]
                found.append(producers.pop(operand)[1])
                sizes = {i: s for i, s in sizes.items() if not call.args[1].fields[i].same_as(operand)}
            if pattern <= _INJECTIVE:
                producers[binding.var] = terms[name].total(sizes), call
    return found


def _apart(mod: tvm.IRModule, alone: list[relax.Call]) -> tvm.IRModule:
    @relax.expr_functor.mutator
    class Apart(relax.PyExprMutator):  # type: ignore[misc]
        def visit_call_(self, call: relax.Call) -> relax.Expr:
            new = super().visit_call_(call)
            if not any(call.same_as(c) for c in alone):
                return new
            kernel = mod[call.args[0]].with_attr("op_pattern", _OPAQUE)
            variable = self.builder_.add_func(kernel, f"{call.args[0].name_hint}_alone")
            return relax.Call(new.op, [variable, *new.args[1:]], new.attrs, new.ty_args)

    mutator = Apart(mod)
    for var, function in list(mod.functions_items()):
        if isinstance(function, relax.Function):
            mutator.builder_.update_func(var, mutator.visit_expr(function))
    return mutator.builder_.get()
