"""Checks what the JSON of a ``.pt2`` archive says before torch acts on it.

torch's deserializer trusts its input: it evaluates symbolic sizes as Python (``sympy.sympify``),
compiles guards as Python, resolves call targets by attribute access on the ``torch`` module (so that
``torch.load`` or ``torch.hub.load`` can be a node), and imports modules that pytree contexts name.
Here each of these is held to a small grammar, or dropped where a Program has no use for it.
"""

from __future__ import annotations

import ast
import builtins
import json
import operator
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from graphopt.errors import InputError
from graphopt.ir.level import Level, is_scalar_function

_KEPT_METADATA = frozenset({"stack_trace", "nn_module_stack", "torch_fn", "custom"})

_HIGHER_ORDER = frozenset({"cond", "while_loop", "scan", "wrap_with_set_grad_enabled", "wrap_with_autocast"})

_PYTHON_MODULES = {"_operator": operator, "builtins": builtins}

_REFUSED_OPS = frozenset({"aten::from_file"})  # it maps, and can create, any file

_SYMPY_FUNCTIONS = frozenset(
    """
    Symbol Integer Rational Float Add Mul Pow Mod Max Min Abs floor ceiling Piecewise ExprCondPair
    Eq Ne Lt Le Gt Ge Equality Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan
    And Or Not Not true false
    FloorDiv ModularIndexing Where PythonMod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift
    PowByNatural FloatPow FloatTrueDiv IntTrueDiv IsNonOverlappingAndDenseIndicator TruncToFloat
    TruncToInt RoundToInt RoundDecimal ToFloat Identity
    """.split()
)
_SYMBOL = re.compile(r"[A-Za-z_]{1,16}[0-9]{1,12}")
_NUMBER = re.compile(r"[-+0-9.e]{1,64}")
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
_MAX_EXPRESSION = 20_000
_MAX_EXPONENT = 64


def vet(model: dict[str, Any]) -> dict[str, Any]:
    """The model description with every string that torch would act on checked or taken out.

    Container types of inputs and outputs are replaced by flat tuples: a Program has no others, and
    restoring them would import the classes that the file names.

    Returns:
        a new description; parts that need no change are shared with ``model``.

    Raises:
        InputError: the model calls something that is no operator of ATen or the dialect (GO-3005), or
            a symbolic size is no arithmetic (GO-3002).
        KeyError, TypeError, ValueError: the description does not have the form that it should.
    """
    graph_module = dict(model["graph_module"])
    graph_module["graph"] = _vetted_graph(graph_module["graph"])
    signature = graph_module["signature"]
    inputs = [_input_name(spec) for spec in signature["input_specs"]]
    outputs = sum("user_output" in spec for spec in signature["output_specs"])
    graph_module["module_call_graph"] = [_flat_call([i for i in inputs if i is not None], outputs)]
    graph_module["treespec_namedtuple_fields"] = {}
    for expression in _values_of("expr_str", graph_module):
        _check_expression(expression)
    for symbol in model["range_constraints"]:
        if not is_symbol(symbol):
            raise _not_arithmetic(symbol)
    return {
        **model,
        "graph_module": graph_module,
        "guards_code": [],
        "verifiers": [v for v in model.get("verifiers", []) if v in ("TRAINING", "ATEN")],
    }


def _vetted_graph(graph: Mapping[str, Any]) -> dict[str, Any]:
    if graph.get("custom_obj_values"):
        raise InputError(
            "the model holds TorchBind objects, which only native code can restore", code="GO-3008"
        )
    return {**graph, "nodes": [_vetted_node(node) for node in graph["nodes"]]}


def _vetted_node(node: Mapping[str, Any]) -> dict[str, Any]:
    _check_target(str(node["target"]), str(node.get("name") or ""))
    return {
        **node,
        "inputs": [_vetted_argument(argument) for argument in node["inputs"]],
        "metadata": {k: v for k, v in node["metadata"].items() if k in _KEPT_METADATA},
    }


def _vetted_argument(argument: Any) -> Any:
    """An argument with the bodies of nested graphs vetted too."""
    if isinstance(argument, list):
        return [_vetted_argument(a) for a in argument]
    if not isinstance(argument, dict):
        return argument
    if "as_operator" in argument:
        _check_target(str(argument["as_operator"]), "")
    if "as_custom_obj" in argument:
        raise InputError(
            "the model holds TorchBind objects, which only native code can restore", code="GO-3008"
        )
    if "as_graph" in argument:
        nested = argument["as_graph"]
        return {**argument, "as_graph": {**nested, "graph": _vetted_graph(nested["graph"])}}
    return {key: _vetted_argument(value) for key, value in argument.items()}


def _check_target(target: str, node: str) -> None:
    """Refuse a call target that is not an operator, without resolving anything else."""
    parts = target.split(".")
    if not all(re.fullmatch(r"\w+", part) for part in parts):
        raise _unknown(target, node)
    match parts:
        case ["torch", "ops", "higher_order", name]:
            known = name in _HIGHER_ORDER
        case ["torch", "ops", "aten" | "prims" | "graphopt" as namespace, name, overload]:
            packet = getattr(getattr(torch.ops, namespace), name, None)
            resolved = getattr(packet, overload, None)
            known = (
                isinstance(resolved, torch._ops.OpOverload)
                and f"{namespace}::{name}" not in _REFUSED_OPS
                and Level.GRAPHOPT.allows(resolved)
            )
        case ["torch", "sym_int" | "sym_float" | "sym_max" | "sym_min" | "sym_not" | "sym_ite" | "sym_sum"]:
            known = True
        case ["torch", "_sym_sqrt"] | ["math", "ceil" | "floor" | "trunc"]:
            known = True
        case ["_operator" | "builtins" as module, name]:
            function = getattr(_PYTHON_MODULES[module], name, None)
            known = callable(function) and is_scalar_function(function)
        case _:
            known = False
    if not known:
        raise _unknown(target, node)


def _unknown(target: str, node: str) -> InputError:
    return InputError(
        f"the model calls {target!r}, which is not an operator that graphopt knows",
        code="GO-3005",
        node=node or None,
        hint="graphopt reads programs made of ATen operators and its own dialect",
    )


def is_symbol(name: str) -> bool:
    """Whether torch names a symbolic size so: ``s77``, ``u0``."""
    return bool(_SYMBOL.fullmatch(name))


def _input_name(spec: Mapping[str, Any]) -> str | None:
    """The name of a user input; None for a lifted tensor."""
    match spec:
        case {"user_input": {"arg": {"as_tensor": {"name": str() as name}}}}:
            return name
        case {"user_input": _}:
            return ""
        case {"constant_input": {"name": str() as name}}:
            return name
    return None


def _flat_call(inputs: list[str], outputs: int) -> dict[str, Any]:
    def node(kind: str | None, children: list[Any]) -> dict[str, Any]:
        context = {"builtins.tuple": "null", "builtins.dict": "[]"}.get(kind or "")
        return {"type": kind, "context": context, "children_spec": children}

    def leaves(count: int) -> dict[str, Any]:
        return node("builtins.tuple", [node(None, [])] * count)

    arguments = node("builtins.tuple", [leaves(len(inputs)), node("builtins.dict", [])])
    named = len(set(inputs)) == len(inputs) and all(name.isidentifier() for name in inputs)
    return {
        "fqn": "",
        "signature": {
            "inputs": [],
            "outputs": [],
            "in_spec": json.dumps([1, arguments]),
            "out_spec": json.dumps([1, leaves(outputs)]),
            "forward_arg_names": inputs if named else None,
        },
    }


def _values_of(key: str, value: Any) -> Iterator[Any]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if key in item:
                yield item[key]
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _check_expression(text: Any) -> None:
    """Refuse a symbolic size that is anything but arithmetic on symbols, which sympify would run."""
    if not isinstance(text, str) or len(text) > _MAX_EXPRESSION:
        raise _not_arithmetic(str(text))
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _not_arithmetic(text) from None
    if not _is_arithmetic(tree.body):
        raise _not_arithmetic(text)


def _is_arithmetic(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=bool() | int() | float()):
            return True
        case ast.Name(id=name):
            return bool(_SYMBOL.fullmatch(name)) or name in ("true", "false")
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Invert(), operand=operand):
            return _is_arithmetic(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _is_arithmetic(left) and _is_small(right)
        case ast.BinOp(
            left=left,
            op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.FloorDiv() | ast.Mod(),
            right=right,
        ):
            return _is_arithmetic(left) and _is_arithmetic(right)
        case ast.Compare(left=left, comparators=others):
            return _is_arithmetic(left) and all(map(_is_arithmetic, others))
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str() as name)], keywords=words):
            return bool(_SYMBOL.fullmatch(name)) and _are_flags(words)
        case ast.Call(func=ast.Name(id="Float"), args=[ast.Constant(value=str() as number)], keywords=words):
            return bool(_NUMBER.fullmatch(number)) and all(isinstance(w.value, ast.Constant) for w in words)
        case ast.Call(func=ast.Name(id="Pow" | "PowByNatural"), args=[base, exponent], keywords=[]):
            return _is_arithmetic(base) and _is_small(exponent)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            return name in _SYMPY_FUNCTIONS and all(map(_is_arithmetic, args))
    return False


def _is_small(node: ast.expr) -> bool:
    """Whether an exponent is a small number; towers of powers would run for ever."""
    match node:
        case (
            ast.Constant(value=int() as value)
            | ast.Call(func=ast.Name(id="Integer"), args=[ast.Constant(value=int() as value)], keywords=[])
        ):
            return abs(value) <= _MAX_EXPONENT
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _is_small(operand)
        case ast.Call(
            func=ast.Name(id="Integer"), args=[ast.UnaryOp(op=ast.USub(), operand=operand)], keywords=[]
        ):
            return _is_small(operand)
        case ast.Call(func=ast.Name(id="Rational"), args=[ast.Constant(), ast.Constant()], keywords=[]):
            return True
    return False


def _are_flags(words: list[ast.keyword]) -> bool:
    return all(
        w.arg is not None and isinstance(w.value, ast.Constant) and type(w.value.value) is bool for w in words
    )


def _not_arithmetic(text: str) -> InputError:
    shown = text if len(text) < 80 else f"{text[:77]}..."
    return InputError(f"{shown!r} is not the symbolic size that it should be", code="GO-3002")
