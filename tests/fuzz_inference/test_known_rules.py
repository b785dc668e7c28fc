"""Rules that are known from documentation are inferred from a handful of calls."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from graphopt.fuzz.inference.infer import infer
from graphopt.fuzz.inference.partial import partial_operators
from graphopt.fuzz.rules.expressions import evaluator, parse_expression, parse_predicate
from graphopt.fuzz.rules.rule import OperatorRule
from graphopt.fuzz.traces.record import Record, normalised, outputs_of, overload_of


def record(overload: str, *args: Any, **kwargs: Any) -> Record:
    """The record of a call; a tuple stands for a tensor of that shape."""
    values = [torch.zeros(a) if isinstance(a, tuple) else a for a in args]
    values = [
        [torch.zeros(i) for i in v] if isinstance(v, list) and isinstance(v[0], tuple) else v for v in values
    ]
    operator = overload_of(overload)
    return Record(
        overload, normalised(operator, values, kwargs), outputs_of(operator(*values, **kwargs)), "test"
    )


def inferred(*records: Record) -> OperatorRule:
    (partial,) = partial_operators(records)
    rule = infer(partial, seed=0)
    assert rule.usable, rule.reason
    return rule


def agrees(rule: OperatorRule, sizes: Sequence[str], constraints: Sequence[str]) -> None:
    """The rule accepts the calls that the documentation does, and gives them the documented sizes."""
    documented = [evaluator(parse_predicate(text)) for text in constraints]
    expected = [evaluator(parse_expression(text)) for text in sizes]
    rng, accepted = random.Random(0), 0
    for turn in range(3000):
        values = {
            s: rng.randint(1, 12) if s not in rule.attributes else rng.randint(0, 4) for s in rule.symbols
        }
        if turn % 2:
            values = rule.solve({}, rng) or values
        if turn % 4 == 3:
            values[rng.choice(rule.symbols)] += rng.choice((-1, 1))
        if any(values[s] < 1 for tensor in rule.inputs for s in tensor.sizes):
            continue
        assert rule.holds(values) == all(test(values) for test in documented), values
        if rule.holds(values):
            accepted += 1
            assert list(itertools.chain(*rule.output_shapes(values))) == [e(values) for e in expected]
    assert accepted > 700


def test_convolution() -> None:
    conv = "aten.conv2d.default"
    rule = inferred(
        record(conv, (2, 4, 9, 8), (6, 2, 3, 3), None, [1, 1], [0, 0], [1, 1], 2),
        record(conv, (2, 3, 9, 8), (5, 3, 3, 2), None, [2, 1], [1, 0], [1, 2], 1),
        record(conv, (1, 4, 7, 7), (4, 1, 3, 3), None, [1, 2], [1, 1], [2, 1], 4),
    )
    spatial = "(input_{0} + 2*padding_{1} - dilation_{1}*(weight_{0} - 1) - 1)//stride_{1} + 1"
    agrees(
        rule,
        ["input_0", "weight_0", spatial.format(2, 0), spatial.format(3, 1)],
        [
            "input_1 == weight_1*groups",
            "weight_0%groups == 0",
            "groups >= 1",
            *(f"{name}_{axis} >= 1" for name in ("stride", "dilation") for axis in (0, 1)),
            "padding_0 >= 0",
            "padding_1 >= 0",
            "input_2 + 2*padding_0 >= dilation_0*(weight_2 - 1) + 1",
            "input_3 + 2*padding_1 >= dilation_1*(weight_3 - 1) + 1",
        ],
    )


def test_pooling_with_sizes_rounded_up() -> None:
    pool = "aten.max_pool1d.default"
    rule = inferred(
        record(pool, (2, 3, 9), [3], [2], [1], [1], True), record(pool, (1, 3, 8), [2], [3], [0], [2], True)
    )
    span = "dilation_0*(kernel_size_0 - 1)"
    up = f"(self_2 + 2*padding_0 - {span} - 1 + stride_0 - 1)//stride_0"
    agrees(
        rule,
        ["self_0", "self_1", f"min({up}, (self_2 + padding_0 - 1)//stride_0) + 1"],
        [
            "kernel_size_0 >= 1",
            "stride_0 >= 1",
            "dilation_0 >= 1",
            "padding_0 >= 0",
            "kernel_size_0 >= 2*padding_0",
            f"{up} >= 0",
        ],
    )


def test_broadcasting() -> None:
    rule = inferred(record("aten.add.Tensor", (2, 3), (2, 3)), record("aten.add.Tensor", (2, 1), (1, 3)))
    agrees(
        rule,
        ["max(self_0, other_0)", "max(self_1, other_1)"],
        [f"self_{i} == other_{i} or self_{i} == 1 or other_{i} == 1" for i in (0, 1)],
    )


def test_a_view_with_one_size_left_open() -> None:
    rule = inferred(
        record("aten.view.default", (4, 6), [2, -1]), record("aten.view.default", (3, 4), [6, -1])
    )
    agrees(rule, ["size_0", "self_0*self_1//size_0"], ["self_0*self_1%size_0 == 0", "size_0 >= 1"])


def test_concatenation() -> None:
    rule = inferred(record("aten.cat.default", [(2, 3), (4, 3), (1, 3)]))
    agrees(
        rule,
        ["tensors_0_0 + tensors_1_0 + tensors_2_0", "tensors_0_1"],
        ["tensors_0_1 == tensors_1_1", "tensors_0_1 == tensors_2_1"],
    )


def test_pixel_shuffle() -> None:
    rule = inferred(record("aten.pixel_shuffle.default", (2, 12, 3, 4), 2))
    agrees(
        rule,
        [
            "self_0",
            "self_1//(upscale_factor*upscale_factor)",
            "self_2*upscale_factor",
            "self_3*upscale_factor",
        ],
        ["upscale_factor >= 1", "self_1%(upscale_factor*upscale_factor) == 0"],
    )


@pytest.mark.parametrize("index", [0, 3])
def test_indices_stay_below_the_size_that_they_index(index: int) -> None:
    """``index_select`` along an axis, ``embedding`` into its table."""
    if index == 0:
        table, ids = torch.zeros(7, 3), torch.zeros(2, 4, dtype=torch.int64)
        call = ("aten.embedding.default", [table, ids])
        bound = "weight_0"
    else:
        table, ids = torch.zeros(5, 3), torch.zeros(4, dtype=torch.int64)
        call = ("aten.index_select.default", [table, 1, ids])
        bound = "self_1"
    operator = overload_of(call[0])
    rule = inferred(
        Record(call[0], normalised(operator, call[1], {}), outputs_of(operator(*call[1])), "test")
    )
    assert {i: str(e) for i, e in rule.index_bounds.items()} == {1: bound}
