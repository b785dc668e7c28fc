"""The file of rules: what ships is right and quick to read, and what is malformed or wrong is found out."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from graphopt.errors import InputError
from graphopt.fuzz.inference import check
from graphopt.fuzz.inference.__main__ import main
from graphopt.fuzz.inference.build import DEFECT
from graphopt.fuzz.rules import DEFAULT_PATH, OperatorRule, RuleFile, load_rules
from graphopt.fuzz.rules.expressions import parse_expression
from graphopt.fuzz.rules.file import dump_rules, rule_to_json
from graphopt.fuzz.traces.record import overload_of

NEEDED = """
conv1d.default conv2d.default conv3d.default conv_transpose2d.input max_pool1d.default
max_pool2d.default max_pool3d.default avg_pool2d.default cat.default stack.default add.Tensor
mul.Tensor where.self matmul.default bmm.default linear.default addmm.default view.default
reshape.default flatten.using_ints unflatten.int permute.default transpose.int pad.default
unfold.default pixel_shuffle.default repeat.default expand.default index_select.default
gather.default slice.Tensor select.int split.Tensor sum.dim_IntList mean.dim layer_norm.default
group_norm.default embedding.default upsample_nearest2d.vec scaled_dot_product_attention.default
cumsum.default topk.default sort.default softmax.int relu.default gelu.default
""".split()


@pytest.fixture(scope="module")
def shipped() -> RuleFile:
    return load_rules()


def test_reading_the_file_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, time; start = time.process_time()\n"
        "from graphopt.fuzz.rules import load_rules\n"
        "rules = load_rules(); rules.rules('aten.conv2d.default')\n"
        "print(time.process_time() - start, [m for m in ('torch', 'z3', 'sympy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, modules = done.stdout.split(maxsplit=1)
    assert float(seconds) < 0.3
    assert modules.strip() == "[]"


def test_the_file_is_compact_and_covers_what_programs_use(shipped: RuleFile) -> None:
    assert DEFAULT_PATH.stat().st_size < 3_000_000
    covered = {rule.overload for rule in shipped.usable()}
    assert len(covered) >= 300
    assert [name for name in NEEDED if f"aten.{name}" not in covered] == []


def test_every_rule_parses_and_is_what_it_says(shipped: RuleFile) -> None:
    keys = [rule.key for rule in shipped]
    assert len(set(keys)) == len(keys)
    assert [reason for reason in shipped.missing.values() if reason.startswith(DEFECT)] == []
    for rule in shipped:
        overload_of(rule.overload)
        if rule.usable and rule.symbols:
            assert rule.holdout is not None and rule.holdout.passes(0.99)
            assert rule.records


def test_the_text_of_a_file_reads_as_the_same_file(shipped: RuleFile, tmp_path: Path) -> None:
    text = dump_rules(shipped)
    assert text == DEFAULT_PATH.read_text()
    some = shipped.rules("aten.conv2d.default")
    assert [rule_to_json(rule) for rule in some] == shipped.raw("aten.conv2d.default")


def test_a_sample_of_the_rules_holds_on_the_installed_torch(shipped: RuleFile) -> None:
    chosen = check.sample(shipped, 25, seed=5)
    assert check.check(chosen) == {}


def convolution(shipped: RuleFile) -> OperatorRule:
    return next(r for r in shipped.rules("aten.conv2d.default") if r.usable and r.results == (4,))


def test_assignments_make_calls_with_the_predicted_shapes(shipped: RuleFile) -> None:
    import torch

    rule, rng = convolution(shipped), random.Random(0)
    for _ in range(10):
        values = rule.solve({"input_1": 4, "input_2": 9}, rng)
        assert values is not None and values["input_1"] == 4 and values["input_2"] == 9
        tensors = [torch.zeros(shape, device="meta") for shape in rule.input_shapes(values)]
        args, kwargs = rule.arguments(values, tensors)
        result = overload_of(rule.overload)(*args, **kwargs)
        assert (tuple(result.shape),) == rule.output_shapes(values)


def test_impossible_bindings_and_unknown_symbols(shipped: RuleFile) -> None:
    rule = convolution(shipped)
    assert rule.solve({"input_1": 4, "weight_1": 3}, random.Random(0)) is None
    with pytest.raises(ValueError, match="no symbol"):
        rule.solve({"height": 4}, random.Random(0))


def planted(shipped: RuleFile, tmp_path: Path, rule: OperatorRule) -> Path:
    path = tmp_path / "rules.json"
    wrong = RuleFile(shipped.versions, 0, {}, {rule.overload: [rule_to_json(rule)]})
    path.write_text(dump_rules(wrong))
    return path


def test_check_accepts_what_is_right(shipped: RuleFile, tmp_path: Path) -> None:
    assert main(["--check", str(planted(shipped, tmp_path, convolution(shipped)))]) == 0


def test_check_finds_a_wrong_shape(
    shipped: RuleFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = convolution(shipped)
    ((batch, channels, _, width),) = rule.outputs
    wrong = parse_expression("(input_2 + 2*padding_0 - dilation_0*(weight_2 - 1))//stride_0 + 1")
    path = planted(shipped, tmp_path, dataclasses.replace(rule, outputs=((batch, channels, wrong, width),)))
    assert main(["--check", str(path)]) == 5
    assert "exact is" in capsys.readouterr().out


def test_check_finds_a_missing_and_a_superfluous_constraint(
    shipped: RuleFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = convolution(shipped)
    fewer = tuple(c for c in rule.constraints if "groups" not in str(c))
    assert (
        main(["--check", str(planted(shipped, tmp_path, dataclasses.replace(rule, constraints=fewer)))]) == 5
    )
    assert "precision is" in capsys.readouterr().out
    from graphopt.fuzz.rules.expressions import parse_predicate

    more = (*rule.constraints, parse_predicate("input_2 >= input_3"))
    assert (
        main(["--check", str(planted(shipped, tmp_path, dataclasses.replace(rule, constraints=more)))]) == 5
    )
    assert "recall is" in capsys.readouterr().out


def test_check_finds_a_record_that_does_not_run(
    shipped: RuleFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = convolution(shipped)
    first = rule.records[0]
    broken = dataclasses.replace(first, shapes=tuple(tuple(n + 1 for n in s) for s in first.shapes))
    path = planted(shipped, tmp_path, dataclasses.replace(rule, records=(broken, *rule.records[1:])))
    assert main(["--check", str(path)]) == 5
    assert "the record" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"format": 1}',
        '{"format": 2, "rules": {}}',
        "[" * 100_000,
        '{"format": 1, "rules": [1]}',
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rules.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_rules(path)
    assert caught.value.code == "GO-3012"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_rules(tmp_path / "absent.json")
    assert caught.value.code == "GO-3001"


MUTATIONS = {
    "inputs": [["x"], [["x", "complex", 2]], [["x", "float", "2"]], 3, [["x", "float", 2.5]]],
    "constraints": ["input_0", ["input_0 < 2"], ["nobody == 1"], [1], None],
    "outputs": [[["input_0"]], [["input_0", "nobody", "1", "1"]], [[3]], "x"],
    "template": [[], [{"tensor": -1}], [{"symbol": "a b"}], [{"eval": "x"}], None],
    "records": [[[1, 2]], [[[1], [[2]]]], [3], [[["a"], []]]],
    "results": [[4, 4], ["4"], 4],
    "attributes": [[], ["stride_0", "stride_0"], [1]],
    "floor": ["0", None, 1.5],
    "dtypes": [[["float32"]], [3]],
    "holdout": [[1], "x"],
    "index_bounds": [{"x": "1"}, {"0": "nobody"}, []],
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in MUTATIONS.items() for v in values])
def test_a_malformed_rule_is_refused(shipped: RuleFile, tmp_path: Path, field: str, value: object) -> None:
    raw = rule_to_json(convolution(shipped))
    path = tmp_path / "rules.json"
    for broken in ({**raw, field: value}, {k: v for k, v in raw.items() if k != "key"}):
        file = RuleFile(shipped.versions, 0, {}, {"aten.conv2d.default": [broken]})
        path.write_text(dump_rules(file))
        with pytest.raises(InputError) as caught:
            list(load_rules(path))
        assert caught.value.code == "GO-3012"
    assert main(["--check", str(path)]) == 3


def test_records_of_unusable_rules_are_there(shipped: RuleFile) -> None:
    unusable = [rule for rule in shipped if not rule.usable]
    assert unusable and all(rule.reason for rule in unusable)
    with_records = [rule for rule in unusable if rule.records]
    assert len(with_records) > len(unusable) / 2
    for rule in itertools.islice(with_records, 20):
        values = dict(zip(rule.symbols, rule.records[0].values, strict=True))
        assert rule.arguments(values)


def test_the_file_is_json(shipped: RuleFile) -> None:
    assert set(json.loads(DEFAULT_PATH.read_text())) == {"format", "seed", "versions", "missing", "rules"}
