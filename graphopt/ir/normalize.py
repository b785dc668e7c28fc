"""From what torch.export gives to the form that :class:`Program` promises."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from graphopt._torch import FakeTensorMode
from graphopt.errors import InputError
from graphopt.ir.bodies import bodies, close_bodies
from graphopt.ir.dimensions import build_signature, name_symbols
from graphopt.ir.level import Level
from graphopt.ir.program import Program
from graphopt.ir.provenance import origin
from graphopt.ir.signature import DimRange

aten = torch.ops.aten


def program_from_exported(
    exported: ExportedProgram,
    *,
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
    dim_names: Mapping[tuple[int, int], str],
    dim_ranges: Mapping[str, DimRange],
) -> Program:
    """See :meth:`Program.from_exported`."""
    _inline_context_regions(exported.graph_module)
    if any(_mutates(n) for n in exported.graph.nodes):
        # An empty table keeps linear, layer_norm and attention whole; only mutation goes.
        with warnings.catch_warnings():
            # torch copies its own pytree specs in a way that it has itself deprecated.
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            exported = exported.run_decompositions({})
    ranges = {str(s): r for s, r in exported.range_constraints.items()}
    module = exported.module(check_guards=False)
    graph = module.graph
    graph.set_codegen(fx.graph.CodeGen())
    notes: list[str] = []
    _drop_unused_inputs_of_other_types(graph, notes)
    state = _state_becomes_io(module)
    close_bodies(module)
    for _, inner in bodies(module):
        _settle_body(inner)
    _drop_assertions(graph)
    _views_become_reshapes(graph)
    _flatten_output(graph)
    graph.eliminate_dead_code()
    flat = fx.GraphModule(module, graph)
    _fill_missing_values(flat)
    _check_form(flat)
    placeholders = list(graph.find_nodes(op="placeholder"))
    outputs: list[fx.Node] = list(graph.output_node().args[0])  # type: ignore[arg-type]
    names_in = _names(input_names, placeholders, len(state))
    names_out = _names(output_names, outputs, len(state))
    for i, (placeholder, output) in enumerate(state):
        names_in[placeholders.index(placeholder)] = str(placeholder.meta["graphopt_state"])
        names_out[len(outputs) - len(state) + i] = f"{placeholder.meta['graphopt_state']}_out"
        del output
    symbols = name_symbols(placeholders, names_in, dim_names)
    signature = build_signature(
        placeholders,
        outputs,
        names_in,
        names_out,
        symbols,
        ranges,
        dim_ranges,
        {f"{p.meta['graphopt_state']}_out": str(p.meta["graphopt_state"]) for p, _ in state},
    )
    for node in graph.nodes:
        origin(node)
    flat.recompile()
    from graphopt.ir.verifier import settle

    return settle(Program(flat, signature, level=_level_of(flat.graph), symbols=symbols, notes=notes))


def program_from_graph_module(
    graph_module: fx.GraphModule,
    inputs: Sequence[torch.Tensor],
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
) -> Program:
    """See :meth:`Program.from_graph_module`."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    placeholders = list(graph_module.graph.find_nodes(op="placeholder"))
    if len(placeholders) != len(inputs):
        raise InputError(f"the graph has {len(placeholders)} inputs, {len(inputs)} were given")
    for node, value in zip(placeholders, inputs, strict=True):
        node.meta["val"] = mode.from_tensor(value, static_shapes=True)
    _flatten_output(graph_module.graph)
    _fill_missing_values(graph_module)
    _check_form(graph_module)
    outputs: list[fx.Node] = list(graph_module.graph.output_node().args[0])  # type: ignore[arg-type]
    signature = build_signature(
        placeholders,
        outputs,
        _names(input_names, placeholders, 0),
        _names(output_names, outputs, 0),
        {},
        {},
        {},
        {},
    )
    for node in graph_module.graph.nodes:
        origin(node)
    graph_module.recompile()
    return Program(graph_module, signature, level=_level_of(graph_module.graph))


def _level_of(graph: fx.Graph) -> Level:
    if all(Level.TORCH.allows(n.target) for n in graph.nodes if n.op == "call_function"):
        return Level.TORCH
    return Level.GRAPHOPT


# -- steps ---------------------------------------------------------------------------------------


def _mutates(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _inline_context_regions(module: fx.GraphModule) -> None:
    """Inlines the bodies of ``no_grad`` and disabled-autocast regions.

    They say how gradients or mixed precision behave while training, not what is computed: the
    dtype casts of an enabled autocast region are explicit in its body.
    """
    for node in list(module.graph.nodes):
        name = getattr(node.target, "__name__", "")
        if node.op != "call_function" or name not in ("wrap_with_set_grad_enabled", "wrap_with_autocast"):
            continue
        if name == "wrap_with_autocast" and node.args[2]:
            raise InputError(
                "the module enables autocast inside its forward",
                code="GO-3007",
                node=node.name,
                layer=origin(node).layer,
                hint="convert the module with .to(dtype) and remove the autocast region",
            )
        first_body = 1 if name == "wrap_with_set_grad_enabled" else 4
        body_node = node.args[first_body]
        body: fx.GraphModule = getattr(module, str(body_node.target))
        _inline_context_regions(body)
        with module.graph.inserting_before(node):
            env: dict[fx.Node, fx.Node] = dict(
                zip(body.graph.find_nodes(op="placeholder"), node.args[first_body + 1 :], strict=True)
            )
            for inner in body.graph.nodes:
                if inner.op in ("placeholder", "output"):
                    continue
                new = module.graph.node_copy(inner, env.__getitem__)
                new.meta = dict(inner.meta)
                env[inner] = new
        results = body.graph.output_node().args[0]
        assert isinstance(results, (tuple, list))
        for user in list(node.users):
            assert user.target is operator.getitem
            user.replace_all_uses_with(env[results[user.args[1]]])
            module.graph.erase_node(user)
        module.graph.erase_node(node)
        if not body_node.users:
            module.graph.erase_node(body_node)
    module.graph.lint()
    module.recompile()


def _drop_unused_inputs_of_other_types(graph: fx.Graph, notes: list[str]) -> None:
    """Removes inputs that are not tensors (None, bool, int); torch.export made constants of them."""
    for node in list(graph.find_nodes(op="placeholder")):
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            continue
        if node.users:
            raise InputError(
                f"input {node.name!r} is a {type(value).__name__}, not a tensor",
                code="GO-3007",
                node=node.name,
                hint="pass tensors; fix other arguments in a wrapper module",
            )
        notes.append(f"argument {node.name!r} is not a tensor and was made a constant")
        graph.erase_node(node)


def _state_becomes_io(module: fx.GraphModule) -> list[tuple[fx.Node, fx.Node]]:
    """Turns ``copy_(buffer, value)`` into an input and an output; returns (input, value) pairs."""
    graph = module.graph
    pairs: list[tuple[fx.Node, fx.Node]] = []
    for node in list(graph.find_nodes(op="call_function", target=aten.copy_.default)):
        buffer, value = node.args[:2]
        if not (isinstance(buffer, fx.Node) and buffer.op == "get_attr"):
            continue
        last = list(graph.find_nodes(op="placeholder"))
        anchor = last[-1] if last else next(iter(graph.nodes))
        with graph.inserting_after(anchor):
            name = str(buffer.target).replace(".", "_")
            placeholder = graph.placeholder(name)
        placeholder.meta = dict(buffer.meta)
        placeholder.meta["graphopt_state"] = name
        for same in list(graph.find_nodes(op="get_attr", target=buffer.target)):
            same.replace_all_uses_with(placeholder, delete_user_cb=lambda user, copy=node: user is not copy)
        node.replace_all_uses_with(value)
        graph.erase_node(node)
        pairs.append((placeholder, value))
    if pairs:
        output = graph.output_node()
        flat = _flatten(output.args[0])
        output.args = (tuple([*flat, *(v for _, v in pairs)]),)
    return pairs


def _drop_assertions(graph: fx.Graph) -> None:
    """Removes torch.export's own guard calls; data-dependent asserts of the user's stay."""
    for node in reversed(list(graph.nodes)):
        if node.op == "call_module" and str(node.target) == "_guards_fn":
            graph.erase_node(node)
        elif node.target is aten._assert_tensor_metadata.default:
            graph.erase_node(node)
        elif node.op == "call_function" and node.target in _SYMBOL_ASSERTS and not node.users:
            graph.erase_node(node)


def _settle_body(module: fx.GraphModule) -> None:
    """A branch or loop body, which takes its weights as operands, in the form of a program's graph.

    Raises:
        InputError: GO-3007, it changes a tensor in place, which torch cannot undo inside a body.
    """
    for node in list(module.graph.nodes):
        if node.target in (aten.lift_fresh_copy.default, aten.detach_.default):  # what torch.tensor(0) leaves
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
        elif node.op == "call_function" and _mutates(node):
            raise InputError(
                f"a branch or loop calls {node.target}, which changes its argument",
                code="GO-3007",
                node=node.name,
                layer=origin(node).layer,
                hint="compute a new tensor instead",
            )
    _drop_assertions(module.graph)
    _views_become_reshapes(module.graph)
    module.graph.eliminate_dead_code()
    module.recompile()


def _views_become_reshapes(graph: fx.Graph) -> None:
    """``view`` also demands strides, which belong to the kernels that happened to run.

    T5 views the output of attention, which torch's float32 kernel leaves transposed and its float64
    kernel does not.  A program promises values and shapes only.
    """
    for view in (aten.view.default, aten._unsafe_view.default):
        for node in graph.find_nodes(op="call_function", target=view):
            node.target = aten.reshape.default


_SYMBOL_ASSERTS = frozenset(
    {
        aten._assert_scalar.default,
        aten.sym_constrain_range.default,
        aten.sym_constrain_range_for_size.default,
        torch._check,
    }
)


def _flatten(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in _flatten(item)]
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _flatten(item)]
    return [value]


def _flatten_output(graph: fx.Graph) -> None:
    output = graph.output_node()
    flat = [leaf for leaf in _flatten(output.args[0]) if leaf is not None]
    for leaf in flat:
        if not isinstance(leaf, fx.Node) or not isinstance(
            leaf.meta.get("val", None), (torch.Tensor, type(None))
        ):
            raise InputError(
                f"the module returns {leaf!s}, which is not a tensor",
                code="GO-3007",
                hint="return tensors only",
            )
    if not flat:
        raise InputError("the module returns no tensor", code="GO-3007")
    output.args = (tuple(flat),)


def _fill_missing_values(module: fx.GraphModule) -> None:
    """Gives ``meta["val"]`` to nodes that have none (hand-built graphs, unlifted constants)."""
    from graphopt.ir.propagation import propagate

    propagate(module, only_missing=True)


def _check_form(module: fx.GraphModule) -> None:
    for node in module.graph.nodes:
        if node.op in ("call_module", "call_method"):
            problem = f"a {node.op} node"
        elif node.op == "call_function" and not Level.GRAPHOPT.allows(node.target):
            problem = f"a call of {node.target}"
        elif _mutates(node):
            problem = f"{node.target}, which changes its argument"
        else:
            continue
        raise InputError(
            f"the graph holds {problem}", code="GO-3007", node=node.name, layer=origin(node).layer
        )


# -- signature -----------------------------------------------------------------------------------


def _names(given: Sequence[str] | None, nodes: Sequence[fx.Node], state: int) -> list[str]:
    own = len(nodes) - state
    if given is not None and len(given) != own:
        raise InputError(f"{len(given)} names were given for {own} tensors: {', '.join(given)}")
    if given is not None:
        return [*given, *(n.name for n in nodes[own:])]
    names: list[str] = []
    for node in nodes:
        # fx renames a placeholder that is called like a Python builtin, but not its target.
        stem = str(node.target) if node.op == "placeholder" else node.name
        name, i = stem, 1
        while name in names:
            name, i = f"{stem}_{i}", i + 1
        names.append(name)
    return names
