"""Graphs of uniformly drawn operators, operands and attributes: what the generator is compared with.

The operators are those that the generator uses.  Nothing is solved for, and no template helps: an operand
is any value or a new input of any shape, an attribute any small number.  Most graphs are none that torch
accepts.
"""

from __future__ import annotations

import functools
import random
from typing import Any

import torch

from graphopt.errors import GraphoptError
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.graphs import (
    Argument,
    Call,
    Graph,
    Leaf,
    Ref,
    TorchConstant,
    build_program,
    operator_named,
)

MOST_CALLS = 5
_DTYPES = ("float32",) * 6 + ("float16", "float64", "int64", "int32", "bool")


def uniform_case(root_seed: int, index: int, passes: tuple[str, ...]) -> FuzzCase | None:
    """The case of an index; None where torch does not accept the graph."""
    draw = random.Random(f"{root_seed} {index} uniform")
    leaves: list[Leaf] = [_leaf(draw, "x0")]
    calls: list[Call] = []
    for i in range(draw.randint(1, MOST_CALLS)):
        name = draw.choice(operators())
        schema = operator_named(name)._schema
        positional: list[Argument] = []
        for argument in schema.arguments:
            if argument.kwarg_only:
                break  # keywords keep their defaults
            positional.append(_argument(draw, str(argument.type), leaves, calls))
        calls.append(Call(f"y{i}", name, tuple(positional)))
    used = {name for call in calls for name in call.uses}
    ends = tuple(c.name for c in calls if c.name not in used)
    case = FuzzCase(
        Graph(tuple(leaves), tuple(calls), ends), passes, index, "recorded", f"{root_seed}/{index}"
    )
    try:
        program = build_program(case.graph, case.seed)
        with torch.no_grad():
            program.graph_module(*_inputs(case))
    except (GraphoptError, RuntimeError, ValueError, TypeError, IndexError):
        return None
    return case


def _inputs(case: FuzzCase) -> tuple[torch.Tensor, ...]:
    from graphopt.fuzz.graphs import draw_inputs

    return draw_inputs(case.graph, case.seed)


@functools.cache
def operators() -> tuple[str, ...]:
    """The overloads with one result that the generator's first cases and all templates call."""
    from graphopt.fuzz.generation import Options, generate

    found: set[str] = set()
    for index in range(60):
        found.update(generate(0, index, Options(dynamic=0.0, screened=False)).graph.operators)
    return tuple(sorted(n for n in found if _has_one_tensor(n)))


def _has_one_tensor(name: str) -> bool:
    returns = operator_named(name)._schema.returns
    return len(returns) == 1 and str(returns[0].type) == "Tensor"


def _leaf(draw: random.Random, name: str) -> Leaf:
    shape = tuple(draw.randint(1, 8) for _ in range(draw.randint(0, 4)))
    role: Any = draw.choice(("input", "input", "weight", "constant"))
    dtype = draw.choice(_DTYPES)
    integers = not dtype.startswith("float")
    return Leaf(
        name,
        shape,
        dtype,
        role=role if name != "x0" else "input",
        values="integers" if integers else "normal",
    )


def _argument(draw: random.Random, kind: str, leaves: list[Leaf], calls: list[Call]) -> Argument:
    if kind.startswith("Optional[") and draw.random() < 0.5:
        return None
    kind = kind.removeprefix("Optional[").removesuffix("]") if kind.startswith("Optional[") else kind
    if kind.startswith("List["):
        inner = kind.removeprefix("List[").removesuffix("]")
        return tuple(_argument(draw, inner, leaves, calls) for _ in range(draw.randint(1, 4)))
    if kind == "Tensor":
        if draw.random() < 0.3:
            leaves.append(_leaf(draw, f"x{len(leaves)}"))
            return Ref(leaves[-1].name)
        return Ref(draw.choice([*(leaf.name for leaf in leaves), *(call.name for call in calls)]))
    if kind in ("int", "SymInt"):
        return draw.randint(-2, 8)
    if kind in ("float", "number", "Scalar"):
        return round(draw.gauss(0.0, 2.0), 3)
    if kind == "bool":
        return draw.random() < 0.5
    if kind == "str":
        return draw.choice(("none", "tanh", "same", "valid", "floor", "trunc", "constant", "reflect"))
    if kind in ("ScalarType",):
        return TorchConstant(draw.choice(_DTYPES))
    return None
