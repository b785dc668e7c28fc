"""The test that walks the dialect: every op, on every form that it has, over all its samples.

Whatever is registered is tested; nothing here names an op.  Numbers are compared by
``graphopt.verification``; the last tests break a form and see the walk fail.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

from graphopt.dialect import registry
from graphopt.dialect.op import Absent, Autograd, DialectOp, OnnxForm, RelaxForm, Sample
from graphopt.errors import VerificationError
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from graphopt.verification import OnnxRuntimeRunner, verify

OPSET = 18
FEW = 2

# torch 2.13 copies exported programs through a deprecated name of its own.
pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec:FutureWarning")


class _Calls(torch.nn.Module):
    """One output for each sample of an op."""

    def __init__(self, op: DialectOp, samples: list[Sample]) -> None:
        super().__init__()
        self.op, self.samples = op, samples

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        following = iter(tensors)

        def call(sample: Sample) -> torch.Tensor:
            return self.op.overload(*(next(following) if _is_tensor(a) else a for a in sample.args))

        return tuple(call(sample) for sample in self.samples)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _samples(op: DialectOp, dtypes: tuple[torch.dtype, ...]) -> list[Sample]:
    """All samples in the first dtype and, to save time, the first few in each other."""
    return [
        dataclasses.replace(s.to(dtype), name=f"{s.name}_{str(dtype).removeprefix('torch.')}")
        for dtype in dtypes
        for s in op.samples()[: None if dtype == dtypes[0] else FEW]
    ]


def _program(op: DialectOp, dtypes: tuple[torch.dtype, ...]) -> tuple[Program, list[torch.Tensor]]:
    """All samples in all dtypes as one program, dynamic where they say so, and their tensors."""
    samples = _samples(op, dtypes)
    tensors, dynamic, names = [], [], []
    for sample in samples:
        for i, operand in enumerate(sample.args):
            if _is_tensor(operand):
                # Samples share tensors, and torch.export takes one tensor to be one input.
                tensors.append(operand.clone())
                axes = enumerate(sample.dynamic.get(i, ()))
                dynamic.append({axis: f"{sample.name}_{dim}" for axis, dim in axes if dim})
                names.append(f"{sample.name}_{i}")
    program = capture_torch(
        _Calls(op, samples).eval(),
        tensors,
        dynamic_shapes=dynamic,
        input_names=names,
        output_names=[s.name for s in samples],
    )
    return program, tensors


def _agree(op: DialectOp, dtypes: tuple[torch.dtype, ...], make: Callable[[Program], Any]) -> None:
    """A form agrees with the op on the samples as given, and on draws of other values and sizes."""
    program, tensors = _program(op, dtypes)
    candidate = make(program)
    verify(program, candidate, inputs=tensors).raise_if_failed()
    verify(program, candidate, draws=1, shapes=[_other_sizes(program, 1)]).raise_if_failed()


def _other_sizes(program: Program, step: int) -> dict[str, int]:
    """Sizes of the dynamic dimensions that differ from each other and from the samples'."""
    return {dim: 2 + step + i % 5 for i, dim in enumerate(program.signature.dims)}


# --- forms ---------------------------------------------------------------------------------------


def check_reference(op: DialectOp) -> None:
    """The op is its reference, functional, and half precision is the float32 result rounded."""
    for dtype in op.dtypes:
        for sample in op.samples():
            cast = sample.to(dtype)
            kept = pytree.tree_map(lambda a: a.clone() if _is_tensor(a) else a, cast.args)
            y = op.overload(*cast.args)
            assert torch.equal(y, op.reference(*cast.args)), sample.name
            assert all(torch.equal(a, b) for a, b in zip(cast.args, kept, strict=True) if _is_tensor(a))
            assert y.dtype == dtype and y.isfinite().all(), sample.name
            if dtype.itemsize < 4:
                wide = op.reference(*cast.to(torch.float32).args)
                assert torch.equal(y, wide.to(dtype)), f"{sample.name}: {dtype} is not computed in float32"


def check_schema(op: DialectOp) -> None:
    """``torch.library.opcheck``: schema, fake kernel, gradient registration, AOT with dynamic shapes."""
    for i, sample in enumerate(op.samples()):
        args = _leaves(sample) if isinstance(op.autograd, Autograd) else sample.args
        torch.library.opcheck(op.overload, sample.args, test_utils=("test_schema", "test_faketensor"))
        if i < FEW:
            torch.library.opcheck(op.overload, args)


def check_fake(op: DialectOp) -> None:
    """Shapes and dtypes of the fake kernel are the real ones, at other sizes of the symbols too."""
    program, _ = _program(op, op.dtypes)
    for step in (0, 3):
        sizes = _other_sizes(program, step)
        inputs = [
            torch.ones(program.signature.resolve(spec.shape, sizes), dtype=spec.dtype)
            for spec in program.signature.inputs
        ]
        for spec, y in zip(program.signature.outputs, program(*inputs), strict=True):
            assert tuple(y.shape) == program.signature.resolve(spec.shape, sizes), spec.name
            assert y.dtype == spec.dtype, spec.name


def check_symbolic(op: DialectOp) -> None:
    """No kernel fixes a size that a sample calls dynamic."""
    program, _ = _program(op, (torch.float32,))
    wanted = {
        f"{s.name}_{dim}"
        for s in _samples(op, (torch.float32,))
        for axes in s.dynamic.values()
        for dim in axes
        if dim
    }
    assert wanted == set(program.signature.dims)
    assert wanted, "no sample has a dynamic dimension"


def check_gradient(op: DialectOp) -> None:
    """First and second derivatives against finite differences, in float64."""
    assert isinstance(op.autograd, Autograd)
    checked = 0
    for sample in op.samples():
        if sample.differentiable:
            args = _leaves(sample.to(torch.float64))
            small = sum(a.numel() for a in args if _is_tensor(a)) <= 64
            # The fast mode checks random projections of large Jacobians.
            torch.autograd.gradcheck(op.overload, args, fast_mode=not small)
            if small:
                torch.autograd.gradgradcheck(op.overload, args)
                checked += 1
    assert checked, "no sample is small enough for second derivatives"


def _leaves(sample: Sample) -> tuple[Any, ...]:
    return tuple(
        a.clone().requires_grad_() if _is_tensor(a) and a.is_floating_point() else a for a in sample.args
    )


def check_decomposition(op: DialectOp) -> None:
    """The decomposition lowers to core ATen and computes the same."""

    def lowered(program: Program) -> Program:
        table = torch.export.default_decompositions()
        table.update({op.overload: op.decompose})
        decomposed = program.to_exported().run_decompositions(table)
        for node in decomposed.graph.nodes:
            if isinstance(node.target, torch._ops.OpOverload):
                assert torch.Tag.core in node.target.tags, f"{node.target} is not a core ATen op"
        return Program.from_exported(decomposed)

    _agree(op, (torch.float32,), lowered)


def check_onnx(op: DialectOp) -> None:
    """Plain onnxruntime runs the ONNX form, made of standard ops only."""
    assert isinstance(op.onnx, OnnxForm)
    opset = max(OPSET, op.onnx.opset)

    def exported(program: Program) -> OnnxRuntimeRunner:
        model = torch.onnx.export(
            program.to_exported(),
            opset_version=opset,
            custom_translation_table={op.overload: op.onnx.build},  # type: ignore[union-attr]
            optimize=False,
            verbose=False,
        )
        assert model is not None
        assert {node.domain for node in model.model.graph} == {""}
        return OnnxRuntimeRunner(model.model_proto.SerializeToString())

    _agree(op, op.onnx.dtypes, exported)


def check_relax(op: DialectOp) -> None:
    """The Relax form, compiled for this CPU."""
    assert isinstance(op.relax, RelaxForm)
    _agree(op, op.relax.dtypes, lambda program: _compile(op, program))


def _compile(op: DialectOp, program: Program) -> Callable[..., tuple[torch.Tensor, ...]]:
    import tvm
    from tvm import relax, tirx

    sizes = {dim: tirx.Var(dim, "int64") for dim in program.signature.dims}
    values: dict[Any, Any] = {}
    for node, spec in zip(program.input_nodes, program.signature.inputs, strict=True):
        shape = [sizes[d] if isinstance(d, str) else tirx.IntImm("int64", d) for d in spec.shape]
        dtype = str(spec.dtype).removeprefix("torch.")
        values[node] = relax.Var(spec.name, relax.TensorType(shape, dtype))
    builder = relax.BlockBuilder()
    with builder.function("main", list(values.values())):
        with builder.dataflow():
            for node in program.graph.find_nodes(op="call_function", target=op.overload):
                operands = torch.fx.map_arg(node.args, values.__getitem__)
                values[node] = op.relax.build(builder, *operands)  # type: ignore[union-attr]
            result = builder.emit_output(relax.Tuple([values[n] for n in program.output_nodes]))
        builder.emit_func_output(result)
    target = tvm.target.Target({"kind": "llvm", "opt-level": 1})
    machine = relax.VirtualMachine(tvm.compile(builder.get(), target=target), tvm.cpu())

    def run(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = machine["main"](*(tvm.runtime.from_dlpack(t.contiguous()) for t in tensors))
        return tuple(torch.from_dlpack(y) for y in outputs)

    return run


OPTIONAL_FORMS = {"autograd": check_gradient, "onnx": check_onnx, "relax": check_relax}
REQUIRED_FORMS = {
    "reference": check_reference,
    "schema": check_schema,
    "fake": check_fake,
    "symbolic": check_symbolic,
    "decomposition": check_decomposition,
}


WALK = [
    pytest.param(op, form, check, id=f"{op.name}-{form}")
    for op in registry.all_ops()
    for form, check in (REQUIRED_FORMS | OPTIONAL_FORMS).items()
]


@pytest.mark.parametrize(("op", "form", "check"), WALK)
def test_every_op_on_every_form(op: DialectOp, form: str, check: Callable[[DialectOp], None]) -> None:
    if form in OPTIONAL_FORMS and isinstance(absent := getattr(op, form), Absent):
        assert absent.reason == registry.absent_forms()[op.name][form]
        return
    check(op)


@pytest.mark.parametrize("op", registry.all_ops(), ids=lambda op: op.name)
def test_samples_cover_what_the_op_takes(op: DialectOp) -> None:
    samples = op.samples()
    assert len(samples) >= 4
    assert len({s.name for s in samples}) == len(samples)
    parameters = [a for a in op.overload._schema.arguments]
    assert all(len(s.args) == len(parameters) for s in samples)
    for i, parameter in enumerate(parameters):
        given = [s.args[i] for s in samples]
        kind = str(parameter.type)
        if kind.startswith("Optional"):
            assert any(v is None for v in given) and any(v is not None for v in given), parameter.name
        elif kind in ("float", "int", "bool", "str"):
            assert len(set(given)) > 1, f"all samples have {parameter.name} = {given[0]}"
    ranks = {s.args[0].dim() for s in samples}
    assert len(ranks) > 1 or op.name == "attention", "all samples have the same rank"


# --- the walk can fail ---------------------------------------------------------------------------


def _norm() -> DialectOp:
    return registry.get("rms_norm_counted")


def test_the_walk_sees_a_wrong_relax_form() -> None:
    op = _norm()
    build = op.relax.build  # type: ignore[union-attr]
    wrong = RelaxForm(lambda bb, x, weight, eps, count: build(bb, x, weight, eps, count + 1))
    with pytest.raises(VerificationError):
        check_relax(dataclasses.replace(op, relax=wrong))


def test_the_walk_sees_a_wrong_onnx_form() -> None:
    op = _norm()
    build = op.onnx.build  # type: ignore[union-attr]

    def wrong(x: Any, weight: Any, eps: float, count: int) -> Any:
        return build(x, weight, 2 * eps + 1e-3, count)

    with pytest.raises(VerificationError):
        check_onnx(dataclasses.replace(op, onnx=OnnxForm(wrong)))


def test_the_walk_sees_a_wrong_decomposition() -> None:
    op = _norm()

    def wrong(x: torch.Tensor, weight: torch.Tensor | None, eps: float, count: int) -> torch.Tensor:
        return op.reference(x, weight, eps, count) * (1 + 1e-4)

    with pytest.raises(VerificationError):
        check_decomposition(dataclasses.replace(op, decomposition=wrong))


def test_the_walk_sees_a_reference_that_differs_from_the_op() -> None:
    op = _norm()
    with pytest.raises(AssertionError):
        check_reference(dataclasses.replace(op, reference=lambda x, *rest: x))
