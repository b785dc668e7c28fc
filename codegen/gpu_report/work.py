"""How much a kernel computes and moves, counted from its TensorIR function before it is scheduled.

Operations are additions, multiplications, comparisons, selections and calls of mathematical functions, each
counted as one, of every element that a block computes; index arithmetic and conversions are not work.  A
product in whole tiles (:mod:`graphopt.codegen.relax.gemm`) counts with its result's size, without the zeros
that fill tiles up along rows and columns.

Bytes are those that have to move at least: each parameter once, or, of one that is read in part (an
embedding), as many elements as there are reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import tvm_ffi
from tvm import ir, s_tir, tirx
from tvm.ir.prim import expr as prim
from tvm.sym import Analyzer

from graphopt.codegen.schedules.blocks import collect
from graphopt.codegen.schedules.cuda.tiles import GEMM_TILE, GemmTile
from graphopt.codegen.schedules.cuda.vectors import bits_of

NOMINAL_SIZE = 128
"""What a symbolic size counts as, where none is given."""

_ARITHMETIC = (
    prim.Add, prim.Sub, prim.Mul, prim.Div, prim.Mod, prim.FloorDiv, prim.FloorMod, prim.Min, prim.Max,
    prim.EQ, prim.NE, prim.LT, prim.LE, prim.GT, prim.GE, prim.Select,
)  # fmt: skip
_STRUCTURE = ("if_then_else", "likely", "reinterpret")


@dataclass(frozen=True)
class Work:
    """What a kernel has to do at least.

    Attributes:
        operations: on elements, by what computes them as the roofline names it: the type of the arithmetic,
            and ``tensor`` for tensor cores.
        bytes: read from and written to memory.
    """

    operations: Mapping[str, int]
    bytes: int

    @property
    def flops(self) -> int:
        """Operations of all kinds."""
        return sum(self.operations.values())

    @property
    def on_tensor_cores(self) -> bool:
        return any(units.endswith("tensor") for units in self.operations)


def count_work(func: tirx.PrimFunc, sizes: Mapping[str, int] | None = None) -> Work:
    """The work of an unscheduled function.

    Args:
        sizes: of symbolic dimensions, by name; :data:`NOMINAL_SIZE` for others.
    """
    value = _Sizes(sizes or {})
    operations: Counter[str] = Counter()
    reads: dict[Any, int] = {}
    realizes = _realizes(func)
    products = any(GEMM_TILE in dict(r.block.annotations) for r in realizes)
    stages = ("left", "right") if products else ()  # copies with conditions
    for realize in realizes:
        block = realize.block
        elements = _elements(realize, value)
        if GEMM_TILE in dict(block.annotations):
            elements = _useful(realize, realizes, value)
        if block.name_hint not in stages:
            each, units = _operations(block)
            operations[units] += elements * each
        for load in collect(block.body, ir.TensorLoad):
            reads[load.source] = reads.get(load.source, 0) + elements
    moved = 0
    for parameter in func.params:
        if not isinstance(parameter.ty, tirx.BufferType):
            continue
        size = prod(value(extent) for extent in parameter.shape)
        taken = reads.get(parameter)
        moved += (min(size, taken) if taken else size) * bits_of(parameter.dtype) // 8
    return Work({units: n for units, n in sorted(operations.items()) if n}, moved)


class _Sizes:
    """The value of an extent at given sizes."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes
        self.analyzer = Analyzer()

    def __call__(self, extent: Any) -> int:
        if isinstance(extent, int | tirx.IntImm):
            return int(extent)

        def known(variable: Any) -> Any:
            return tirx.IntImm(str(variable.ty.dtype), self.sizes.get(variable.name, NOMINAL_SIZE))

        result = self.analyzer.simplify(tvm_ffi.structural_map(extent, (ir.Var, known)))
        return max(1, int(result)) if isinstance(result, tirx.IntImm) else NOMINAL_SIZE


def _realizes(func: tirx.PrimFunc) -> list[Any]:
    """Innermost blocks: those that compute."""
    return [r for r in collect(func.body, s_tir.SBlockRealize) if not collect(r.block.body, s_tir.SBlock)]


def _elements(realize: Any, value: _Sizes) -> int:
    return prod(value(axis.dom.extent) for axis in realize.block.iter_vars)


def _useful(product: Any, realizes: list[Any], value: _Sizes) -> int:
    """Elements of a product in whole tiles that its result takes, times its depth."""
    buffer = product.block.writes[0].source
    depth = value(product.block.iter_vars[-1].dom.extent)
    users = [r for r in realizes if r is not product and any(a.source.same_as(buffer) for a in r.block.reads)]
    return max(_elements(user, value) for user in users) * depth


def _operations(block: Any) -> tuple[int, str]:
    """Operations for one element of a block, and the units that do them."""
    count, kinds = 0, []
    for store in collect(block.body, tirx.BufferStore):
        for node in _values(store.value):
            if isinstance(node, _ARITHMETIC):
                count += 1
                kinds.append(str(node.ty.dtype))
            elif isinstance(node, ir.Call) and not _name(node).startswith(_STRUCTURE):
                count += 1
                kinds.append(str(node.ty.dtype))
    annotation = dict(block.annotations).get(GEMM_TILE)
    if annotation is not None and GemmTile.read(annotation).tensor_cores:
        return count, f"{block.reads[0].source.dtype} tensor"
    floats = [k for k in kinds if k in ("float64", "float32", "float16", "bfloat16")]
    return count, max(floats, key=floats.count) if floats else "integer" if kinds else "float32"


def _name(call: Any) -> str:
    return str(getattr(call.op, "name", "")).rpartition(".")[2]


def _values(expression: Any) -> list[Any]:
    """The nodes of an expression without the indices of what it loads; equal ones are computed once."""
    found: dict[int, Any] = {}
    left = [expression]
    while left:
        node = left.pop()
        if not isinstance(node, ir.Expr) or isinstance(node, ir.TensorLoad):
            continue
        key = tvm_ffi.structural_hash(node)
        if key in found:
            continue
        found[key] = node
        if isinstance(node, ir.Call):
            left += list(node.args)
        else:
            fields = ("a", "b", "value", "body", "condition", "true_value", "false_value")
            left += [getattr(node, name) for name in fields if hasattr(node, name)]
    return list(found.values())
