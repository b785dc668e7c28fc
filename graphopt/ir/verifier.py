"""The verifier: every invariant of a program, checked after every pass.

=============================  ================================================================
invariant                      what breaks it
=============================  ================================================================
``graph``                      a use before its definition, a node of another graph, a bad form
``operands``                   a call that does not fit the operator's schema
``constants``                  a get_attr node without a tensor behind it
``level``                      an operator that the program's level does not allow
``purity``                     an operator that changes its argument
``values``                     ``meta["val"]`` that re-propagation does not give again
``symbols``                    a symbolic dimension that some guard has fixed to a number
``signature``                  inputs or outputs that are not what the signature says
=============================  ================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy
import torch
from torch import fx

from graphopt._torch import statically_known_true
from graphopt.errors import InputError, PassError
from graphopt.ir.bodies import bodies, body
from graphopt.ir.dimensions import dim_of
from graphopt.ir.program import Program
from graphopt.ir.propagation import value_of
from graphopt.ir.provenance import origin
from graphopt.ir.schema import bound_arguments
from graphopt.ir.signature import Signature


def check_program(program: Program, *, values: bool = True) -> None:
    """Raises on the first invariant that does not hold.

    Args:
        program: what is checked.
        values: check ``values`` too; it propagates the whole graph, which takes most of the time.

    Raises:
        PassError: GO-4001, naming the invariant, the node and the user's layer.
    """
    for invariant, node, problem in violations(program, values=values):
        raise PassError(
            f"invariant {invariant!r} is broken: {problem}",
            code="GO-4001",
            node=node.name if node is not None else None,
            layer=origin(node).layer if node is not None else None,
        )


def settle(program: Program) -> Program:
    """Lets operators ask once what they want to know of symbolic sizes; for programs that are new.

    Deriving all values asks torch's symbolic shapes the questions that the operators themselves
    have.  Only what is asked after this comes from a rewrite.
    """
    for _ in _values(program):
        pass
    program.accept_guards()
    return program


def check_same_signature(before: Signature, after: Signature) -> None:
    """Raises when a pass that does not declare it changed names, dtypes, shapes or dimensions.

    Raises:
        PassError: GO-4001, naming the first difference.
    """
    for kind, old, new in (
        ("inputs", before.inputs, after.inputs),
        ("outputs", before.outputs, after.outputs),
    ):
        if old != new:
            was = next((str(a) for a, b in zip(old, new, strict=False) if a != b), f"{len(old)} of them")
            now = next((str(b) for a, b in zip(old, new, strict=False) if a != b), f"{len(new)} of them")
            raise PassError(
                f"invariant 'signature' is broken: {kind} were {was} and are {now}", code="GO-4001"
            )
    if dict(before.dims) != dict(after.dims):
        raise PassError(
            f"invariant 'signature' is broken: dimensions were {dict(before.dims)}, are {dict(after.dims)}",
            code="GO-4001",
        )


def violations(program: Program, *, values: bool = True) -> Iterator[tuple[str, fx.Node | None, str]]:
    """Every broken invariant as (invariant, node, problem); lazily, cheap ones first."""
    try:
        program.graph.lint()
    except Exception as error:
        yield "graph", None, str(error)
        return  # nothing below can be read from a graph that is not well formed
    for node in program.graph.nodes:
        yield from _form(program, node)
    for name, module in bodies(program.graph_module):
        yield from _body(program, name, module)
    if values:
        yield from _values(program)
    yield from _symbols(program)
    yield from _signature(program)


def _form(program: Program, node: fx.Node) -> Iterator[tuple[str, fx.Node, str]]:
    if node.op in ("placeholder", "output"):
        return
    if node.op == "get_attr":
        try:
            program.constant(node)
        except KeyError as error:
            if body(program.graph_module, node) is None:
                yield "constants", node, str(error.args[0])
        return
    if node.op != "call_function":
        yield "graph", node, f"a {node.op} node cannot stand in a program"
        return
    if not program.level.allows(node.target):
        yield "level", node, f"{node.target} is not allowed at level {program.level.value!r}"
    if isinstance(node.target, torch._ops.OpOverload):
        if node.target._schema.is_mutable:
            yield "purity", node, f"{node.target} changes its argument"
        try:
            bound_arguments(node)
        except TypeError as error:
            yield "operands", node, str(error)


def _body(program: Program, name: str, module: fx.GraphModule) -> Iterator[tuple[str, fx.Node, str]]:
    """What a branch or loop body must not hold: weights, which are operands, and what no graph may."""
    for node in module.graph.nodes:
        if node.op == "get_attr" and body(module, node) is None:
            yield "bodies", node, f"body {name!r} reads {node.target!r} from outside; it must be an operand"
        elif node.op != "get_attr":
            yield from ((kind, at, f"in body {name!r}: {what}") for kind, at, what in _form(program, node))


def _values(program: Program) -> Iterator[tuple[str, fx.Node, str]]:
    mode = program.fake_mode
    for node in program.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        if "val" not in node.meta:
            yield "values", node, "it has no value"
            return
        facts = _facts(program, node)
        if _known(node, facts):
            continue
        try:
            fresh = value_of(node, mode, program.graph_module)
        except InputError as error:
            yield "values", node, error.message
            return
        problem = _difference(node.meta["val"], fresh)
        if problem is not None:
            yield "values", node, problem
            return
        node.meta[_CHECKED] = facts


_CHECKED = "graphopt_checked"
"""Key of what a node's value was last derived from.  A pass changes few nodes, and propagation costs
milliseconds a node with symbolic shapes: only what differs is derived again."""


def _facts(program: Program, node: fx.Node) -> tuple[Any, ...]:
    """All that the value of a node depends on, and the value: objects, compared by identity."""
    if node.op == "get_attr":
        try:
            return (node.target, program.constant(node), node.meta["val"])
        except KeyError:
            return (node.target, node.meta["val"])
    leaves: list[Any] = [node.target, node.meta["val"]]

    def visit(value: Any) -> None:
        if isinstance(value, fx.Node):
            leaves.append(value.meta.get("val"))
        elif isinstance(value, (list, tuple)):
            leaves.append(len(value))
            for item in value:
                visit(item)
        elif isinstance(value, dict):
            for key, item in value.items():
                leaves.append(key)
                visit(item)
        else:
            leaves.append(value)

    visit(node.args)
    visit(node.kwargs)
    return tuple(leaves)


def _known(node: fx.Node, facts: tuple[Any, ...]) -> bool:
    before = node.meta.get(_CHECKED)
    if before is None or len(before) != len(facts):
        return False
    plain = (int, float, str, bool, type(None))
    return all(
        a is b or (type(a) is type(b) and isinstance(a, plain) and a == b)
        for a, b in zip(before, facts, strict=True)
    )


def _difference(old: Any, new: Any) -> str | None:
    if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor):
        if old.dtype != new.dtype:
            return f"its dtype is recorded as {old.dtype} and is {new.dtype}"
        if len(old.shape) != len(new.shape) or not all(map(_same, old.shape, new.shape)):
            return f"its shape is recorded as {list(old.shape)} and is {list(new.shape)}"
        return None
    if isinstance(old, (tuple, list)) and isinstance(new, (tuple, list)):
        if len(old) != len(new):
            return f"it is recorded as {len(old)} values and has {len(new)}"
        return next((p for a, b in zip(old, new, strict=True) if (p := _difference(a, b))), None)
    if isinstance(old, torch.Tensor) or isinstance(new, torch.Tensor):
        return f"it is recorded as {type(old).__name__} and is {type(new).__name__}"
    if old is None or new is None or isinstance(old, fx.GraphModule):
        return None
    return None if _same(old, new) else f"it is recorded as {old} and is {new}"


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a == b
    if _unbacked(a) or _unbacked(b):
        return True  # each propagation makes fresh symbols for data-dependent sizes
    return statically_known_true(a == b)


def _unbacked(value: Any) -> bool:
    if not isinstance(value, torch.SymInt):
        return False
    return any(str(s).startswith("u") for s in value.node.expr.free_symbols)


def _symbols(program: Program) -> Iterator[tuple[str, fx.Node | None, str]]:
    for node in program.input_nodes:
        for axis, size in enumerate(node.meta["val"].shape):
            if isinstance(size, torch.SymInt) and size.node.expr.is_number:
                yield "symbols", node, f"axis {axis} was symbolic and is now always {size.node.expr}"
    # A rewrite that asks whether a symbolic size equals a number gets the answer for the example
    # input, and is then right for that size only.  torch records the question.
    for guard in program.new_guards():
        if isinstance(guard, sympy.Eq):
            names = {s: type(s)(program.symbols.get(str(s), str(s))) for s in guard.free_symbols}
            yield (
                "symbols",
                None,
                f"a rewrite took for granted that {guard.lhs.xreplace(names)} = {guard.rhs.xreplace(names)}",
            )


def _signature(program: Program) -> Iterator[tuple[str, fx.Node | None, str]]:
    signature = program.signature
    for kind, specs, nodes in (
        ("input", signature.inputs, program.input_nodes),
        ("output", signature.outputs, program.output_nodes),
    ):
        if len(specs) != len(nodes):
            yield "signature", None, f"it lists {len(specs)} {kind}s, the graph has {len(nodes)}"
            continue
        for spec, node in zip(specs, nodes, strict=True):
            value = node.meta.get("val")
            if not isinstance(value, torch.Tensor):
                yield "signature", node, f"{kind} {spec.name!r} is not a tensor"
                continue
            shape = tuple(dim_of(d, program.symbols) for d in value.shape)
            if value.dtype != spec.dtype or len(shape) != len(spec.shape):
                have = f"{value.dtype} {list(shape)}"
                yield "signature", node, f"{kind} {spec.name!r} is {have}, the signature says {spec}"
            elif not _same_dims(spec.shape, shape):
                yield (
                    "signature",
                    node,
                    f"{kind} {spec.name!r} has shape {list(shape)}, the signature says {spec}",
                )


def _same_dims(said: tuple[int | str, ...], have: tuple[int | str, ...]) -> bool:
    # Equal sizes may be written in two ways, (2*h)//2 and h: only numbers are compared to the letter.
    return all(a == b or (isinstance(a, str) and isinstance(b, str)) for a, b in zip(said, have, strict=True))
