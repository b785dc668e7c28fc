"""What a schedule rule is, and how rules are tried.

A rule looks at one TensorIR function and either declines or rewrites its loops: it may never change
what the function computes.  Rules choose by the target's features.  They are tried in order; the
first that accepts wins, and its name is kept on the function for the artifact's list of kernels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import tvm
from tvm import s_tir, tirx
from tvm.error import InternalError

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
    apply: Callable[[s_tir.Schedule, Target], s_tir.Schedule | None]


def schedule_function(
    func: tirx.PrimFunc, target: Target, rules: Iterable[ScheduleRule]
) -> tuple[tirx.PrimFunc, str]:
    """The function scheduled by the first rule that fits, and that rule's name.

    A function that no rule fits comes back unchanged with the name ``unscheduled``: slow and right.
    """
    for rule in rules:
        if not rule.applies(func, target):
            continue
        schedule = s_tir.Schedule(tvm.IRModule({"main": func}))
        try:
            schedule = rule.apply(schedule, target) or schedule
        except (NotApplicable, s_tir.ScheduleError, InternalError) as reason:
            # InternalError: primitives check some preconditions only by assertion.  The schedule is
            # dropped whole, so a half-done change is too.
            logger.debug("rule %s does not fit: %s", rule.name, reason)
            continue
        return schedule.mod["main"], rule.name
    return func, UNSCHEDULED
