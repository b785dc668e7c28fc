"""The file of rules: JSON, in a stable order, read at once and understood rule by rule.

A rule is parsed when its overload is asked for: reading the file takes milliseconds, and neither
torch nor Z3 is imported for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphopt.errors import InputError
from graphopt.files import existing_file
from graphopt.fuzz.rules.arguments import from_json, to_json
from graphopt.fuzz.rules.expressions import parse_expression, parse_predicate, symbols
from graphopt.fuzz.rules.rule import ConcreteRecord, HoldOut, OperatorRule, TensorInput

FORMAT = 1
DEFAULT_PATH = Path(__file__).resolve().parent.parent / "rules.json"
"""The file that comes with graphopt."""


@dataclass
class RuleFile:
    """All rules of a file.

    Attributes:
        versions: of the packages that the rules were inferred with.
        seed: that they were inferred with.
        missing: overloads that were seen and have no rule at all, with the reason.
    """

    versions: Mapping[str, str]
    seed: int
    missing: Mapping[str, str]
    _raw: dict[str, list[Any]]
    _parsed: dict[str, tuple[OperatorRule, ...]] = field(default_factory=dict)

    def overloads(self) -> tuple[str, ...]:
        """Names of the overloads that have rules, usable or not, in order."""
        return tuple(sorted(self._raw))

    def rules(self, overload: str) -> tuple[OperatorRule, ...]:
        """The rules of an overload, those seen most often first; none for an unknown overload.

        Raises:
            InputError: GO-3012, a rule is malformed.
        """
        if overload not in self._parsed:
            raw = self._raw.get(overload, [])
            self._parsed[overload] = tuple(_rule(overload, value) for value in raw)
        return self._parsed[overload]

    def __iter__(self) -> Iterator[OperatorRule]:
        for overload in self.overloads():
            yield from self.rules(overload)

    def usable(self) -> Iterator[OperatorRule]:
        """The rules whose constraints and shapes can be relied on."""
        return (rule for rule in self if rule.usable)

    def raw(self, overload: str) -> list[Any]:
        """The rules of an overload as JSON holds them."""
        return self._raw.get(overload, [])


def load_rules(path: str | os.PathLike[str] = DEFAULT_PATH) -> RuleFile:
    """The rules of a file.

    Raises:
        InputError: GO-3001, there is no such file; GO-3012, it is not a file of rules.
    """
    path = existing_file(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is not JSON: {error}", code="GO-3012") from None
    match value:
        case {
            "format": 1,
            "seed": int(seed),
            "versions": dict(versions),
            "missing": dict(missing),
            "rules": dict(rules),
        } if all(isinstance(r, list) for r in rules.values()):
            return RuleFile(versions, seed, missing, rules)
        case {"format": int(number)} if number != FORMAT:
            raise InputError(
                f"{str(path)!r} has format {number}; this version reads format {FORMAT}", code="GO-3012"
            )
    raise InputError(f"{str(path)!r} is not a file of rules", code="GO-3012")


def dump_rules(rules: RuleFile) -> str:
    """The text of a file, a line a rule."""
    head = {
        "format": FORMAT,
        "seed": rules.seed,
        "versions": dict(rules.versions),
        "missing": dict(sorted(rules.missing.items())),
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    blocks = []
    for overload in rules.overloads():
        entries = ",\n".join(json.dumps(raw, separators=(",", ":")) for raw in rules.raw(overload))
        blocks.append(f"{json.dumps(overload)}: [\n{entries}\n]")
    return "{\n" + "\n".join(lines) + '\n"rules": {\n' + ",\n".join(blocks) + "\n}\n}\n"


def rule_to_json(rule: OperatorRule) -> dict[str, Any]:
    """A rule as the file holds it."""
    raw: dict[str, Any] = {
        "key": rule.key,
        "template": [to_json(t) for t in rule.template],
        "inputs": [[t.name, t.kind, len(t.sizes)] for t in rule.inputs],
        "attributes": list(rule.attributes),
        "floor": rule.floor,
        "constraints": [str(c) for c in rule.constraints],
        "results": list(rule.results),
        "outputs": [[str(e) for e in sizes] for sizes in rule.outputs],
        "dtypes": [[list(inputs), list(outputs)] for inputs, outputs in rule.dtypes],
        "records": [[list(r.values), [list(s) for s in r.shapes]] for r in rule.records],
        "usable": rule.usable,
        "sources": list(rule.sources),
    }
    if rule.index_bounds:
        raw["index_bounds"] = {str(i): str(e) for i, e in sorted(rule.index_bounds.items())}
    if rule.holdout is not None:
        h = rule.holdout
        raw["holdout"] = [h.valid, h.invalid, round(h.precision, 4), round(h.recall, 4), round(h.exact, 4)]
    if rule.reason:
        raw["reason"] = rule.reason
    return raw


def _rule(overload: str, raw: Any) -> OperatorRule:
    try:
        inputs = tuple(_input(*tensor) for tensor in raw["inputs"])
        holdout = raw.get("holdout")
        rule = OperatorRule(
            overload=overload,
            key=_text(raw["key"]),
            template=tuple(from_json(t) for t in raw["template"]),
            inputs=inputs,
            attributes=tuple(map(_text, raw["attributes"])),
            floor=_integer(raw["floor"]),
            constraints=tuple(map(parse_predicate, raw["constraints"])),
            results=tuple(None if r is None else _integer(r) for r in raw["results"]),
            outputs=tuple(tuple(map(parse_expression, sizes)) for sizes in raw["outputs"]),
            dtypes=tuple((tuple(map(_text, i)), tuple(map(_text, o))) for i, o in raw["dtypes"]),
            index_bounds={int(i): parse_expression(e) for i, e in raw.get("index_bounds", {}).items()},
            records=tuple(_record(*record) for record in raw["records"]),
            holdout=None if holdout is None else HoldOut(*holdout),
            usable=raw["usable"] is True,
            reason=_text(raw.get("reason", "")),
            sources=tuple(map(_text, raw["sources"])),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"a rule of {overload!r} is malformed: {error!r}", code="GO-3012") from None
    terms = [*rule.constraints, *(e for sizes in rule.outputs for e in sizes), *rule.index_bounds.values()]
    unknown = {name for term in terms for name in symbols(term)} - set(rule.symbols)
    problems = rule.problems() + [f"unknown symbol {name!r}" for name in sorted(unknown)]
    if problems:
        raise InputError(f"rule {rule.key!r} is malformed: {problems[0]}", code="GO-3012")
    return rule


def _input(name: object, kind: object, rank: object) -> TensorInput:
    text = _text(name)
    if kind not in ("float", "int", "bool"):
        raise ValueError(f"no class of dtypes: {kind!r}")
    return TensorInput(text, str(kind), tuple(f"{text}_{axis}" for axis in range(_integer(rank))))


def _record(values: object, shapes: object) -> ConcreteRecord:
    if not isinstance(values, list) or not isinstance(shapes, list):
        raise TypeError("a record is two lists")
    return ConcreteRecord(
        tuple(map(_integer, values)), tuple(tuple(map(_integer, shape)) for shape in shapes)
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a text: {value!r}")
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"not an integer: {value!r}")
    return value
