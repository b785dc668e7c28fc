"""Every private torch name that graphopt uses, in one place.

A torch upgrade that moves one of these breaks here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import sympy
import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import ConstantSource
from torch._export.verifier import TrainingIRVerifier
from torch._guards import detect_fake_mode
from torch._higher_order_ops.scan import scan_op
from torch._higher_order_ops.while_loop import while_loop_op
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.export import ExportedProgram
from torch.fx._lazy_graph_module import _LazyGraphModule as LazyGraphModule
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, get_proxy_mode, make_fx
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatelessSymbolicContext,
    statically_known_true,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

if TYPE_CHECKING:
    import onnx_ir
    from torch.fx import Node

__all__ = [
    "RECURRENT_LAYERS",
    "ConstantSource",
    "DimDynamic",
    "FakeTensor",
    "FakeTensorMode",
    "LazyGraphModule",
    "PYTHON_NUMBER",
    "OnnxTranslation",
    "ShapeEnv",
    "StatelessSymbolicContext",
    "TrainingIRVerifier",
    "ValueRanges",
    "TorchDispatchMode",
    "detect_fake_mode",
    "dispatch_observed",
    "enable_python_dispatcher",
    "int_oo",
    "is_composite",
    "is_constraint_violation",
    "is_tracing",
    "keeping_equations_only",
    "make_fx",
    "pt2_deserialize",
    "pt2_dtypes",
    "recurrent_layers_of_any_length",
    "resolve_overload_name",
    "scan_op",
    "statically_known_true",
    "tree_flatten",
    "tree_map",
    "tree_unflatten",
    "unset_fake_temporarily",
    "untraced",
    "while_loop_op",
]


def resolve_overload_name(qualified: str, *args: object, **kwargs: object) -> str:
    """The overload that torch's own dispatcher picks, ``("aten::mul", x, 2.0)`` -> ``"Tensor"``.

    Raises:
        RuntimeError: no overload accepts the arguments.
    """
    return torch._C._jit_resolve_packet(qualified, *args, **kwargs)


def is_composite(target: torch._ops.OpOverload) -> bool:
    """Whether torch implements the operator by calling others, so that tracing it takes it apart."""
    return bool(target.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd))


def is_tracing() -> bool:
    """Whether calls are recorded in a graph, and not only evaluated on fake tensors."""
    return get_proxy_mode() is not None


@contextmanager
def untraced() -> Iterator[None]:
    """In it, calls are evaluated and not recorded; sizes that data decides are nobody's business outside."""
    mode = detect_fake_mode()
    environment = None if mode is None else mode.shape_env
    with ExitStack() as stack:
        if is_tracing():
            stack.enter_context(disable_proxy_modes_tracing())
        if environment is not None:
            stack.enter_context(environment.ignore_fresh_unbacked_symbols())
        yield


@contextmanager
def dispatch_observed(observe: Callable[[Any, tuple[Any, ...], dict[str, Any], Any], None]) -> Iterator[None]:
    """Calls ``observe(overload, args, kwargs, result)`` after each ATen call made inside.

    The result of a call that raises is the exception, which goes on.
    A call of a composite operator is reported once it returns, after the calls that it consists of:
    the first come from the dispatch key before autograd, where ``torch.export`` traces, the others from
    below it.
    """
    from torch._dispatch.python import enable_pre_dispatch
    from torch._subclasses.schema_check_mode import SchemaCheckMode

    class Below(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            try:
                result = func(*args, **(kwargs or {}))
            except Exception as error:
                observe(func, tuple(args), kwargs or {}, error)
                raise
            observe(func, tuple(args), kwargs or {}, result)
            return result

    class Above(SchemaCheckMode):  # one of the three modes that torch accepts at this key
        def __init__(self) -> None:
            TorchDispatchMode.__init__(self, torch._C.DispatchKey.PreDispatch)

        __torch_dispatch__ = Below.__torch_dispatch__

    with Below(), enable_python_dispatcher(), enable_pre_dispatch(), Above():
        yield


def is_constraint_violation(error: Exception) -> bool:
    """Whether torch.export says that an axis cannot vary as it was told to."""
    from torch._dynamo.exc import UserError, UserErrorType  # slow to import, and only needed then

    return isinstance(error, UserError) and error.error_type is UserErrorType.CONSTRAINT_VIOLATION


def pt2_dtypes() -> dict[int, torch.dtype]:
    """The dtypes behind the numbers that a ``.pt2`` archive stores."""
    # Imported here because torch's serialization imports TorchDynamo, which takes seconds.
    from torch._export.serde.serialize import _SERIALIZE_TO_TORCH_DTYPE

    return {int(number): dtype for number, dtype in _SERIALIZE_TO_TORCH_DTYPE.items()}


def pt2_deserialize(
    model: dict[str, Any], state_dict: dict[str, torch.Tensor], constants: dict[str, torch.Tensor]
) -> ExportedProgram:
    """The ExportedProgram that ``models/model.json`` of a ``.pt2`` archive describes.

    ``model`` must have been vetted: torch evaluates strings in it.
    """
    from torch._export.serde.schema import ExportedProgram as Schema
    from torch._export.serde.serialize import ExportedProgramDeserializer, _dict_to_dataclass

    return ExportedProgramDeserializer().deserialize(
        _dict_to_dataclass(Schema, model), state_dict, constants, None
    )


@contextmanager
def keeping_equations_only(environment: ShapeEnv) -> Iterator[None]:
    """What the block learns about symbols is kept if it is an equation, and forgotten if it is a bound.

    torch's operators ask about sizes to pick a kernel too (convolution: is the batch below 16?), and
    the answer for the example would bound the symbol for ever.
    """
    ranges, axioms, known = dict(environment.var_to_range), dict(environment.axioms), len(environment.guards)
    try:
        yield
    finally:
        learned = [g for g in environment.guards[known:] if isinstance(g.expr, (sympy.Eq, sympy.Ne))]
        environment.guards[known:] = learned
        environment.var_to_range.update(ranges)
        environment.axioms = axioms
        for guard in learned:
            environment.axioms.update(environment.get_implications(guard.expr))
        environment._version_counter += 1  # its caches hold what was true with the bounds


def _backed_size_oblivious() -> AbstractContextManager[None]:
    """While it lasts, symbolic sizes may turn out to be 0 or 1."""
    from torch.fx.experimental import _config

    return _config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]


RECURRENT_LAYERS = frozenset(
    getattr(torch.ops.aten, name).input for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")
)


@contextmanager
def recurrent_layers_of_any_length() -> Iterator[None]:
    """In it, fake recurrent layers have the shapes that their rule gives.

    torch finds the shapes by running the steps one by one, which fixes their number and takes seconds.
    Only for propagation and capture: what is decomposed in here would lose its values.
    """
    saved = []
    for layer in RECURRENT_LAYERS:
        for key, kernel in list(layer.py_kernels.items()):
            saved.append((layer, key, kernel))
            layer.py_kernels[key] = _recurrent_shapes
        layer._dispatch_cache.clear()
    try:
        yield
    finally:
        for layer, key, kernel in saved:
            layer.py_kernels[key] = kernel
            layer._dispatch_cache.clear()


def _recurrent_shapes(x: torch.Tensor, states: Any, *rest: Any) -> tuple[torch.Tensor, ...]:
    """``layer(x, states, weights, has_biases, layers, dropout, train, bidirectional, batch_first)``"""
    bidirectional, batch_first = rest[-2:]
    finals = states if isinstance(states, (list, tuple)) else [states]
    width = finals[0].shape[-1] * (2 if bidirectional else 1)
    steps, batch = reversed(x.shape[:2]) if batch_first else x.shape[:2]
    output = x.new_empty([steps, batch, width])  # torch lays it out step by step in any case
    return (output.transpose(0, 1) if batch_first else output), *(torch.empty_like(s) for s in finals)


def _is_tensor(node: Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


def _undo_widening(module: torch.fx.GraphModule, dtypes: Mapping[Node, torch.dtype]) -> None:
    """Takes back promotions after which a call has another type than ATen gives it.

    torch.onnx promotes float16 operands of abs, sum, prod, cumsum and the like to the float32 that
    kernels accumulate in, and leaves the result at that.
    """
    for node, dtype in dtypes.items():
        if node.op != "call_function" or not _is_tensor(node) or node.meta["val"].dtype == dtype:
            continue
        for operand in node.all_input_nodes:
            source = operand.args[0] if operand.args else None
            widened = operand.target is torch.ops.prims.convert_element_type.default
            if widened and isinstance(source, torch.fx.Node) and source.meta["val"].dtype == dtype:
                node.replace_input_with(operand, source)
        mode = getattr(node.meta["val"], "fake_mode", None) or FakeTensorMode()
        with mode:
            node.meta["val"] = node.meta["val"].to(dtype)
    module.graph.eliminate_dead_code()
    module.recompile()


class OnnxTranslation:
    """torch.onnx's translation of operators, without the rest of ``torch.onnx.export``.

    The public function decomposes the whole graph each time, which takes two thirds of its time, and
    names one untranslatable operator where there may be many.

    Args:
        opset: version of the ONNX operator set.
        custom: translations that go before torch.onnx's own.
        without: operators that are decomposed even so.
    """

    def __init__(
        self,
        opset: int,
        custom: Mapping[Callable[..., Any], Callable[..., Any]],
        without: Iterable[torch._ops.OpOverload] = (),
    ) -> None:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        self._registry = ONNXRegistry.from_torchlib(opset_version=opset)
        for target, function in custom.items():
            self._registry.register_op(target, function)
        for target in without:
            self._registry.functions.pop(target.name(), None)  # by name, as it registers them

    def untranslatable(self, exported: ExportedProgram) -> list[Node]:
        """The calls that no translation is known for."""
        calls = (node for node in exported.graph.nodes if node.op == "call_function")
        return [node for node in calls if not self._registry.is_registered(node.target)]

    def drop_assertions(self, exported: ExportedProgram) -> None:
        """Removes checks of sizes that data decides: ONNX has no effects."""
        from torch.onnx._internal.exporter._fx_passes import remove_assertion_nodes

        remove_assertion_nodes(exported.graph_module)

    def decompose(self, exported: ExportedProgram) -> ExportedProgram:
        """The program with operators that have no translation decomposed, as far as torch can."""
        from torch.onnx._internal.exporter._fx_passes import decompose_with_registry

        with _backed_size_oblivious():
            decomposed = decompose_with_registry(exported, self._registry)
        self.drop_assertions(decomposed)  # tracing adds them
        return decomposed

    def translate(self, exported: ExportedProgram) -> onnx_ir.Model:
        """The ONNX model; the program's graph module is changed on the way."""
        import onnx_ir as ir
        from torch.onnx._internal.exporter._core import (
            _TORCH_DTYPE_TO_ONNX,
            _exported_program_to_onnx_program,
        )
        from torch.onnx._internal.exporter._fx_passes import insert_type_promotion_nodes

        # torch.onnx lacks one of the types that both sides have.
        _TORCH_DTYPE_TO_ONNX.setdefault(torch.float8_e8m0fnu, ir.DataType.FLOAT8E8M0)
        dtypes = {n: n.meta["val"].dtype for n in exported.graph.nodes if _is_tensor(n)}
        with _backed_size_oblivious():
            insert_type_promotion_nodes(exported.graph_module)
        _undo_widening(exported.graph_module, dtypes)
        with _remembering_numbers():
            return _exported_program_to_onnx_program(exported, registry=self._registry).model


PYTHON_NUMBER = "graphopt.number"
"""Key in the ``meta`` of an ONNX constant: the Python float that torch.onnx rounded to float32."""


@contextmanager
def _remembering_numbers() -> Iterator[None]:
    """While it lasts, constants of torch.onnx keep the numbers that they were made of."""
    from torch.onnx._internal.exporter import _building

    create = _building._get_or_create_constant

    def remembering(farm: Any, number: Any, dtype: Any, opset: Any) -> Any:
        value = create(farm, number, dtype, opset)
        if isinstance(number, float):
            value.meta[PYTHON_NUMBER] = number
        return value

    _building._get_or_create_constant = remembering  # type: ignore[assignment]
    try:
        yield
    finally:
        _building._get_or_create_constant = create
