"""What the intrinsics mean that a warp carries out as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm import ir, tirx
from tvm.ir.prim import expr as prim

from graphopt.codegen.emulate.launch import WARP
from graphopt.codegen.emulate.memory import NotModelled, bytes_of, integer
from graphopt.codegen.rewrite import Expr, op_name, sequence

if TYPE_CHECKING:
    from graphopt.codegen.emulate.regions import RegionWriter

_SHUFFLES = frozenset({"tirx.tvm_warp_shuffle", "tirx.tvm_warp_shuffle_up", "tirx.tvm_warp_shuffle_down"})
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


def in_shuffle(call: Expr, thread: Expr) -> Expr:
    """Whether the mask of a shuffle names the lane of ``thread``."""
    mask = prim.Cast("uint32", call.args[0])
    lane = prim.Cast("uint32", thread % integer(WARP))
    return prim.NE(prim.BitwiseAnd(prim.RShift(mask, lane), integer(1, "uint32")), integer(0, "uint32"))


# Which of m, n and k the rows and columns of a fragment are, by the scope of its buffer.
_ROWS_COLUMNS = {"wmma.matrix_a": (0, 2), "wmma.matrix_b": (2, 1), "wmma.accumulator": (0, 1)}
_POINTER_BYTES = 32
"""``wmma`` loads and stores take addresses that are multiples of 256 bits (CUDA C++ guide, "wmma")."""
_STRIDE_BYTES = 16


def matrix_operation(call: Expr, writer: RegionWriter) -> list[Any]:
    """A tensor-core operation of a warp as loops.

    A fragment is kept as its matrix, row by row: which lane holds which element is not specified, and a
    kernel that looks is not modelled.

    Raises:
        NotModelled: shapes that are not numbers.
    """
    name = op_name(call)
    if name == "tirx.tvm_fill_fragment":
        return _fill(call, writer)
    if name == "tirx.tvm_mma_sync":
        return _multiply(call, writer)
    return _transfer(call, writer, load=name == "tirx.tvm_load_matrix_sync")


def fragment_of(pointer: Expr) -> ir.Var:
    """The buffer that a pointer argument points to."""
    return pointer.args[0]


def transferred(call: Expr) -> tuple[ir.Var, Expr, int, int, Expr, bool]:
    """What a matrix load or store touches in memory.

    Returns:
        the buffer, the index of the first element, rows, columns, the distance of rows (of columns if the
        layout is by columns) in elements, and whether the layout is by rows.
    """
    sizes = _sizes(call.args[1:4])
    rows, columns = (sizes[i] for i in _ROWS_COLUMNS[str(fragment_of(call.args[0]).scope())])
    pointer, stride, layout = call.args[5], call.args[6], str(call.args[7].value)
    if op_name(pointer) != "tirx.tvm_access_ptr":
        raise NotModelled(f"a matrix at {pointer}")
    return fragment_of(pointer.args[1]), pointer.args[2], rows, columns, stride, layout == "row_major"


def _sizes(values: Any) -> tuple[int, ...]:
    if not all(isinstance(v, prim.IntImm) for v in values):
        raise NotModelled("a matrix operation of a shape that is not a number")
    return tuple(int(v) for v in values)


def _loops(writer: RegionWriter, extents: tuple[int, ...]) -> list[tuple[ir.Var, int]]:
    loops = [(tirx.Var(f"m{i}", "int32"), extent) for i, extent in enumerate(extents)]
    for var, extent in loops:
        writer.ranges.extent(var, integer(0), integer(extent))
    return loops


def _nest(loops: list[tuple[ir.Var, int]], body: list[Any]) -> list[Any]:
    stmt = sequence(body)
    for var, extent in reversed(loops):
        stmt = tirx.For(var, integer(0), integer(extent), tirx.ForKind.SERIAL, stmt)
    return [stmt]


def _element(index: Expr, rows: int, columns: int, row: Expr, column: Expr) -> Expr:
    return prim.Cast("int32", index) * integer(rows * columns) + row * integer(columns) + column


def _fill(call: Expr, writer: RegionWriter) -> list[Any]:
    buffer = fragment_of(call.args[0])
    sizes = _sizes(call.args[1:4])
    rows, columns = (sizes[i] for i in _ROWS_COLUMNS[str(buffer.scope())])
    loops = _loops(writer, (rows, columns))
    at = _element(call.args[4], rows, columns, loops[0][0], loops[1][0])
    return _nest(loops, writer.store(tirx.BufferStore(buffer, call.args[5], [at]), call.args[5]))


def _transfer(call: Expr, writer: RegionWriter, *, load: bool) -> list[Any]:
    fragment = fragment_of(call.args[0])
    memory, first, rows, columns, stride, by_rows = transferred(call)
    size = bytes_of(str(memory.dtype))
    writer.check_multiple(memory, writer.value(first), _POINTER_BYTES // size, call)
    writer.check_multiple(memory, writer.value(stride), _STRIDE_BYTES // size, call)
    before = writer.checks()
    loops = _loops(writer, (rows, columns))
    (row, _), (column, _) = loops
    inside = _element(call.args[4], rows, columns, row, column)
    step = prim.Cast("int32", stride)
    start = prim.Cast("int32", first)
    outside = start + (row * step + column if by_rows else column * step + row)
    to, source = (fragment, memory) if load else (memory, fragment)
    at, origin = (inside, outside) if load else (outside, inside)
    moved = tirx.BufferLoad(source, [origin])
    return [*before, *_nest(loops, writer.store(tirx.BufferStore(to, moved, [at]), writer.value(moved)))]


def _multiply(call: Expr, writer: RegionWriter) -> list[Any]:
    d, a, b, c = (fragment_of(call.args[i]) for i in (0, 2, 4, 6))
    at_d, at_a, at_b, at_c = (call.args[i] for i in (1, 3, 5, 7))
    m, n, k = writer.fragment_shape(d)
    outer, inner = _loops(writer, (m, n)), _loops(writer, (k,))
    (i, _), (j, _) = outer
    ((p, _),) = inner
    dtype = str(d.dtype)
    target = [_element(at_d, m, n, i, j)]
    left = tirx.BufferLoad(a, [_element(at_a, m, k, i, p)])
    right = tirx.BufferLoad(b, [_element(at_b, k, n, p, j)])
    start = tirx.BufferLoad(c, [_element(at_c, m, n, i, j)])
    product = prim.Cast(dtype, left) * prim.Cast(dtype, right)
    begin = writer.store(tirx.BufferStore(d, start, target), writer.value(start))
    total = tirx.BufferLoad(d, target) + product
    add = writer.store(tirx.BufferStore(d, total, target), writer.value(total))
    return _nest(outer, [*begin, *_nest(inner, add)])
