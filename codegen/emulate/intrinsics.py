"""What the intrinsics mean that a warp carries out as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm.ir.prim import expr as prim

from graphopt.codegen.emulate.launch import WARP
from graphopt.codegen.emulate.memory import NotModelled, integer
from graphopt.codegen.emulate.rewrite import Expr, op_name

if TYPE_CHECKING:
    from graphopt.codegen.emulate.regions import RegionWriter

_SHUFFLES = frozenset(
    {"tirx.tvm_warp_shuffle", "tirx.tvm_warp_shuffle_up", "tirx.tvm_warp_shuffle_down"}
)
_MATRIX = frozenset(
    {
        "tirx.tvm_fill_fragment",
        "tirx.tvm_load_matrix_sync",
        "tirx.tvm_mma_sync",
        "tirx.tvm_store_matrix_sync",
    }
)


def is_shuffle(node: Expr) -> bool:
    """Whether an expression takes a value from another lane."""
    return op_name(node) in _SHUFFLES


def is_collective(node: Expr) -> bool:
    """Whether an expression is evaluated by all lanes of a warp together."""
    return is_shuffle(node) or op_name(node) in _MATRIX


def shuffle_source(call: Expr, thread: Expr) -> Expr:
    """Number of the thread whose value a shuffle gives to ``thread`` (CUDA C++ guide, 7.22)."""
    _, _, operand, width, _ = call.args
    if not isinstance(width, prim.IntImm):
        raise NotModelled("a shuffle of a width that is not a number")
    lane = thread % integer(WARP)
    inside = lane % integer(int(width))
    amount = prim.Cast("int32", operand)
    name = op_name(call)
    if name.endswith("_down"):
        found = prim.Select(inside + amount < integer(int(width)), lane + amount, lane)
    elif name.endswith("_up"):
        found = prim.Select(amount <= inside, lane - amount, lane)
    else:
        found = lane - inside + amount % integer(int(width))
    return thread - lane + found


def matrix_operation(call: Expr, writer: RegionWriter) -> list[Any]:
    """A tensor-core operation as loops."""
    raise NotModelled(op_name(call))
