"""``Cleanup``: the passes in order, and why in this order."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.passes.cleanup import families
from graphopt.passes.cleanup.common_subexpressions import CommonSubexpressions
from graphopt.passes.cleanup.constant_folding import ConstantFolding
from graphopt.passes.cleanup.dead_code import DeadCode
from graphopt.passmanager.base import CompositePass, Pass
from graphopt.passmanager.registry import register_pass


@dataclass(frozen=True)
class Step:
    """One pass of the pipeline, and why it stands where it does."""

    run: Pass
    reason: str


@functools.cache
def steps(training: bool = False) -> tuple[Step, ...]:
    """The pipeline as data; the same passes each time, which keep their compiled patterns.

    Args:
        training: leave out what would stop parameters from being trained.
    """
    fold = ConstantFolding(parameters=not training)
    return (
        Step(DeadCode(), "what dead code reads looks shared, and shared values are not rewritten"),
        Step(families.Identities(training), "casts and copies stand in the middle of all later patterns"),
        Step(fold, "computed weights become constants, which all later checks ask for"),
        Step(CommonSubexpressions(), "a value computed twice hides that two operands are the same"),
        Step(families.Shapes(), "one form of reshape and permute, none between the parts of a pattern"),
        Step(
            families.Scalars(training), "numbers for one-element tensors, one form of clamp and square root"
        ),
        Step(families.Linears(), "products with constants become layers, which take scales and biases in"),
        Step(families.Activations(), "before factors go into weights: x * clip(x + 3, 0, 6) / 6 stays whole"),
        Step(families.Norms(), "before factors go into weights, for the same reason"),
        Step(families.Attention(), "needs permutes in one form, no dropout, and scales that are still there"),
        Step(families.LayerWeights(), "what is left of factors, summands and batch norms goes into layers"),
        Step(fold, "transposed weights and reshaped biases that the rules above left behind"),
        Step(families.Shapes(), "permutes that the rules above made meet their neighbours"),
        Step(CommonSubexpressions(), "fused operators with equal operands, folded constants that are equal"),
        Step(DeadCode(), "statistics, masks and sizes that nothing reads any more"),
    )


@register_pass("cleanup")
@dataclass(frozen=True)
class Cleanup(CompositePass):
    """Removes what does nothing, folds what is constant, and makes whole operators of decomposed ones.

    Attributes:
        training: keep every trainable parameter trainable: parameters are not folded into
            constants and ``detach`` stays.
    """

    training: bool = False

    def passes(self) -> Sequence[Pass]:
        return [step.run for step in steps(self.training)]
