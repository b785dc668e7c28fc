"""Instructions that multiply narrow numbers in groups and add each group to a lane of 32 bits.

A vector of ``lanes`` sums takes ``lanes`` groups of weights, and one group of the left operand that all
lanes share::

    total[lane] += sum(left[i] * right[lane, i] for i in range(group))

=================  =======================================  ===========================================
feature            instruction                              operands
=================  =======================================  ===========================================
``avx512vnni``     ``vpdpbusd``                             4 x uint8, int8
``avxvnni``        ``vpdpbusd``                             4 x uint8, int8
x86-64             ``vpmaddwd``, ``vpaddd``                 2 x int16
``dotprod``        ``sdot``                                 4 x int8
``avx512bf16``     ``vdpbf16ps``                            2 x bfloat16
=================  =======================================  ===========================================

All integer ones are exact modulo 2^32.  (``vpmaddubsw`` saturates its sums at 16 bits, and is not used.)
Where a CPU has none of them integers are widened to int16, whose products every CPU's vectors have.

Sources: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VPDPBUSD, PMADDWD and
VDPBF16PS; Arm Architecture Reference Manual, SDOT (by element).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tvm import s_tir, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from graphopt.codegen.targets import Target


@dataclass(frozen=True)
class DotProduct:
    """How a CPU multiplies narrow numbers.

    Attributes:
        left: type that the operand that lanes share is brought to.
        right: type of the weights in memory.
        total: type of the sums.
        group: products that one lane adds at once.
        instructions: LLVM's intrinsic for each number of lanes; none where ``group`` is 1.
        accumulates: whether the instruction adds to its first operand, or gives the sums of groups.
    """

    left: str
    right: str
    total: str
    group: int
    instructions: tuple[tuple[int, str], ...] = ()
    accumulates: bool = field(default=True)

    @property
    def narrowest(self) -> int:
        """Lanes of the smallest vector that there is an instruction for."""
        return min((lanes for lanes, _ in self.instructions), default=1)

    @property
    def widest(self) -> int:
        """Lanes of the largest vector that there is an instruction for."""
        return max((lanes for lanes, _ in self.instructions), default=1)


_VPDPBUSD = tuple((b // 32, f"llvm.x86.avx512.vpdpbusd.{b}") for b in (512, 256, 128))
_AVX_VNNI = _VPDPBUSD[1:]
_PMADDWD = (
    (16, "llvm.x86.avx512.pmaddw.d.512"), (8, "llvm.x86.avx2.pmadd.wd"), (4, "llvm.x86.sse2.pmadd.wd"),
)  # fmt: skip
_SDOT = ((4, "llvm.aarch64.neon.sdot.v4i32.v16i8"),)
_DPBF16 = tuple((b // 32, f"llvm.x86.avx512bf16.dpbf16ps.{b}") for b in (512, 256, 128))


@dataclass(frozen=True)
class Dots:
    """How a CPU multiplies narrow numbers, by what they are.

    Attributes:
        bytes: integers of 8 bits.
        words: integers of up to 16 bits.
        float16, bfloat16: None where the CPU does not even convert vectors of them.
    """

    bytes: DotProduct
    words: DotProduct
    float16: DotProduct | None
    bfloat16: DotProduct | None

    @staticmethod
    def of(target: Target) -> Dots:
        words = _words(target)
        return Dots(_bytes(target) or words, words, *_halves(target))


def _words(target: Target) -> DotProduct:
    features = target.features
    if target.kind == "c" or "sse2" not in features:
        return DotProduct("int16", "int16", "int32", 1)
    first = 0 if "avx512bw" in features else 1 if "avx2" in features else 2
    return DotProduct("int16", "int16", "int32", 2, _PMADDWD[first:], accumulates=False)


def _bytes(target: Target) -> DotProduct | None:
    features = target.features
    if {"avx512vnni", "avx512vl"} <= features:
        return DotProduct("uint8", "int8", "int32", 4, _VPDPBUSD)
    if "avxvnni" in features:
        return DotProduct("uint8", "int8", "int32", 4, _AVX_VNNI)
    return DotProduct("int8", "int8", "int32", 4, _SDOT) if "dotprod" in features else None


def _halves(target: Target) -> tuple[DotProduct | None, DotProduct | None]:
    features = target.features
    pairs = {"avx512bf16", "avx512vl"} <= features
    float16 = DotProduct("float32", "float16", "float32", 1)
    bfloat16 = DotProduct("float32", "bfloat16", "float32", 1)
    return (
        float16 if features & {"f16c", "neon"} else None,
        DotProduct("bfloat16", "bfloat16", "float32", 2, _DPBF16) if pairs else bfloat16,
    )


@cache
def dot_intrinsic(dot: DotProduct, lanes: int) -> str:
    """Registers the instruction on vectors of ``lanes`` sums, once; its name for ``Schedule.tensorize``."""
    instruction = dict(dot.instructions)[lanes]
    name = f"graphopt.{instruction.removeprefix('llvm.')}"
    plain, at_once = _function(dot, lanes, None), _function(dot, lanes, instruction)
    # Dots that differ in other widths share the instructions of this one.
    s_tir.TensorIntrin.register(name, plain, at_once, override=True)
    return name


def _function(dot: DotProduct, lanes: int, instruction: str | None) -> tirx.PrimFunc:
    """The function in plain loops, or by the instruction."""
    with IRBuilder() as ib, T.prim_func(private=True, s_tir=True):
        handles = [T.arg(f"p{i}", T.handle()) for i in range(3)]
        specs = (
            ((dot.group,), dot.left, "global"),
            ((lanes, dot.group), dot.right, "global"),
            ((lanes,), dot.total, "local"),
        )
        a, b, c = (
            T.match_buffer(handle, shape, dtype, scope=scope, offset_factor=1)
            for handle, (shape, dtype, scope) in zip(handles, specs, strict=True)
        )
        with T.sblock("root"):
            T.reads(c[0:lanes], a[0 : dot.group], b[0:lanes, 0 : dot.group])
            T.writes(c[0:lanes])
            if instruction is None:
                _in_loops(dot, lanes, a, b, c)
            else:
                _at_once(dot, lanes, instruction, a, b, c)
    return ib.get()


def _in_loops(dot: DotProduct, lanes: int, a: Any, b: Any, c: Any) -> None:
    with T.grid(lanes, dot.group) as (j, k), T.sblock("dot"):
        vj, vk = T.axis.remap("SR", [j, k])
        product = T.cast(a[vk], dot.total) * T.cast(b[vj, vk], dot.total)
        T.buffer_store(c, c[vj] + product, [vj])


def _at_once(dot: DotProduct, lanes: int, instruction: str, a: Any, b: Any, c: Any) -> None:
    elements = lanes * dot.group
    # LLVM's intrinsic of VPDPBUSD takes bytes of no sign on both sides, and TVM has no values of bfloat16.
    operand = {"uint8": "int8", "bfloat16": "int16"}.get(dot.left, dot.left)
    shared = tirx.Broadcast(tirx.reinterpret("int32", a.vload([0], f"{dot.left}x{dot.group}")), lanes)
    left = tirx.reinterpret(f"{operand}x{elements}", shared)
    right = b.vload([0, 0], f"{dot.right}x{elements}")
    total, result = c.vload([0], f"{dot.total}x{lanes}"), f"{dot.total}x{lanes}"
    if dot.left == "bfloat16":
        right = tirx.reinterpret(f"int16x{elements}", right)
        value = tirx.call_pure_extern(result, _wrapper(instruction), total, left, right)
    elif dot.accumulates:
        value = tirx.call_llvm_pure_intrin(result, instruction, total, left, right)
    else:
        value = total + tirx.call_llvm_pure_intrin(result, instruction, left, right)
    T.buffer_store(c, value, [tirx.Ramp(0, 1, lanes)])


def _wrapper(instruction: str) -> str:
    return f"graphopt_{instruction.removeprefix('llvm.').replace('.', '_')}"


def dot_source(dot: DotProduct, lanes: int) -> str | None:
    """LLVM IR that a kernel with the instruction needs beside it; None where it needs none.

    TVM turns every bfloat16 into bits of 16 before LLVM sees it, which has a type of its own for them: a
    function between the two converts, and is inlined.
    """
    if dot.left != "bfloat16":
        return None
    instruction, wide = dict(dot.instructions)[lanes], 2 * lanes
    total, pairs, bits = f"<{lanes} x float>", f"<{wide} x bfloat>", f"<{wide} x i16>"
    name = f"@{_wrapper(instruction)}({total} %c, {bits} %a, {bits} %b)"
    return f"""
declare {total} @{instruction}({total}, {pairs}, {pairs})
define linkonce_odr {total} {name} alwaysinline nounwind {{
  %x = bitcast {bits} %a to {pairs}
  %y = bitcast {bits} %b to {pairs}
  %r = call {total} @{instruction}({total} %c, {pairs} %x, {pairs} %y)
  ret {total} %r
}}
"""
