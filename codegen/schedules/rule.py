"""What a schedule rule is, and how rules are tried.

A rule looks at one TensorIR function and either declines or rewrites its loops: it may never change
what the function computes.  Rules choose by the target's features.  They are tried in order; the
first that accepts wins, and its name is kept on the function for the artifact's list of kernels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import tvm
from tvm import s_tir, tirx
from tvm.error import InternalError

from graphopt.codegen.schedules.decisions import Choice, Decisions, UnknownDecision
from graphopt.codegen.targets import Target

logger = logging.getLogger(__name__)

RULE_ATTRIBUTE = "graphopt.schedule"
"""Attribute of a PrimFunc: the name of the rule that scheduled it."""

UNSCHEDULED = "unscheduled"


class NotApplicable(Exception):
    """Raised by a rule that finds, midway, that it does not fit; the function stays as it was."""


@dataclass(frozen=True)
class ScheduleRule:
    """A way to schedule a family of functions.

    Attributes:
        name: shown in the artifact's list of kernels.
        applies: cheap test on the function; False passes on to the next rule.
        apply: rewrites the loops of ``main`` in place, or returns another schedule of it.  It may
            raise :class:`NotApplicable`, or TVM's ``ScheduleError`` when a primitive's precondition
            does not hold.
    """

    name: str
    applies: Callable[[tirx.PrimFunc, Target], bool]
    apply: Callable[..., s_tir.Schedule | None]

    def run(self, schedule: s_tir.Schedule, target: Target, decisions: Decisions) -> s_tir.Schedule:
        """The schedule after ``apply``; a plain rule has nothing to decide."""
        return self.apply(schedule, target) or schedule


@dataclass(frozen=True)
class TunableRule(ScheduleRule):
    """A rule with free choices, whose ``apply`` takes :class:`Decisions` as a third argument."""

    def run(self, schedule: s_tir.Schedule, target: Target, decisions: Decisions) -> s_tir.Schedule:
        return self.apply(schedule, target, decisions) or schedule


class Scheduled(NamedTuple):
    """A scheduled function, the rule that did it, and the choices that the rule had."""

    function: tirx.PrimFunc
    rule: str
    space: Mapping[str, Choice]


def schedule_function(
    func: tirx.PrimFunc,
    target: Target,
    rules: Iterable[ScheduleRule],
    decided: Mapping[str, int] | None = None,
) -> Scheduled:
    """The function scheduled by the first rule that fits.

    A function that no rule fits comes back unchanged with the name ``unscheduled``: slow and right.

    Args:
        decided: values of the rule's choices; what is not named has its default.

    Raises:
        UnknownDecision: the rule that fits has no such choice, or not that value of it.
    """
    for rule in rules:
        if not rule.applies(func, target):
            continue
        schedule = s_tir.Schedule(tvm.IRModule({"main": func}))
        decisions = Decisions(decided)
        try:
            schedule = rule.run(schedule, target, decisions)
        except (NotApplicable, s_tir.ScheduleError, InternalError) as reason:
            # InternalError: primitives check some preconditions only by assertion.  The schedule is
            # dropped whole, so a half-done change is too.
            logger.debug("rule %s does not fit: %s", rule.name, reason)
            continue
        decisions.check_all_used()
        return Scheduled(schedule.mod["main"], rule.name, decisions.space)
    if decided:
        raise UnknownDecision("no rule fits the function with what was decided")
    return Scheduled(func, UNSCHEDULED, {})
