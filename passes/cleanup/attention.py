"""Attention that is written out, as ``scaled_dot_product_attention``; repeated keys and values as GQA.

Vaswani et al. 2017 (arXiv 1706.03762) eq. 1; Ainslie et al. 2023 (arXiv 2305.13245) for the groups.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from graphopt.passes.cleanup.facts import axis_of, is_floating, is_tensor, same_shape, same_size
from graphopt.rewriting.match import Emitter, Match, Value, Verdict
from graphopt.rewriting.pattern import PatternOps
from graphopt.rewriting.rule import RewriteRule

aten = torch.ops.aten


class EagerAttention(RewriteRule):
    """matmul(softmax(matmul(q, k.T) * scale + mask), v) -> scaled_dot_product_attention(q, k, v)

    A row of scores that is -inf throughout has no probabilities: written out it is NaN, unless a guard
    replaces it by 0, as decompositions of torch's operator do, and as torch's operator does itself.
    The guards are part of the pattern; without one, the fused form gives 0 where there was NaN.
    """

    def pattern(
        self, op: PatternOps, q: Any, kt: Any, v: Any, s: Any, d: Any, m: Any, m2: Any, axis: Any, z: Any,
        p: Any,
    ) -> Any:  # fmt: skip
        def where(*operands: Any) -> Any:
            return op.any_of(("where",), *operands)

        scores = op.any_of(("matmul", "bmm"), q, kt)
        scaled = op.either(op.mul(scores, s), op.div(scores, d), scores)
        masked = op.either(op.add(op.add(scaled, m), m2), op.add(scaled, m), scaled)
        plain = op.softmax(masked, axis, ...)

        guarded_by_nan = where(op.isnan(op.named("p", op.softmax(masked, axis, ...))), 0.0, p)

        known = op.named("z", op.add(scaled, m))
        any_seen = op.any_of(("any",), op.logical_not(op.eq(known, -math.inf)), op.any, True)
        zeros = op.either(0.0, op.full_like(op.any, 0, ...), op.zeros_like(op.any, ...))
        guarded_by_scores = where(op.logical_not(any_seen), zeros, op.softmax(z, axis, ...))

        probabilities = op.either(plain, op.to(plain, ...), guarded_by_nan, guarded_by_scores)
        return op.any_of(("matmul", "bmm"), probabilities, v)

    def check(self, match: Match) -> Verdict:
        return _check(match)

    def rewrite(self, op: Emitter, match: Match) -> Value:
        return _fused(op, match)


def _scale(match: Match) -> float | None:
    if match.bindings.get("s") is not None:
        return match.number("s")
    if match.bindings.get("d") is not None:
        d = match.number("d")
        return None if not d else 1.0 / d
    return 1.0


def _check(match: Match) -> Verdict:
    q, kt, v = match.q, match.kt, match.v
    if not (is_floating(q) and is_floating(kt) and is_floating(v)) or not q.dtype == kt.dtype == v.dtype:
        return match.fail("query, key and value are not of one floating-point dtype")
    if match.result.dtype != q.dtype:
        return match.fail("the result has another dtype than the query")
    if q.rank < 3 or not q.rank == kt.rank == v.rank:
        return match.fail("query, key and value differ in rank, or have no batch axis")
    if not (same_shape(q.shape[:-2], kt.shape[:-2]) and same_shape(q.shape[:-2], v.shape[:-2])):
        return match.fail("the batch axes of query, key and value differ")
    if axis_of(match.axis, q.rank) != q.rank - 1:
        return match.fail("the softmax is not over the keys")
    if any(n.meta["val"].dtype not in (q.dtype, torch.float32, torch.bool) for n in match.nodes):
        return match.fail("a part is computed in another dtype")
    scale = _scale(match)
    if scale is None or not math.isfinite(scale):
        return match.fail("the scale is not one finite number")
    scores = [*q.shape[:-1], kt.shape[-1]]
    for name in ("m", "m2"):
        mask = match.bindings.get(name)
        if mask is None:
            continue
        if not is_tensor(mask) or mask.dtype != q.dtype:
            return match.fail("the mask is not a tensor of the query's dtype")
        if mask.rank < 2 or mask.rank > len(scores):
            return match.fail("the mask has not the axes of the scores")
        for mine, size in zip(reversed(mask.shape), reversed(scores), strict=False):
            if not (same_size(mine, 1) or same_size(mine, size)):
                return match.fail("the mask does not broadcast to the scores")
    return match.ok()


def _fused(op: Emitter, match: Match) -> Value:
    rank = match.q.rank
    key = op.permute(match.kt, [*range(rank - 2), rank - 1, rank - 2])
    mask = match.bindings.get("m")
    second = match.bindings.get("m2")
    if second is not None:
        mask = op.add(mask, second)
    return op.scaled_dot_product_attention(match.q, key, match.v, mask, 0.0, False, scale=_scale(match))


class ScaledOperands(RewriteRule):
    """attention(q * a, k * b, v, scale=s) -> attention(q, k, v, scale=s * a * b)

    torch's own decomposition and its ONNX exporter give half of the scale to each.
    """

    def pattern(
        self, op: PatternOps, q: Any, k: Any, v: Any, m: Any, causal: Any, s: Any, gqa: Any, a: Any, b: Any,
        da: Any, db: Any, axes: Any,
    ) -> Any:  # fmt: skip
        query = op.either(op.mul(q, a), op.div(q, da), q)
        key = op.either(
            op.mul(k, b), op.div(k, db), op.permute(op.either(op.mul(k, b), op.div(k, db)), axes), k
        )
        return op.scaled_dot_product_attention(query, key, v, m, 0.0, causal, scale=s, enable_gqa=gqa)

    def check(self, match: Match) -> Verdict:
        names = [n for n in ("a", "b", "da", "db") if n in match.bindings]
        if not names:
            return match.fail("neither query nor key is scaled")
        if match.s is None:
            return match.fail("the scale is the default one")
        for name in names:
            number = match.number(name)
            if number is None or not abs(number) < float("inf") or (name in ("da", "db") and number == 0):
                return match.fail("the factor is not one number")
        for value in (match.q, match.k):
            if not is_floating(value) or value.dtype != match.result.dtype:
                return match.fail("a factor changes the dtype")
        return match.ok()

    def rewrite(self, op: Emitter, match: Match) -> Value:
        scale = float(match.s)
        for name, power in (("a", 1), ("b", 1), ("da", -1), ("db", -1)):
            if name in match.bindings:
                scale *= float(match.number(name) or 0.0) ** power
        key = op.permute(match.k, match.axes) if "axes" in match.bindings else match.k
        return op.scaled_dot_product_attention(
            match.q, key, match.v, match.m, 0.0, match.causal, scale=scale, enable_gqa=match.gqa
        )


class GroupedQueries(RewriteRule):
    """attention(q, repeat(k), repeat(v)) -> attention(q, k, v, enable_gqa=True)

    The repeat is unsqueeze, expand and reshape, or repeat_interleave: each head stands ``n`` times
    in a row.  A repeat of the whole block of heads is another order and is refused.
    """

    def pattern(
        self, op: PatternOps, q: Any, k: Any, v: Any, m: Any, causal: Any, s: Any, ka: Any, va: Any,
    ) -> Any:  # fmt: skip
        def repeated(x: Any, axis: Any, name: str) -> Any:
            expanded = op.expand(op.unsqueeze(x, axis), op.any, ...)
            return op.either(
                op.named(name, op.reshape(expanded, op.any)),
                op.named(name, op.flatten(expanded, ...)),
                op.named(name, op.repeat_interleave(x, op.any, axis, ...)),
            )

        return op.scaled_dot_product_attention(
            q, repeated(k, ka, "keys"), repeated(v, va, "values"), m, 0.0, causal, scale=s
        )

    def check(self, match: Match) -> Verdict:
        for x, axis, repeated in ((match.k, match.ka, match.keys), (match.v, match.va, match.values)):
            if not is_tensor(x) or x.rank != 4 or repeated.rank != 4:
                return match.fail("keys and values are not [batch, heads, positions, channels]")
            interleaved = repeated.node.target.overloadpacket is aten.repeat_interleave
            if axis_of(axis, 4 if interleaved else 5) != (1 if interleaved else 2):
                return match.fail("the heads are not repeated one by one")
            if not same_shape([x.shape[0], *x.shape[2:]], [repeated.shape[0], *repeated.shape[2:]]):
                return match.fail("an axis other than the heads is repeated")
            if not isinstance(x.shape[1], int) or not isinstance(repeated.shape[1], int):
                return match.fail("the number of heads is not known")
            if x.shape[1] == 0 or repeated.shape[1] % x.shape[1]:
                return match.fail("the heads are not repeated evenly")
        if not same_size(match.k.shape[1], match.v.shape[1]):
            return match.fail("keys and values have different numbers of heads")
        if not (match.q.rank == 4 and same_size(match.q.shape[1], match.keys.shape[1])):
            return match.fail("the query has another number of heads")
        return match.ok()

    def rewrite(self, op: Emitter, match: Match) -> Value:
        m = match
        return op.scaled_dot_product_attention(m.q, m.k, m.v, m.m, 0.0, m.causal, scale=m.s, enable_gqa=True)
