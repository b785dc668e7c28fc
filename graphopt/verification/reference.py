"""The float64 reference: what a graph computes in (nearly) exact arithmetic.

Running ``graph.double()`` is not enough.  Some operators choose a constant by the dtype they see
(``rms_norm`` with ``eps=None``), graphs convert and create tensors of a named dtype, and a Python
number such as ``0.1`` is a float32 by the time a float32 kernel uses it.  The interpreter here pins
all of that to what the graph as written does, and only the arithmetic is done in float64.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from graphopt._torch import tree_map
from graphopt.errors import InputError
from graphopt.ir.bodies import CONTROL_FLOW, bodies
from graphopt.verification.control_flow import run_control_flow

aten = torch.ops.aten

_WIDER = {torch.complex32: torch.complex128, torch.complex64: torch.complex128}

CASTS = frozenset(
    [
        "aten::to",
        "aten::_to_copy",
        "aten::type_as",
        "prims::convert_element_type",
        "aten::float",
        "aten::half",
    ]
)
"""Conversions: the one move of data that rounds, when the destination is narrower."""

_STORING = frozenset(
    """aten::full aten::full_like aten::fill aten::masked_fill aten::scalar_tensor aten::where aten::new_full
    aten::constant_pad_nd aten::pad aten::index_fill""".split()
)
"""Operators that store a number in a tensor: it is rounded to the tensor's dtype."""

_UNROUNDED = frozenset(["aten::arange", "aten::linspace", "aten::logspace"])
"""Operators whose numbers also decide a length; kernels use them as doubles."""

_BIT_LEVEL = frozenset(["aten::view.dtype", "aten::view_copy.dtype"])
"""Operators that read the bits of a float and have no meaning in another precision."""


def widened(dtype: torch.dtype) -> torch.dtype:
    """float64 for the narrower floating-point dtypes, complex128 for complex ones, else unchanged."""
    if dtype.is_complex:
        return _WIDER.get(dtype, dtype)
    return torch.float64 if dtype.is_floating_point else dtype


def unit_roundoff(dtype: torch.dtype) -> float:
    """Half the spacing of numbers at one: 2^-24 for float32; 0 for dtypes that do not round."""
    if not (dtype.is_floating_point or dtype.is_complex):
        return 0.0
    return torch.finfo(dtype).eps / 2


def accumulator_roundoff(dtype: torch.dtype) -> float:
    """Unit roundoff of the sums inside kernels of a dtype: half precision accumulates in float32."""
    return min(unit_roundoff(dtype), unit_roundoff(torch.float32))


def run_eagerly(
    module: fx.GraphModule, inputs: Sequence[Tensor]
) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """Runs the graph as it is written.

    Returns:
        The flat outputs, and for each node its value with every tensor replaced by its dtype.

    Raises:
        InputError: a node draws random numbers, so no two runs agree.
    """
    for node in (n for g in (module, *(b for _, b in bodies(module))) for n in g.graph.nodes):
        if is_random(node):
            raise InputError(
                f"{node.target} draws random numbers; results of two runs cannot be compared",
                node=node.name,
                hint="export the module in eval mode, or make the random tensor an input",
            )
    recorder = _DtypeRecorder(module)
    with torch.no_grad(), recorder.readable_errors():
        outputs = recorder.run(*inputs)
    return _flat(outputs), recorder.dtypes


def is_random(node: fx.Node) -> bool:
    """Whether a node draws random numbers as it is called (dropout in eval mode does not)."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return False
    if torch.Tag.nondeterministic_seeded not in target.tags:
        return False
    named = {a.name: v for a, v in zip(target._schema.arguments, node.args, strict=False)} | node.kwargs
    if "dropout_p" in named or "attention" in target._schema.name:
        return bool(named.get("dropout_p", 0.0) != 0.0)
    for training in ("train", "training"):
        if named.get(training, True) in (False, None):
            return False
    return bool(named.get("p", named.get("dropout", 1.0)) != 0.0)


class _Interpreter(fx.Interpreter):
    current: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        self.current = n
        return super().run_node(n)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target in CONTROL_FLOW:
            return run_control_flow(target, args, lambda body, operands: self.nested(body).run(*operands))
        return super().call_function(target, args, kwargs)

    def nested(self, body: fx.GraphModule) -> _Interpreter:
        """The interpreter that runs the body of a branch or loop."""
        return type(self)(body)

    @contextlib.contextmanager
    def readable_errors(self) -> Iterator[None]:
        self.extra_traceback = False
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, NotImplementedError) or self.current is None:
                raise
            raise InputError(
                f"{self.current.target} cannot run: {str(error).strip().splitlines()[0]}",
                node=self.current.name,
            ) from error


class _DtypeRecorder(_Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.dtypes: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.dtypes[n.name] = tree_map(_dtype, value)
        return value


class Float64Interpreter(_Interpreter):
    """Runs a graph in float64, computing the same function as the graph as written.

    Args:
        module: the graph.
        dtypes: what :func:`run_eagerly` returned for it.

    Attributes:
        emulated: names of nodes that have no float64 kernel and ran in their own precision.
    """

    def __init__(self, module: fx.GraphModule, dtypes: dict[str, Any]) -> None:
        super().__init__(module)
        self.dtypes = dtypes
        self.emulated: set[str] = set()

    def run_in_float64(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The flat outputs; floating-point ones are float64, others as the graph has them."""
        with torch.no_grad():
            return self.run_with_gradients(inputs)

    def run_with_gradients(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The same, and recorded for a backward pass where that is enabled."""
        with (
            _default_dtype(torch.float64),
            sdpa_kernel(SDPBackend.MATH),
            self.readable_errors(),
        ):
            return _flat(self.run(*inputs))

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "output":
            return super().run_node(n)
        if n.op == "call_function" and "_assert_" in str(n.target):
            return None
        value = tree_map(_widen, super().run_node(n))
        return self.finish(n, value)

    def finish(self, n: fx.Node, value: Any) -> Any:
        """What becomes of a node's float64 value: numbers too large for its dtype overflow."""
        if n.op != "call_function":
            return value
        return _map_with(lambda v, d: _overflow(v, d), value, self.dtypes[n.name])

    def nested(self, body: fx.GraphModule) -> Float64Interpreter:
        return Float64Interpreter(body, recorded_dtypes(body))

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not isinstance(target, torch._ops.OpOverload):
            return super().call_function(target, args, kwargs)
        node = self.current
        assert node is not None
        if str(target).replace(".default", "").replace(".", "::", 1) in _BIT_LEVEL:
            return self._emulate(node, target)
        pinned_args, pinned_kwargs = self._pin(node, target, args, kwargs)
        try:
            return self.invoke(target, pinned_args, pinned_kwargs)
        except (NotImplementedError, RuntimeError) as error:
            if "not implemented for" not in str(error) and not isinstance(error, NotImplementedError):
                # Kernels that want one dtype say so in many ways; their own precision must then work.
                if "dtype" not in str(error) and "Double" not in str(error) and "Float" not in str(error):
                    raise
            return self._emulate(node, target)

    def invoke(self, target: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls the operator on float64 operands."""
        return target(*args, **kwargs)

    def _emulate(self, node: fx.Node, target: torch._ops.OpOverload) -> Any:
        self.emulated.add(node.name)

        def narrow(operand: fx.Node) -> Any:
            return _map_with(
                lambda v, d: v.to(d) if isinstance(v, Tensor) and d is not None else v,
                self.env[operand],
                self.dtypes[operand.name],
            )

        args, kwargs = fx.map_arg((node.args, node.kwargs), narrow)
        return target(*args, **kwargs)

    def _pin(
        self, node: fx.Node, target: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        schema = target._schema
        stored = _first_dtype(self.dtypes[node.name])
        computed = self.compute_dtype(node)
        number_dtype = stored if schema.name in _STORING else _opmath(computed)
        pinned: dict[str, Any] = {}
        for i, argument in enumerate(schema.arguments):
            if i < len(args):
                value = args[i]
            elif argument.name in kwargs:
                value = kwargs[argument.name]
            else:
                continue
            if isinstance(value, torch.dtype):
                value = widened(value)
            elif (
                isinstance(value, float) and schema.name not in _UNROUNDED and "[]" not in str(argument.type)
            ):
                value = _rounded(value, number_dtype)
            pinned[argument.name] = value
        if "rms_norm" in schema.name and pinned.get("eps") is None:
            # ATen takes the epsilon of the type it accumulates in.
            operand = _first_dtype(self.dtypes[node.all_input_nodes[0].name])
            pinned["eps"] = torch.finfo(_opmath(operand) or torch.float32).eps
        names = [a.name for a in schema.arguments]
        positional = tuple(pinned.pop(n) for n in names[: len(args)])
        return positional, pinned

    def compute_dtype(self, node: fx.Node) -> torch.dtype | None:
        """The floating-point dtype in which a node computes: its output's, else its operands'."""
        own = _float_dtypes(self.dtypes[node.name])
        if own:
            return own[0]
        operands = [d for n in node.all_input_nodes for d in _float_dtypes(self.dtypes[n.name])]
        return max(operands, key=unit_roundoff) if operands else None


def recorded_dtypes(body: fx.GraphModule) -> dict[str, Any]:
    """As :func:`run_eagerly` has them, from the values that tracing left: a branch need not be taken."""
    return {n.name: tree_map(_dtype, n.meta.get("val")) for n in body.graph.nodes}


def _dtype(value: Any) -> torch.dtype | None:
    return value.dtype if isinstance(value, Tensor) else None


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """``int_tensor * 0.5`` and ``mean(int)`` take the default dtype: it decides their precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _widen(value: Any) -> Any:
    return value.to(widened(value.dtype)) if isinstance(value, Tensor) else value


def _overflow(value: Any, dtype: torch.dtype | None) -> Any:
    if not isinstance(value, Tensor) or dtype is None or not dtype.is_floating_point or not value.numel():
        return value
    if dtype == torch.float64 or value.dtype != torch.float64:
        return value
    largest = torch.finfo(dtype).max * (1 + unit_roundoff(dtype))
    low, high = torch.aminmax(value.detach())
    if -largest < float(low) and float(high) < largest:
        return value
    infinity = torch.full((), float("inf"), dtype=value.dtype)
    return torch.where(value.abs() >= largest, torch.copysign(infinity, value), value)


def _rounded(value: float, dtype: torch.dtype | None) -> float:
    if dtype is None or not dtype.is_floating_point or dtype == torch.float64:
        return value
    return float(torch.tensor(value, dtype=torch.float64).to(dtype).to(torch.float64))


def _opmath(dtype: torch.dtype | None) -> torch.dtype | None:
    """The type that ATen's CPU kernels of a dtype compute elements in."""
    if dtype in (torch.float16, torch.bfloat16):
        return torch.float32
    return dtype


def _float_dtypes(tree: Any) -> list[torch.dtype]:
    found: list[torch.dtype] = []
    tree_map(lambda d: found.append(d) if d is not None and unit_roundoff(d) else None, tree)
    return found


def _first_dtype(tree: Any) -> torch.dtype | None:
    found: list[torch.dtype] = []
    tree_map(lambda d: found.append(d) if d is not None else None, tree)
    return found[0] if found else None


def _map_with(function: Any, value: Any, dtypes: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_map_with(function, v, d) for v, d in zip(value, dtypes, strict=True))
    return function(value, dtypes)


def _flat(outputs: Any) -> tuple[Tensor, ...]:
    found = outputs if isinstance(outputs, list | tuple) else (outputs,)
    return tuple(y.detach() for y in found)  # an output may be a parameter
