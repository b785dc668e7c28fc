"""Templates: the small models that a rewrite rule must rewrite, and those that it must leave alone.

A rule that never fires passes every other test.  So each rule has *positive* cases, on which it must
fire, and *near misses*, one guard away from a positive, on which it must not.  Whatever it makes of
either must compute the same.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from graphopt.contract import Equivalence, Exact
from graphopt.errors import GraphoptError
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from graphopt.ir.rewriter import Rewriter
from graphopt.ir.verifier import check_same_signature
from graphopt.rewriting.driver import apply_rules
from graphopt.rewriting.rule import RewriteRule
from graphopt.verification import verify

LIBRARY = (
    "activations",
    "attention",
    "identities",
    "norms",
    "shapes",
    "weights",
)
"""The modules of this package that hold templates."""

_EXAMPLE_SIZES = (4, 6, 5, 7)


@dataclass(frozen=True)
class Tensor:
    """An input or weight of a case.

    Attributes:
        shape: numbers; a name is a dynamic axis of an input, equal names are equal sizes.
        dtype: floating ones are drawn from a normal distribution, integers from 0 to 4.
        positive: draw from 0.5 to 1.5 instead, as variances are.
        trainable: a weight that is an ``nn.Parameter``.
    """

    shape: tuple[int | str, ...]
    dtype: torch.dtype = torch.float32
    positive: bool = False
    trainable: bool = False

    def draw(self, generator: torch.Generator, sizes: Mapping[str, int]) -> torch.Tensor:
        shape = [sizes[s] if isinstance(s, str) else s for s in self.shape]
        if self.dtype == torch.bool:
            return torch.rand(shape, generator=generator) < 0.5
        if not self.dtype.is_floating_point:
            return torch.randint(0, 5, shape, generator=generator, dtype=self.dtype)
        if self.positive:
            return (torch.rand(shape, generator=generator) + 0.5).to(self.dtype)
        return torch.randn(shape, generator=generator).to(self.dtype)


Shape = tuple[int | str, ...]
Spec = Shape | Tensor | torch.Tensor


@dataclass(frozen=True)
class Case:
    """One small model.

    Attributes:
        words: what is special about it.
        forward: ``forward(weights, *inputs)``; ``weights`` has the weights as attributes.
        inputs: shape, or :class:`Tensor`, an input.
        weights: name to shape, :class:`Tensor` or a given tensor.
    """

    words: str
    forward: Callable[..., Any]
    inputs: Sequence[Shape | Tensor]
    weights: Mapping[str, Spec] = field(default_factory=dict)

    def program(self) -> Program:
        """The captured model; the same at every call."""
        generator = torch.Generator().manual_seed(len(self.words))
        specs = [s if isinstance(s, Tensor) else Tensor(tuple(s)) for s in self.inputs]
        names = dict.fromkeys(size for s in specs for size in s.shape if isinstance(size, str))
        sizes = dict(zip(names, _EXAMPLE_SIZES, strict=False))
        module = _Model(self, generator).eval()
        axes = tuple({i: d for i, d in enumerate(s.shape) if isinstance(d, str)} for s in specs)
        arguments = tuple(s.draw(generator, sizes) for s in specs)
        return capture_torch(
            module,
            arguments,
            dynamic_shapes=axes if names else None,
            input_names=["x", "y", "z", "u", "v"][: len(specs)],
        )


class _Model(torch.nn.Module):
    def __init__(self, case: Case, generator: torch.Generator) -> None:
        super().__init__()
        self.case = case
        for name, spec in case.weights.items():
            if isinstance(spec, torch.Tensor):
                self.register_buffer(name, spec)
                continue
            tensor = spec if isinstance(spec, Tensor) else Tensor(tuple(spec))
            value = tensor.draw(generator, {})
            if tensor.trainable:
                self.register_parameter(name, torch.nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.case.forward(self, *inputs)


@dataclass(frozen=True)
class Template:
    """The cases of one rule, by the rule's name."""

    rule: str
    positive: tuple[Case, ...]
    near_misses: tuple[Case, ...]

    def __post_init__(self) -> None:
        if not self.positive or not self.near_misses:
            raise ValueError(f"template {self.rule!r} needs a positive case and a near miss")


_templates: dict[str, Template] = {}


def template(rule: str, positive: Sequence[Case], near_misses: Sequence[Case]) -> Template:
    """Registers the cases of a rule.

    Raises:
        ValueError: the rule has cases already, or lacks positive ones or near misses.
    """
    if rule in _templates:
        raise ValueError(f"rule {rule!r} has a template already")
    _templates[rule] = Template(rule, tuple(positive), tuple(near_misses))
    return _templates[rule]


def all_templates() -> dict[str, Template]:
    """Every template of the library, by rule."""
    for module in LIBRARY:
        importlib.import_module(f"{__name__}.{module}")
    return dict(_templates)


@dataclass(frozen=True)
class Trial:
    """What a rule did to one case.

    Attributes:
        fired: how often the rule was applied.
        problem: why the result is not acceptable, or None.
        reasons: why the rule refused, where it did.
    """

    case: Case
    before: Program
    after: Program
    fired: int
    problem: str | None
    reasons: tuple[str, ...] = ()


def try_case(
    rule: RewriteRule, case: Case, contract: Equivalence | None = None, *, verified: bool = True
) -> Trial:
    """Applies one rule to one case, checks the invariants of the result and what it computes.

    Args:
        contract: of the rule; default: ``Exact``.
        verified: False leaves out the comparison of what the two programs compute.
    """
    before = case.program()
    rewriter = Rewriter(before, "template")
    try:
        (statistics,) = apply_rules(rewriter, [rule])
        after = rewriter.finish()
        if not statistics.matched:
            return Trial(case, before, after, 0, None, tuple(statistics.rejected))
        after.check()
        check_same_signature(before.signature, after.signature)
        report = verify(before, after, contract=contract or Exact(), draws=2) if verified else None
    except (GraphoptError, RuntimeError) as error:  # RuntimeError: torch cannot run the result
        return Trial(case, before, before, 1, str(error))
    # A report that found a difference is false: ask for None.
    problem = None if report is None or report.ok else str(report)
    return Trial(case, before, after, statistics.matched, problem)


def failures(rule: RewriteRule, cases: Template) -> Iterator[str]:
    """Everything that is wrong with a rule by its template.

    A sound rule fires on every positive case, on no near miss, and its results verify.
    """
    for case in cases.positive:
        trial = try_case(rule, case)
        if not trial.fired:
            yield f"{case.words}: did not fire ({'; '.join(trial.reasons) or 'nothing to match'})"
        elif trial.problem is not None:
            yield f"{case.words}: {trial.problem}"
    for case in cases.near_misses:
        trial = try_case(rule, case)
        if trial.fired:
            wrong = f", and the result is wrong: {trial.problem}" if trial.problem else ""
            yield f"{case.words}: fired on a near miss{wrong}"
