"""``Cleanup``: the passes in order, and why in this order."""

from __future__ import annotations

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


def steps(training: bool = False) -> tuple[Step, ...]:
    """The pipeline as data.

    Args:
        training: leave out what would stop parameters from being trained.
    """
    fold = ConstantFolding(parameters=not training)
    return (
        Step(
            DeadCode(),
            "nothing below looks at code that no output needs; unused results of calls with several",
        ),
        Step(
            families.Identities(training=training),
            "casts and copies stand in the middle of all later patterns",
        ),
        Step(fold, "weights that are computed become constants, which all later checks ask for"),
        Step(
            CommonSubexpressions(), "a value computed twice hides that two operands of a pattern are the same"
        ),
        Step(families.Shapes(), "one form of reshape and permute, none between the parts of a pattern"),
        Step(
            families.Scalars(), "numbers in place of one-element tensors, one form of clamp and square root"
        ),
        Step(families.Linears(), "constant matrices become linear layers, which take scales and biases in"),
        Step(
            families.Activations(), "before scales go into weights: x * clip(x + 3, 0, 6) / 6 must stay whole"
        ),
        Step(families.LayerWeights(), "what is left of scales, shifts and batch norms goes into the layers"),
        Step(fold, "transposed weights and reshaped biases that the rules above left behind"),
        Step(families.Shapes(), "permutes that the rules above made meet their neighbours"),
        Step(
            CommonSubexpressions(), "fused operators with equal operands, and folded constants that are equal"
        ),
        Step(DeadCode(), "statistics, masks and sizes that nothing reads any more"),
    )


@register_pass("cleanup")
class Cleanup(CompositePass):
    """Removes what does nothing, folds what is constant, and makes whole operators of decomposed ones.

    Attributes:
        training: keep every trainable parameter trainable: parameters are not folded into
            constants and ``detach`` stays.
    """

    training: bool = False

    def passes(self) -> Sequence[Pass]:
        return [step.run for step in steps(self.training)]
