"""Applies rules to a program until none fits any more."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from graphopt.errors import GraphoptError, PassError
from graphopt.ir.program import Program
from graphopt.ir.provenance import origin
from graphopt.ir.rewriter import Rewriter
from graphopt.rewriting.match import Emitter, Match, Value
from graphopt.rewriting.matcher import Bindings, Matcher, packet_of
from graphopt.rewriting.pattern import anchors
from graphopt.rewriting.rule import RewriteRule, apply_rewrite, compiled_pattern
from graphopt.rewriting.statistics import RuleStatistics


@dataclass(frozen=True)
class NearMatch:
    """A place where a pattern began to fit and then did not.

    Attributes:
        rule: the rule's name.
        node: the node where the pattern's result would be.
        layer: the user's layer there.
        reason: what stopped it.
        matched: operators of the pattern that had fitted by then.
    """

    rule: str
    node: str
    layer: str | None
    reason: str
    matched: int


def apply_rules(rewriter: Rewriter, rules: Sequence[RewriteRule]) -> list[RuleStatistics]:
    """Rewrites to a fixed point.

    Nodes are visited in order; where something was rewritten, the new nodes and their users are
    visited again.  Each visit tries only the rules whose last operator stands at the node, so the
    time grows with the number of nodes and not with the number of rules times nodes.

    Args:
        rewriter: edits its program.
        rules: where several fit, the first one is applied.

    Returns:
        statistics, one a rule in the same order.

    Raises:
        PassError: a rule failed, or the rules undo each other without end.
    """
    statistics = [RuleStatistics(r.name) for r in rules]
    index: dict[Any, list[int]] = {}
    for i, rule in enumerate(rules):
        for packet in anchors(compiled_pattern(rule)[0]):
            index.setdefault(packet, []).append(i)
    graph = rewriter.graph
    queue = deque(n for n in graph.nodes if n.op == "call_function" and packet_of(n) in index)
    waiting = set(queue)
    limit = 100 + 10 * len(graph.nodes)
    rewrites = 0
    while queue:
        node = queue.popleft()
        waiting.discard(node)
        if node._erased:
            continue
        for i in index.get(packet_of(node), ()):
            touched = _try_rule(rewriter, rules[i], node, statistics[i])
            if touched is None:
                continue
            rewrites += 1
            if rewrites > limit:
                raise PassError(
                    f"rule {rules[i].name!r} was applied again and again: the rules undo each other",
                    node=node.name,
                    layer=origin(node).layer,
                )
            for again in touched:
                if again.op == "call_function" and packet_of(again) in index and again not in waiting:
                    waiting.add(again)
                    queue.append(again)
            break
    return statistics


def _try_rule(
    rewriter: Rewriter, rule: RewriteRule, node: fx.Node, statistics: RuleStatistics
) -> list[fx.Node] | None:
    """Applies ``rule`` at ``node``; the nodes to visit again, or None when it did not fit."""
    start = time.perf_counter()
    statistics.tried += 1
    try:
        found = _find(rewriter.program, rule, node)
        if isinstance(found, NearMatch):
            statistics.rejected[found.reason] += 1
            return None
        match, anchor = found
        statistics.matched += 1
        return _rewrite(rewriter, rule, match, anchor)
    finally:
        statistics.seconds += time.perf_counter() - start


def _find(program: Program, rule: RewriteRule, node: fx.Node) -> tuple[Match, fx.Node] | NearMatch:
    """The first acceptable match at ``node`` and where new nodes go, or why there is none."""
    matcher = Matcher(program)
    refusal: NearMatch | None = None
    for bindings, results in matcher.match(compiled_pattern(rule), node):
        place = _insertion_point(bindings, results)
        if place is None:
            reason = "the results are used before all operands are known"
        else:
            match = Match(program, bindings.values, list(bindings.nodes), results, rule.name)
            verdict = rule.check(match)
            if verdict:
                return match, place
            reason = verdict.reason
        refusal = NearMatch(rule.name, node.name, origin(node).layer, reason, len(bindings.nodes))
    if refusal is not None:
        return refusal
    failure = matcher.failure
    return NearMatch(rule.name, node.name, origin(node).layer, failure.reason, max(failure.depth, 0))


def _insertion_point(bindings: Bindings, results: Sequence[fx.Node]) -> fx.Node | None:
    """The node before which the new code goes: after every operand, before every use of a result."""
    if len(results) == 1:
        return results[0]
    inside = set(bindings.nodes)
    last = max(results)
    users = [u for r in results for u in r.users if u not in inside]
    first_user = min(users, default=None) if users else None
    if first_user is None or last < first_user:
        return last.next
    return None


def _rewrite(rewriter: Rewriter, rule: RewriteRule, match: Match, place: fx.Node) -> list[fx.Node]:
    old = [r.node for r in match.results]
    users = [u for n in old for u in n.users]
    with rewriter.rule(rule.name, match.nodes), rewriter.before(place):
        try:
            new = apply_rewrite(rule, Emitter(rewriter), match)
        except GraphoptError:
            raise
        except Exception as error:
            raise PassError(
                f"rule {rule.name!r} failed: {type(error).__name__}: {error}",
                node=old[0].name,
                layer=origin(old[0]).layer,
            ) from error
        if len(new) != len(old):
            raise PassError(f"rule {rule.name!r} returned {len(new)} values for {len(old)} results")
        created = list(rewriter._created)
        for node, value in zip(old, new, strict=True):
            if not isinstance(value, Value):
                raise PassError(f"rule {rule.name!r} returned {value!r}, which is not a tensor of the graph")
            rewriter.replace(node, value.node)
    neighbours = [u for v in new for u in v.node.users]
    return [
        n for n in dict.fromkeys([*created, *(v.node for v in new), *users, *neighbours]) if not n._erased
    ]


def explain(program: Program, rules: Sequence[RewriteRule]) -> Iterator[NearMatch | Match]:
    """Every place where a rule's last operator stands: the match, or the reason against it.

    The program is not changed.
    """
    for rule in rules:
        wanted = anchors(compiled_pattern(rule)[0])
        for node in program.graph.nodes:
            if node.op == "call_function" and packet_of(node) in wanted:
                found = _find(program, rule, node)
                yield found if isinstance(found, NearMatch) else found[0]
