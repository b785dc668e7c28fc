"""Branches and loops: torch's ``cond``, ``while_loop`` and ``scan`` as Relax functions.

Bodies become private functions of the module: tensors from outside are their parameters, and so is one
shape that binds every symbolic size of the program.  Weights are no parameters but constants of the
function that uses them, so that they can be packed like any other.  ``If`` stands alone in small functions
that only call others; all that computes stays in dataflow blocks, where fusion and memory planning work as
in a program without control flow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from tvm import ir, relax, te, tirx
from tvm.script.ir_builder import tirx as T

from graphopt.codegen.relax.context import Context, Expr, Unsupported, constant_expr, rank_of
from graphopt.codegen.relax.converters.indexing import block
from graphopt.codegen.relax.dtypes import tvm_dtype
from graphopt.codegen.relax.symbols import UnboundSymbol, int64
from graphopt.codegen.relax.weights import weight_of
from graphopt.ir.bodies import body

if TYPE_CHECKING:
    from graphopt.codegen.relax.lowering import Lowering

_higher_order = torch.ops.higher_order


def convert_control_flow(lowering: Lowering, node: fx.Node) -> tuple[Expr, ...]:
    """The results of a call of ``cond``, ``while_loop`` or ``scan``, one tensor each.

    Raises:
        Unsupported: operands or results that a Relax function cannot take or give.
        UnboundSymbol: a size that data decides.
    """
    if any(isinstance(v, torch.Tensor) and v.is_complex() for v in node.meta["val"]):
        raise Unsupported("a complex result")
    return _CONVERTERS[node.target](lowering, node)


# -- functions -------------------------------------------------------------------------------------

Emit = Callable[["Lowering", list[Expr]], Expr]
"""``(lowering of the function, its tensor parameters) -> its result``."""


def _define(
    lowering: Lowering, name: str, parameters: Sequence[torch.Tensor], emit: Emit, *, branches: bool = False
) -> ir.GlobalVar:
    """A private function of tensors like ``parameters``.

    Args:
        branches: it holds an ``If``, which cannot stand in a dataflow block.
    """
    inner = lowering.nested()
    attrs = inner.bounds()
    variables = [
        relax.Var(f"x{i}", relax.TensorType(inner.symbols.shape(t.shape), tvm_dtype(t.dtype)))
        for i, t in enumerate(parameters)
    ]
    sizes = list(inner.symbols.variables.values())
    shape = [relax.Var("sizes", relax.ShapeType(sizes))] if sizes else []
    builder = inner.builder
    with builder.function(name, [*variables, *shape], attrs=attrs, private=True):
        if branches:
            result = builder.emit(emit(inner, variables))
        else:
            with builder.dataflow():
                result = builder.emit_output(emit(inner, variables))
        return builder.emit_func_output(result)


def _invoke(lowering: Lowering, function: ir.GlobalVar, arguments: Sequence[Expr]) -> relax.Call:
    sizes = list(lowering.symbols.variables.values())
    shape = [relax.ShapeExpr(sizes)] if sizes else []
    return relax.Call(function, [*arguments, *shape])


def _body(
    node: fx.Node, graph: Any, operands: Sequence[Any], *, states: int = 0
) -> tuple[fx.GraphModule, list[int]]:
    """The body that ``graph`` names, with weights in the place of operands that are weights.

    Args:
        states: how many placeholders stand before those of ``operands``.

    Returns:
        the body, and which of ``operands`` are tensors that it has to be given.
    """
    owner = node.graph.owning_module
    assert owner is not None and isinstance(graph, fx.Node)
    module = body(owner, graph)
    assert module is not None
    for result in _outputs(module):
        if not isinstance(result, fx.Node) or not isinstance(result.meta["val"], torch.Tensor):
            raise Unsupported("a result that is not a tensor")
    placeholders = module.graph.find_nodes(op="placeholder")[states:]
    weights = {p: weight_of(o) for p, o in zip(placeholders, operands, strict=True)}
    given = [
        i
        for i, p in enumerate(placeholders)
        if isinstance(p.meta["val"], torch.Tensor) and weights[p] is None
    ]
    for index in given:
        if placeholders[index].meta["val"].is_complex():
            raise Unsupported("a complex operand")
    return _with_weights(module, {p: w for p, w in weights.items() if w is not None}), given


def _with_weights(module: fx.GraphModule, weights: dict[fx.Node, torch.Tensor]) -> fx.GraphModule:
    """A copy of a body that holds some of its operands."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    attributes: dict[str, Any] = {}
    for node in module.graph.nodes:
        if node in weights:
            name = f"operand_{node.name}"
            copies[node] = graph.get_attr(name)
            copies[node].meta = dict(node.meta)
            attributes[name] = weights[node]
            continue
        copies[node] = graph.node_copy(node, copies.__getitem__)
        if node.op == "get_attr":
            attributes[str(node.target)] = attrgetter(str(node.target))(module)
    return fx.GraphModule(attributes, graph)


def _results(inner: Lowering, module: fx.GraphModule, like: Sequence[Any]) -> list[Expr]:
    """Walks a body whose placeholders are bound; its results, typed as ``like`` says."""
    inner.walk(module)
    results = []
    for node, value in zip(_outputs(module), like, strict=True):
        result, ty = (
            inner.result(node),
            relax.TensorType(inner.symbols.shape(value.shape), tvm_dtype(value.dtype)),
        )
        results.append(result if result.ty == ty else inner.builder.match_cast(result, ty))
    return results


def _outputs(module: fx.GraphModule) -> list[Any]:
    (found,) = module.graph.output_node().args
    return list(found) if isinstance(found, (list, tuple)) else [found]


def _bind(inner: Lowering, module: fx.GraphModule, values: Sequence[Expr]) -> None:
    """Gives tensors to a body's tensor placeholders, in order."""
    placeholders = module.graph.find_nodes(op="placeholder")
    tensors = [p for p in placeholders if isinstance(p.meta["val"], torch.Tensor)]
    inner.env.update(zip(tensors, values, strict=True))


def _fields(lowering: Lowering, call: Expr, count: int) -> tuple[Expr, ...]:
    result = lowering.builder.emit(call)
    return tuple(lowering.builder.emit(relax.TupleGetItem(result, i)) for i in range(count))


# -- cond ------------------------------------------------------------------------------------------


def _cond(lowering: Lowering, node: fx.Node) -> tuple[Expr, ...]:
    """``If`` in a function of its own, whose branches call the functions that the branches became."""
    arguments: Any = node.args
    predicate, *graphs, operands = arguments
    like = node.meta["val"]
    try:
        for value in like:
            if isinstance(value, torch.Tensor):
                lowering.symbols.shape(value.shape)
    except UnboundSymbol as error:
        raise Unsupported(f"the branches give results of different sizes ({error.symbol})") from None
    branches = []
    for name, graph in zip(("then", "else"), graphs, strict=True):
        module, given = _body(node, graph, operands)
        values = [operands[i] for i in given]

        def emit(inner: Lowering, parameters: list[Expr], module: fx.GraphModule = module) -> Expr:
            _bind(inner, module, parameters)
            return relax.Tuple(_results(inner, module, like))

        function = _define(lowering, name, [v.meta["val"] for v in values], emit)
        branches.append((function, values))
    union = list(dict.fromkeys(v for _, values in branches for v in values))

    def choose(inner: Lowering, parameters: list[Expr]) -> Expr:
        flag, *rest = parameters
        given = dict(zip(union, rest, strict=True))
        calls = [_invoke(inner, function, [given[v] for v in values]) for function, values in branches]
        return relax.If(flag, *calls)

    flag = _predicate(lowering, node, predicate)
    parameters = [torch.empty((), dtype=torch.bool), *(v.meta["val"] for v in union)]
    chosen = _define(lowering, "choose", parameters, choose, branches=True)
    given = [flag, *(lowering.operand(v) for v in union)]
    return _fields(lowering, _invoke(lowering, chosen, given), len(like))


def _predicate(lowering: Lowering, node: fx.Node, predicate: Any) -> Expr:
    """A condition as a boolean tensor without axes; torch also takes one element, and relations of sizes."""
    context = lowering.context(node, (), [torch.empty((), dtype=torch.bool)])
    value = predicate.meta["val"] if isinstance(predicate, fx.Node) else predicate
    if isinstance(value, torch.Tensor):
        return context.reshape(lowering.operand(predicate), [])
    relation = lowering.symbols.size(value)
    relation = tirx.const(relation, "bool") if isinstance(relation, bool) else relation
    return context.kernel("predicate", [], lambda: te.compute([], lambda: relation, name="predicate"))


# -- while_loop ------------------------------------------------------------------------------------

_DOUBLINGS = 40
"""A loop makes at most 2^40 steps, which take weeks."""


def _while_loop(lowering: Lowering, node: fx.Node) -> tuple[Expr, ...]:
    """Steps by doubling: ``step 0`` is one, ``step j`` is ``step j-1`` and, if the loop goes on, another.

    Relax has no loop but recursion, whose depth would be the number of steps.  Here it is at most
    :data:`_DOUBLINGS`, and each step is a call or two more than the body's own.
    """
    arguments: Any = node.args
    test_graph, body_graph, carried, operands = arguments
    states = _states(carried)
    test, _ = _body(node, test_graph, operands, states=len(states))
    step, given = _body(node, body_graph, operands, states=len(states))
    extra = [operands[i] for i in given]

    def first(inner: Lowering, parameters: list[Expr]) -> Expr:
        return _goes_on(inner, node, test, parameters)

    def advance(inner: Lowering, parameters: list[Expr]) -> Expr:
        _bind(inner, step, parameters)
        results = _results(inner, step, states)
        return relax.Tuple([_goes_on(inner, node, test, [*results, *parameters[len(states) :]]), *results])

    types = [*states, *(v.meta["val"] for v in extra)]
    begins = _define(lowering, "loop_begins", types, first)
    function = _loop(lowering, types, len(states), begins, _define(lowering, "loop_step", types, advance))
    starts = [lowering.operand(v) for v in [*carried, *extra]]
    return _fields(lowering, _invoke(lowering, function, starts), 1 + len(states))[1:]


def _loop(
    lowering: Lowering, types: Sequence[torch.Tensor], states: int, begins: ir.GlobalVar, step: ir.GlobalVar
) -> ir.GlobalVar:
    """A function that repeats a step.

    Args:
        types: of the states, and then of what all steps are given.
        states: the number of states.
        begins: whether there is a first step.
        step: whether there is a next step, and the next states.

    Returns:
        a function of the same parameters as ``step``; it returns False and the last states.
    """

    def twice(inner: Lowering, parameters: list[Expr], half: ir.GlobalVar) -> Expr:
        result = inner.builder.emit(_invoke(inner, half, parameters))
        more, *next_states = (inner.builder.emit(relax.TupleGetItem(result, i)) for i in range(1 + states))
        return relax.If(more, _invoke(inner, half, [*next_states, *parameters[states:]]), result)

    def repeat(inner: Lowering, parameters: list[Expr], steps: ir.GlobalVar) -> Expr:
        more = inner.builder.emit(_invoke(inner, begins, parameters))
        return relax.If(more, _invoke(inner, steps, parameters), relax.Tuple([more, *parameters[:states]]))

    for _ in range(_DOUBLINGS):
        step = _define(lowering, "loop_steps", types, partial(twice, half=step), branches=True)
    return _define(lowering, "loop", types, partial(repeat, steps=step), branches=True)


def _states(carried: Sequence[Any]) -> list[torch.Tensor]:
    """The values that a loop starts with, all of them tensors."""
    values = [v.meta["val"] if isinstance(v, fx.Node) else v for v in carried]
    if not all(isinstance(v, torch.Tensor) for v in values):
        raise Unsupported("a state that is not a tensor")
    if any(v.is_complex() for v in values):
        raise Unsupported("a complex state")
    return values


def _goes_on(inner: Lowering, node: fx.Node, test: fx.GraphModule, values: Sequence[Expr]) -> Expr:
    """The condition of a loop on ``values``."""
    _bind(inner, test, values)
    inner.walk(test)
    (found,) = _outputs(test)
    return _predicate(inner, node, found)


# -- scan ------------------------------------------------------------------------------------------


def _scan(lowering: Lowering, node: fx.Node) -> tuple[Expr, ...]:
    """A loop over the position along axis 0; each step writes its rows into the results.

    The results' memory is made here and goes through the steps as state that nothing else reads, so that
    writing in place is safe and ``n`` steps cost ``n`` rows, not ``n`` copies of the result.
    """
    arguments: Any = node.args
    graph, carried, scanned, operands = arguments
    states, sources = _states(carried), _states(scanned)
    if not sources:
        raise Unsupported("no tensor to scan")
    step, given = _body(node, graph, operands, states=len(states) + len(sources))
    extra = [operands[i] for i in given]
    stacks = [*node.meta["val"]][len(states) :]
    rows = [n.meta["val"] for n in _outputs(step)[len(states) :]]
    position, flag = torch.empty(1, dtype=torch.int64), torch.empty((), dtype=torch.bool)
    own = [position, *states, *stacks]

    def context(inner: Lowering, like: torch.Tensor) -> Context:
        return inner.context(node, (), [like])

    def begins(inner: Lowering, parameters: list[Expr]) -> Expr:
        return _predicate(inner, node, sources[0].shape[0] > 0)

    def advance(inner: Lowering, parameters: list[Expr]) -> Expr:
        index, values = parameters[0], parameters[1 : 1 + len(states)]
        targets = parameters[1 + len(states) : len(own)]
        inputs, rest = parameters[len(own) : len(own) + len(sources)], parameters[len(own) + len(sources) :]
        at = context(inner, position)
        slices = [at.kernel("row", [x, index], _row) for x in inputs]
        _bind(inner, step, [*values, *slices, *rest])
        results = _results(inner, step, [*states, *rows])
        filled = [
            at.overwrite(
                "store_row", target, [row if rank_of(row) else at.reshape(row, [1]), index], _store_row
            )
            for target, row in zip(targets, results[len(states) :], strict=True)
        ]
        length = int64(inner.symbols.size(sources[0].shape[0]))
        following = at.kernel("next", [index], lambda i: te.compute((1,), lambda k: i(k) + 1))
        more = context(inner, flag).kernel(
            "more", [index], lambda i: te.compute((), lambda: i(int64(0)) + 1 < length)
        )
        return relax.Tuple([more, following, *results[: len(states)], *filled])

    types = [*own, *sources, *(v.meta["val"] for v in extra)]
    first = _define(lowering, "scan_begins", types, begins)
    function = _loop(lowering, types, len(own), first, _define(lowering, "scan_step", types, advance))
    empty = [
        lowering.builder.emit(
            relax.op.builtin.alloc_tensor(
                relax.ShapeExpr(lowering.symbols.shape(v.shape)), tvm_dtype(v.dtype), 0
            )
        )
        for v in stacks
    ]
    zero = constant_expr(torch.zeros(1, dtype=torch.int64))
    starts = [zero, *map(lowering.operand, carried), *empty, *map(lowering.operand, [*scanned, *extra])]
    return _fields(lowering, _invoke(lowering, function, starts), 1 + len(own))[2:]


def _row(data: te.Tensor, index: te.Tensor) -> te.Tensor:
    """Kernel: ``data[index]``."""
    return te.compute(data.shape[1:], lambda *i: data(index(int64(0)), *i), name="row")


def _store_row(target: Any, row: Any, index: Any) -> None:
    """Kernel: ``target[index] = row``; a row of a vector is one of its elements, in a vector."""
    with block("store_row", row.shape) as place:
        inside = place if len(target.shape) > 1 else []
        T.buffer_store(target, row[tuple(place)], [index[0], *inside])


_CONVERTERS: dict[Any, Callable[[Lowering, fx.Node], tuple[Expr, ...]]] = {
    _higher_order.cond: _cond,
    _higher_order.while_loop: _while_loop,
    _higher_order.scan: _scan,
}
