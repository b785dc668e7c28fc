"""Generation: the same case everywhere, which eager torch runs, and templates that stay what they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import lru_cache, partial

import pytest
import torch

from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.generation import Options, generate, ruled
from graphopt.fuzz.generation.blocks import BLOCKS, add_block
from graphopt.fuzz.generation.choices import RandomChoices, binned, weighted
from graphopt.fuzz.generation.features import features
from graphopt.fuzz.generation.generate import generate_around
from graphopt.fuzz.generation.growth import grow_before
from graphopt.fuzz.generation.patterns import count, pattern, rule_names, rules, vocabulary
from graphopt.fuzz.generation.sketch import Sketch
from graphopt.fuzz.generation.specs import SPECS
from graphopt.fuzz.graphs import Graph, Ref, build_module, build_program, draw_inputs, operator_named
from graphopt.ir.rewriter import Rewriter
from graphopt.rewriting.driver import apply_rules

CASES = 200
STATIC = Options(dynamic=0.0)


@lru_cache(maxsize=1)
def drawn() -> tuple[FuzzCase, ...]:
    return tuple(generate(11, i) for i in range(CASES))


def fires(case: FuzzCase) -> bool:
    assert case.rule is not None
    rewriter = Rewriter(build_program(case.graph, case.seed), "test")
    (statistics,) = apply_rules(rewriter, [rules()[case.rule]])
    return bool(statistics.matched)


class Finite(torch.fx.Interpreter):
    def run_node(self, node: torch.fx.Node) -> object:
        value = super().run_node(node)
        for tensor in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                assert tensor.isfinite().all(), node
                assert tensor.numel() <= Options().elements
        return value


def test_eager_torch_runs_every_case_and_every_value_is_finite() -> None:
    for case in drawn():
        inputs = draw_inputs(case.graph, case.seed)
        with torch.no_grad():
            Finite(build_module(case.graph, case.seed)).run(*inputs)


def test_programs_are_made_of_cases() -> None:
    for case in drawn()[::8]:
        program = build_program(case.graph, case.seed)
        program.check()
        assert len(program.output_nodes) == len(case.graph.outputs)
        assert FuzzCase.from_dict(json.loads(json.dumps(case.to_dict()))) == case


SCRIPT = """
from graphopt.fuzz.generation import generate
print(*[generate(11, i).graph.digest() for i in (7, 3, 12, 0, 5, 21)])
"""


def test_another_process_draws_the_same() -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == [drawn()[i].graph.digest() for i in (7, 3, 12, 0, 5, 21)]


def test_seeds_and_indices_draw_different_cases() -> None:
    digests = {case.graph.digest() for case in drawn()}
    assert len(digests) == CASES
    assert generate(12, 3).graph.digest() not in digests
    assert generate(11, 3).label == "11/3"


def test_sources_have_their_shares() -> None:
    found = Counter(case.origin for case in drawn())
    total = sum(weight for _, weight in Options().sources)
    for source, weight in Options().sources:
        expected = CASES * weight / total
        assert abs(found[source] - expected) <= 3.5 * expected**0.5 + 1, found
    expectations = Counter(case.expects for case in drawn() if case.origin == "template")
    assert min(expectations["fires"], expectations["refuses"]) >= 5


@pytest.mark.parametrize(
    ("feature", "least"),
    [
        ("shared weight", 8),
        ("several users", 80),
        ("intermediate returned", 25),
        ("output twice", 4),
        ("input returned", 3),
        ("dead code", 3),
        ("unused input", 3),
        ("odd layout", 15),
        ("size 1", 60),
        ("size 0", 1),
        ("odd size", 80),
        ("number as operand", 20),
        ("several dtypes", 25),
        ("dynamic axis", 1),
        ("float16", 8),
        ("bfloat16", 8),
        ("float64", 5),
        ("uint8", 1),
        ("int32", 3),
        ("int64", 12),
        ("bool", 8),
    ],
)
def test_features_occur(feature: str, least: int) -> None:
    found = sum(feature in features(case) for case in drawn())
    assert found >= least


def test_many_operators_occur() -> None:
    assert len({name for case in drawn() for name in case.graph.operators}) >= 150


# -- templates ----------------------------------------------------------------------------------


def sample(rule: str) -> list[tuple[str, int]]:
    place = sum(map(ord, rule))
    return [(e, place % count(rule, e)) for e in ("fires", "refuses")]  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", rule_names()[::3])
def test_a_template_keeps_its_expectation_inside_of_another_graph(rule: str) -> None:
    for expects, index in sample(rule):
        case = generate_around(
            pattern(rule, expects, index),  # type: ignore[arg-type]
            5,
            index,
            replace(STATIC, intruding=0.0, screened=False),
        )
        if case is None:
            continue  # test_few_templates_are_not_drawn says which
        assert (case.rule, case.expects) == (rule, expects)
        assert fires(case) == (expects == "fires"), case.graph


def test_an_intermediate_value_gets_no_other_user_unless_asked_for() -> None:
    pattern_ = pattern("silu", "fires", 0)
    for seed in range(12):
        case = generate_around(pattern_, seed, 0, replace(STATIC, intruding=0.0, screened=False))
        assert case is not None
        (product,) = [c for c in case.graph.calls if _is_product_with_sigmoid(case.graph, c.name)]
        calls = {c.name: c for c in case.graph.calls}
        (gate,) = [
            u
            for u, x in (product.uses, product.uses[::-1])
            if _operator(case.graph, u) == "aten.sigmoid.default" and calls[u].uses == (x,)
        ]
        assert case.graph.users()[gate] == [product.name] and gate not in case.graph.outputs
    intruded = [
        generate_around(pattern_, seed, 0, replace(STATIC, intruding=1.0, screened=False))
        for seed in range(4)
    ]
    assert all(case is not None and case.rule is None and case.expects is None for case in intruded)


def _operator(graph: Graph, name: str) -> str:
    return next((c.operator for c in graph.calls if c.name == name), "")


def _is_product_with_sigmoid(graph: Graph, name: str) -> bool:
    call = next(c for c in graph.calls if c.name == name)
    if call.operator != "aten.mul.Tensor" or len(call.uses) != 2:
        return False
    for gate, x in (call.uses, call.uses[::-1]):
        inner = next((c for c in graph.calls if c.name == gate), None)
        if inner is not None and inner.operator == "aten.sigmoid.default" and inner.uses == (x,):
            return True
    return False


def test_around_a_near_miss_stands_no_operator_of_the_pattern() -> None:
    assert {"aten.sigmoid", "aten.mul"} <= vocabulary("silu")
    assert "aten.squeeze" in vocabulary("reshape-of-reshape")  # inside of the pattern only
    near_miss = pattern("silu", "refuses", 0)
    for seed in range(8):
        case = generate_around(near_miss, seed, 0, STATIC)
        assert case is not None
        found = Counter(o.rpartition(".")[0] for o in case.graph.operators)
        assert found["aten.sigmoid"] == 1 and found["aten.mul"] == 1


def test_a_near_miss_that_needs_dynamic_axes_gets_them() -> None:
    index = next(
        i
        for i in range(count("reshape-of-reshape", "refuses"))
        if pattern("reshape-of-reshape", "refuses", i).needs_dynamic_axes
    )
    case = generate_around(pattern("reshape-of-reshape", "refuses", index), 1, 0, STATIC)
    assert case is not None and case.graph.dynamic_names() and not fires(case)


# -- parts ---------------------------------------------------------------------------------------


def test_every_operator_of_the_table_exists_and_grows() -> None:
    left = {spec.operator for spec in SPECS}
    for name in left:
        operator_named(name)
    for i in range(300):
        sketch = Sketch(RandomChoices("table", i), i)
        rank = i % 6
        dtype = ("float32", "float32", "int64", "bool")[i // 6 % 4]
        first = 4 if i // 24 % 2 else 1
        x = sketch.value(sketch.input((first, 4, 4, 4, 4)[:rank], dtype))
        for spec in SPECS:
            if spec.operator in left and spec.accepts(x):
                found = sketch.attempt(partial(spec.grow, sketch, x))
                left -= {c.operator for c in sketch.calls} if found else set()
        if not left:
            break
    assert left == set()


def test_an_operator_before_an_input_keeps_what_follows() -> None:
    moved = 0
    for i in range(40):
        sketch = Sketch(RandomChoices("before", i), i)
        x = sketch.input((2, 3), "float32")
        y = sketch.call("aten.relu.default", x)
        assert y is not None
        if grow_before(sketch):
            moved += 1
            assert x.name not in sketch.leaves
            relu = next(c for c in sketch.calls if c.name == y.name)
            assert relu.uses[0] in {c.name for c in sketch.calls}
            assert sketch.values[y.name].shape == (2, 3)
            sketch.graph((y.name,))  # names are defined before they are read
    assert moved >= 30


def test_what_is_not_finite_or_refused_leaves_no_trace() -> None:
    sketch = Sketch(RandomChoices(1))
    x = sketch.input((2, 3), "float32")
    zero = sketch.call("aten.sub.Tensor", x, x)
    before = sketch.graph(("x1",))
    assert zero is not None
    assert sketch.call("aten.log.default", zero) is None
    assert sketch.call("aten.mm.default", x, x) is None
    assert sketch.call("aten.expand.default", x, (5000, 2, 3)) is None
    assert sketch.attempt(lambda: sketch.call("aten.mm.default", x, sketch.input((7, 7), "float32"))) is None
    assert sketch.graph(("x1",)) == before
    assert sorted(sketch.dropped.values()) == [1, 1, 2]


def test_attributes_fall_into_bins_of_equal_shares() -> None:
    choices = RandomChoices("bins")
    found = [binned(choices, 1, 64) for _ in range(4000)]
    assert min(found) == 1 and max(found) == 64
    shares = Counter(n.bit_length() for n in found)
    assert all(abs(shares[b] - 4000 / 7) < 120 for b in range(1, 8)), shares
    assert {binned(choices, -2, 3) for _ in range(200)} == set(range(-2, 4))
    assert binned(choices, 5, 5) == 5


def test_weights_are_shares() -> None:
    choices = RandomChoices("weights")
    found = Counter(weighted(choices, (("a", 1.0), ("b", 3.0), ("c", 0.0), ("d", 6.0))) for _ in range(2000))
    assert found["c"] == 0
    assert abs(found["a"] - 200) < 60 and abs(found["d"] - 1200) < 110


def test_a_reference_reads_what_it_says() -> None:
    sketch = Sketch(RandomChoices(2))
    x = sketch.input((4, 2), "int64", "integers", high=8)
    assert sketch.value(Ref(x.name)).kind == "i" and int(sketch.value(x).tensor.max()) <= 8


# -- rules and blocks ----------------------------------------------------------------------------


def test_order_of_cases_does_not_matter() -> None:
    """Solvers and caches of earlier cases must not decide anything."""
    inferred = Options(sources=(("inferred", 1.0),), dynamic=0.0, screened=False)
    forward = [generate(3, i, inferred).graph for i in range(12)]
    assert [generate(3, i, inferred).graph for i in reversed(range(12))] == forward[::-1]


@pytest.mark.parametrize("source", ["recorded", "inferred"])
def test_operators_of_rules_occur(source: str) -> None:
    rules_ = ruled.table()
    assert rules_ is not None
    options = Options(sources=((source, 1.0),), dynamic=0.0, screened=False)  # type: ignore[arg-type]
    cases = [generate(2, i, options) for i in range(30)]
    assert {case.origin for case in cases} == {source}
    known = set(rules_.overloads)
    from_rules = sum(name in known for case in cases for name in case.graph.operators)
    assert from_rules >= 0.5 * sum(len(case.graph.operators) for case in cases)


def test_rules_draw_nothing_that_writes_or_is_random() -> None:
    rules_ = ruled.table()
    assert rules_ is not None
    for name in rules_.overloads:
        schema = operator_named(name)._schema
        assert not schema.is_mutable
        assert torch.Tag.nondeterministic_seeded not in operator_named(name).tags


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_run_and_are_programs(name: str) -> None:
    for seed in range(3):
        sketch = Sketch(RandomChoices(name, seed), seed)
        block = add_block(sketch, name)
        assert block is not None
        assert bool(block.cache) == (name in ("prefill", "decode", "sliding window"))
        outputs = (block.result.name, *(ref.name for ref in block.cache))
        build_program(sketch.graph(outputs), seed).check()


def test_decoding_reads_a_cache_and_returns_a_longer_one() -> None:
    sketch = Sketch(RandomChoices("cache", 1), 1)
    block = add_block(sketch, "decode")
    assert block is not None
    key = sketch.value(block.cache[0])
    (cat,) = [c for c in sketch.calls if c.name == key.name]
    past = sketch.values[cat.uses[0]]
    assert cat.operator == "aten.cat.default" and cat.uses[0] in sketch.leaves
    assert key.shape[2] == past.shape[2] + 1
