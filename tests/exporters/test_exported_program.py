"""Program -> ExportedProgram: what is in it, what it computes, and that torch accepts it."""

from __future__ import annotations

import pytest
import torch
from torch.export.graph_signature import InputKind

from graphopt.errors import InternalError
from graphopt.exporters.exported_program import to_exported_program
from graphopt.ir.program import Program
from graphopt.ir.provenance import origin
from graphopt.verification import verify

# torch 2.13 copies exported programs through a deprecated name of its own.
pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec:FutureWarning")


def test_the_module_computes_the_same_bits(program: Program, inputs: list[torch.Tensor]) -> None:
    results = to_exported_program(program).module()(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(results, program(*inputs), strict=True))


def test_decomposition_works_on_it(tied: Program) -> None:
    core = to_exported_program(tied).run_decompositions()
    assert not core.graph.find_nodes(op="call_function", target=torch.ops.aten.linear.default)
    verify(tied, core.module(), draws=1, runs=2).raise_if_failed()


def test_names_metadata_and_weights_are_kept(tied: Program) -> None:
    exported = to_exported_program(tied)
    nodes = {node.name: node for node in exported.graph.nodes}
    for node in tied.graph.nodes:
        assert nodes[node.name].meta.get("stack_trace") == node.meta.get("stack_trace")
        assert origin(nodes[node.name]) == origin(node)
    assert exported.state_dict["conv.weight"] is tied.constant("conv.weight")
    assert set(tied.constants) == set(exported.state_dict) | set(exported.constants)


def test_each_tensor_is_lifted_once_under_its_kind(tied: Program) -> None:
    specs = to_exported_program(tied).graph_signature.input_specs
    kinds = {spec.target: spec.kind for spec in specs if spec.target}
    assert kinds["conv.weight"] is InputKind.PARAMETER
    assert kinds["scale"] is InputKind.BUFFER
    assert [spec.arg.name for spec in specs if spec.kind is InputKind.USER_INPUT] == [
        node.name for node in tied.input_nodes
    ]
    assert len({spec.target for spec in specs if spec.target}) == len(tied.constants)


def test_ranges_come_from_the_dimensions(tied: Program) -> None:
    exported = to_exported_program(tied)
    named = {tied.symbols[str(symbol)]: values for symbol, values in exported.range_constraints.items()}
    assert (named["batch"].lower, named["batch"].upper) == (1, 64)
    assert set(named) == {"batch", "height", "width"}


def test_the_way_back_gives_the_same_program(program: Program) -> None:
    signature = program.signature
    names = {
        (i, axis): dim
        for i, spec in enumerate(signature.inputs)
        for axis, dim in enumerate(spec.shape)
        if isinstance(dim, str)
    }
    again = Program.from_exported(
        to_exported_program(program),
        input_names=[spec.name for spec in signature.inputs],
        output_names=[spec.name for spec in signature.outputs],
        dim_names=names,
        dim_ranges=signature.dims,
    )
    assert again.signature == signature
    again.level = program.level
    assert again.structural_hash() == program.structural_hash()


def test_a_node_without_a_value_is_named(tied: Program) -> None:
    broken = tied.copy()
    node = next(broken.calls())
    del node.meta["val"]
    with pytest.raises(InternalError) as caught:
        to_exported_program(broken)
    assert caught.value.node == node.name
