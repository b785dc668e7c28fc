"""Passes with one defect each, and some without, for tests of what watches over them."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from graphopt import (
    Bounded,
    Exact,
    Lossy,
    Pass,
    PassContext,
    Program,
    RewritePass,
    Rewriter,
    Signature,
    register_pass,
)
from graphopt.ir.level import Level

aten = torch.ops.aten


def find(program: Program, target: Any) -> torch.fx.Node:
    return next(n for n in program.graph.nodes if n.target is target)


def scale_output(program: Program, factor: float, name: str) -> Program:
    """The program with its first output multiplied by ``factor``."""
    rewriter = Rewriter(program, name)
    (old,) = rewriter.program.output_nodes
    with rewriter.rule("scale", [old]), rewriter.after(old):
        rewriter.replace(old, rewriter.call(aten.mul.Scalar, old, factor))
    return rewriter.finish()


@register_pass("test-nothing")
class Nothing(Pass):
    """Changes nothing."""

    def apply(self, program: Program, context: PassContext) -> Program:
        return program.copy()


@register_pass("test-relu-as-clamp")
class ReluAsClamp(RewritePass):
    """relu(x) -> clamp_min(x, 0)"""

    equivalence = Exact()

    def pattern(self, op: Any, x: Any) -> Any:
        return op.relu(x)

    def rewrite(self, op: Any, x: Any) -> Any:
        return op.clamp_min(x, 0)


@register_pass("test-double")
@dataclasses.dataclass(frozen=True)
class Double(Pass):
    """Doubles the result and says that it is the same.

    Attributes:
        factor: what it multiplies by instead of 2.
    """

    factor: float = 2.0

    def apply(self, program: Program, context: PassContext) -> Program:
        return scale_output(program, self.factor, self.name)


@register_pass("test-raises")
class Raises(Pass):
    """Stumbles."""

    def apply(self, program: Program, context: PassContext) -> Program:
        return {}["layer"]  # type: ignore[return-value]


@register_pass("test-returns-none")
class ReturnsNone(Pass):
    """Forgets its result."""

    def apply(self, program: Program, context: PassContext) -> Program:
        return None  # type: ignore[return-value]


@register_pass("test-edits-input")
class EditsInput(Pass):
    """Edits the graph that it was given."""

    def apply(self, program: Program, context: PassContext) -> Program:
        find(program, aten.relu.default).target = aten.sigmoid.default
        return program


@register_pass("test-edits-weights")
class EditsWeights(Pass):
    """Edits the weights that it was given, which the input shares with its copy."""

    def apply(self, program: Program, context: PassContext) -> Program:
        result = program.copy()
        with torch.no_grad():
            result.constant("first.weight").mul_(1.0)
        return result


@register_pass("test-swaps-weight")
@dataclasses.dataclass(frozen=True)
class SwapsWeight(Pass):
    """Another weight in the place of one, without a change of the graph."""

    factor: float = 1.0

    def apply(self, program: Program, context: PassContext) -> Program:
        result = program.copy()
        layer = result.graph_module.get_submodule("first")
        module = torch.nn.Module()
        module.weight = torch.nn.Parameter(layer.weight.detach() * self.factor)
        module.bias = layer.bias
        result.graph_module.first = module
        return result


@register_pass("test-detaches")
class Detaches(Pass):
    """Cuts the gradient of the first layer off."""

    def apply(self, program: Program, context: PassContext) -> Program:
        rewriter = Rewriter(program, self.name)
        relu = find(rewriter.program, aten.relu.default)
        with rewriter.rule("detach", [relu]), rewriter.after(relu):
            rewriter.replace(relu, rewriter.call(aten.detach.default, relu))
        return rewriter.finish()


@register_pass("test-detaches-openly")
class DetachesOpenly(Detaches):
    """Cuts the gradient off and says so."""

    preserves_training = False


@register_pass("test-renames-output")
class RenamesOutput(Pass):
    """Another name for the output, undeclared."""

    def apply(self, program: Program, context: PassContext) -> Program:
        (output,) = program.signature.outputs
        signature = dataclasses.replace(
            program.signature, outputs=(dataclasses.replace(output, name="renamed"),)
        )
        assert isinstance(signature, Signature)
        return program.replaced(signature=signature)


@register_pass("test-renames-output-openly")
class RenamesOutputOpenly(RenamesOutput):
    """Another name for the output, declared."""

    changes_signature = True


@register_pass("test-core-only")
class CoreOnly(Nothing):
    """Takes programs of the core level only."""

    levels = frozenset({Level.CORE})


@register_pass("test-claims-core")
class ClaimsCore(Nothing):
    """Declares a level that it does not produce."""

    produces = Level.CORE


@register_pass("test-ensures")
class Ensures(Nothing):
    """Ensures a property."""

    ensures = frozenset({"folded"})


@register_pass("test-requires")
class Requires(Double):
    """Requires the property, and is wrong."""

    requires = frozenset({"folded"})


@register_pass("test-lossy")
@dataclasses.dataclass(frozen=True)
class Lossily(Pass):
    """Scales the output within, or beyond, a budget of 1 %."""

    equivalence = Lossy("relative_l2", 0.01)
    factor: float = 1.001

    def apply(self, program: Program, context: PassContext) -> Program:
        return scale_output(program, self.factor, self.name)


@register_pass("test-bounded")
@dataclasses.dataclass(frozen=True)
class AddsWithinBound(Pass):
    """Adds a constant to the output; its bound is an option."""

    equivalence = Bounded()
    bound: float = 0.5

    def apply(self, program: Program, context: PassContext) -> Program:
        context.contract = Bounded(self.bound)
        rewriter = Rewriter(program, self.name)
        (old,) = rewriter.program.output_nodes
        with rewriter.rule("add", [old]), rewriter.after(old):
            rewriter.replace(old, rewriter.call(aten.add.Scalar, old, 0.25))
        return rewriter.finish()


@register_pass("test-counts-batches")
class CountsBatches(Nothing):
    """Notes how much calibration data it was given."""

    def apply(self, program: Program, context: PassContext) -> Program:
        context.notes.append(f"{len(context.calibration)} batches of {len(context.calibration[0])}")
        return program


# -- invariants, each broken in the copy that the pass returns -----------------------------------


def _use_before_definition(p: Program) -> None:
    find(p, aten.relu.default).prepend(p.output_nodes[0])


def _wrong_operands(p: Program) -> None:
    relu = find(p, aten.relu.default)
    relu.args = (*relu.args, 1, 2)


def _missing_weight(p: Program) -> None:
    next(n for n in p.graph.nodes if n.op == "get_attr").target = "first"  # a module


def _stale_value(p: Program) -> None:
    relu = find(p, aten.relu.default)
    relu.meta["val"] = p.output_nodes[0].meta["val"]


def _impure(p: Program) -> None:
    find(p, aten.relu.default).target = aten.relu_.default


def _foreign_operator(p: Program) -> None:
    node = find(p, aten.relu.default)
    node.target = torch.ops.profiler._record_function_enter.default


def _dropped_output(p: Program) -> None:
    p.graph.output_node().args = ((),)


BREAKS = {
    "graph": _use_before_definition,
    "operands": _wrong_operands,
    "constants": _missing_weight,
    "values": _stale_value,
    "purity": _impure,
    "level": _foreign_operator,
    "signature": _dropped_output,
}


@register_pass("test-breaks")
@dataclasses.dataclass(frozen=True)
class Breaks(Pass):
    """Breaks the invariant that its option names."""

    invariant: str

    def apply(self, program: Program, context: PassContext) -> Program:
        result = program.copy()
        BREAKS[self.invariant](result)
        return result
