"""Tensor-core instructions that schedules of ours use, each as what it computes and how it is called.

All are warp-level matrix operations on tiles of 16 x 16 (``nvcuda::wmma``, shape m16n16k16; CUDA C++
Programming Guide, "Warp Matrix Functions"): a tile lies in a *fragment*, spread over the registers of a
warp's threads.  Operands are float16 or bfloat16, sums float32.

An intrinsic is a pair of TensorIR functions over the same buffers: ``desc`` does with plain loops what
``impl`` does with the instruction.  TVM declares the same ones in ``tvm.s_tir.tensor_intrin.cuda``, among
a hundred others; importing those takes half a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from tvm import s_tir, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

TILE = 16
"""Rows, columns and depth of a fragment."""

FRAGMENT_A, FRAGMENT_B, ACCUMULATOR = "wmma.matrix_a", "wmma.matrix_b", "wmma.accumulator"

_Define = Callable[..., None]


@dataclass(frozen=True)
class TensorCore:
    """Names of the registered intrinsics of one operand type.

    Attributes:
        load_a: ``[16, 16]`` of shared memory, rows along the depth, to a fragment.
        load_b: likewise for the right operand.
        fill: an accumulator of zeros.
        multiply: ``accumulator += a @ b``; ``a @ b.T`` where the right operand is transposed.
        store: an accumulator to shared memory.
    """

    load_a: str
    load_b: str
    fill: str
    multiply: str
    store: str


@cache
def tensor_core(dtype: str, transposed: bool, scope: str) -> TensorCore:
    """Registers the intrinsics for an operand type, once.

    Args:
        dtype: ``"float16"`` or ``"bfloat16"``.
        transposed: the right operand lies as ``[columns, depth]``, not ``[depth, columns]``.
        scope: of the shared memory, ``"shared"`` or ``"shared.dyn"``.
    """
    form = "col" if transposed else "row"
    suffix = f"{dtype}_{scope.replace('.', '_')}"
    names = TensorCore(
        load_a=f"graphopt.wmma_load_a_{suffix}",
        load_b=f"graphopt.wmma_load_b_{form}_{suffix}",
        fill="graphopt.wmma_fill_float32",
        multiply=f"graphopt.wmma_multiply_{form}_{dtype}",
        store=f"graphopt.wmma_store_float32_{scope.replace('.', '_')}",
    )
    _register(names.load_a, *_load(dtype, scope, FRAGMENT_A, "row_major"))
    _register(names.load_b, *_load(dtype, scope, FRAGMENT_B, f"{form}_major"))
    _register(names.fill, *_fill())
    _register(names.multiply, *_multiply(dtype, transposed))
    _register(names.store, *_store(scope))
    return names


def _register(name: str, desc: tirx.PrimFunc, impl: tirx.PrimFunc) -> None:
    s_tir.TensorIntrin.register(name, desc, impl, override=True)


def _load(dtype: str, scope: str, fragment: str, layout: str) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    specs = [(dtype, scope), (dtype, fragment)]

    def desc(source: Any, target: Any) -> None:
        _copy(source, target, "load")

    def impl(source: Any, target: Any) -> None:
        T.evaluate(
            T.tvm_load_matrix_sync(
                target.data, TILE, TILE, TILE, _index(target), _pointer(source, dtype, 1),
                source.strides[0], layout,
            )
        )  # fmt: skip

    return _pair(specs, desc, impl, reads=[0], writes=1)


def _fill() -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    def desc(target: Any) -> None:
        with T.grid(TILE, TILE) as (i, j), T.sblock("init"):
            vi, vj = T.axis.remap("SS", [i, j])
            T.buffer_store(target, tirx.FloatImm("float32", 0.0), [vi, vj])

    def impl(target: Any) -> None:
        zero = tirx.FloatImm("float32", 0.0)
        T.evaluate(T.tvm_fill_fragment(target.data, TILE, TILE, TILE, _index(target), zero))

    return _pair([("float32", ACCUMULATOR)], desc, impl, reads=[], writes=0)


def _multiply(dtype: str, transposed: bool) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    specs = [(dtype, FRAGMENT_A), (dtype, FRAGMENT_B), ("float32", ACCUMULATOR)]

    def desc(a: Any, b: Any, c: Any) -> None:
        with T.grid(TILE, TILE, TILE) as (i, j, k), T.sblock("multiply"):
            vi, vj, vk = T.axis.remap("SSR", [i, j, k])
            right = b[vj, vk] if transposed else b[vk, vj]
            T.buffer_store(c, c[vi, vj] + T.cast(a[vi, vk], "float32") * T.cast(right, "float32"), [vi, vj])

    def impl(a: Any, b: Any, c: Any) -> None:
        T.evaluate(T.tvm_mma_sync(c.data, _index(c), a.data, _index(a), b.data, _index(b), c.data, _index(c)))

    return _pair(specs, desc, impl, reads=[2, 0, 1], writes=2)


def _store(scope: str) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    def desc(source: Any, target: Any) -> None:
        _copy(source, target, "store")

    def impl(source: Any, target: Any) -> None:
        T.evaluate(
            T.tvm_store_matrix_sync(
                source.data, TILE, TILE, TILE, _index(source), _pointer(target, "float32", 2),
                target.strides[0], "row_major",
            )
        )  # fmt: skip

    return _pair([("float32", ACCUMULATOR), ("float32", scope)], desc, impl, reads=[0], writes=1)


def _copy(source: Any, target: Any, name: str) -> None:
    with T.grid(TILE, TILE) as (i, j), T.sblock(name):
        vi, vj = T.axis.remap("SS", [i, j])
        T.buffer_store(target, source[vi, vj], [vi, vj])


def _pair(
    specs: list[tuple[str, str]], desc: _Define, impl: _Define, *, reads: list[int], writes: int
) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """``desc`` and ``impl`` as functions of ``[16, 16]`` buffers with the given dtypes and scopes."""

    def function(define: _Define, strided: bool) -> tirx.PrimFunc:
        with IRBuilder() as ib, T.prim_func(private=True, s_tir=True):
            handles = [T.arg(f"p{i}", T.handle()) for i in range(len(specs))]
            buffers = []
            for number, (handle, (dtype, scope)) in enumerate(zip(handles, specs, strict=True)):
                strides = [tirx.Var(f"s{number}{axis}", "int32") for axis in "01"] if strided else None
                buffers.append(
                    T.match_buffer(
                        handle, (TILE, TILE), dtype, strides=strides, scope=scope, align=64,
                        offset_factor=TILE,
                    )
                )  # fmt: skip
            with T.sblock("root"):
                T.reads(*(buffers[i][0:TILE, 0:TILE] for i in reads))
                T.writes(buffers[writes][0:TILE, 0:TILE])
                define(*buffers)
        return ib.get()

    return function(desc, False), function(impl, True)


def _index(fragment: Any) -> Any:
    """Which fragment of its buffer a tile is: fragments are numbered row by row."""
    stride = fragment.strides[0]
    row, column = fragment.elem_offset // stride // TILE, fragment.elem_offset % stride // TILE
    return row * (stride // TILE) + column


def _pointer(buffer: Any, dtype: str, access: int) -> Any:
    """The address of a buffer's first element, for reading (1) or writing (2)."""
    return buffer.access_ptr(access, ptr_type=dtype)
