"""``model.h`` and ``model.c``: the kernels, the calls of them in order, and the interface around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx

from graphopt.codegen.csource.expressions import Scope
from graphopt.codegen.csource.plan import ALIGNMENT, Plan, Tensor
from graphopt.codegen.csource.prelude import Prelude
from graphopt.codegen.csource.text import Names, c_type
from graphopt.codegen.csource.values import DType, Value, ValueBuilder
from graphopt.errors import InternalError
from graphopt.ir.signature import DimRange, Signature, dtype_name

_INT64 = DType("int", 64, 1)


class ModelSource:
    """Prints a plan.

    Args:
        plan: of the calls.
        signature: of the program; names of inputs and outputs, and ranges of sizes.
        prelude: what the kernels use.
    """

    def __init__(self, plan: Plan, signature: Signature, prelude: Prelude) -> None:
        self.plan = plan
        self.signature = signature
        self.prelude = prelude
        self._names = Names(["inputs", "outputs", "workspace", "index", "shape", "needed"])
        self._builder = ValueBuilder()
        self.sizes: list[str] = []
        for variable in plan.symbols:
            name = self._names.new(str(variable.name))
            self._builder.variables[variable] = self._builder.make("var", _INT64, (), name)
            self.sizes.append(name)

    # -- model.h ---------------------------------------------------------------------------------

    def header(self) -> str:
        """The interface."""
        sizes = "".join(f"int64_t {name}, " for name in self.sizes)
        only_sizes = sizes.removesuffix(", ") or "void"
        lines = ["/* A compiled model. The functions may be called from several threads at once. */"]
        lines += ["#ifndef MODEL_H", "#define MODEL_H", "", "#include <stddef.h>", "#include <stdint.h>", ""]
        lines += ["#ifdef __cplusplus", 'extern "C" {', "#endif", ""]
        for kind, specs in (("input", self.signature.inputs), ("output", self.signature.outputs)):
            if specs:
                lines.append(f"/* {kind}s[]: C-contiguous arrays; truth values are bytes that are 0 or 1")
                rows = [(str(i), s.name, dtype_name(s.dtype), _shape(s.shape)) for i, s in enumerate(specs)]
                widths = [max(len(r[c]) for r in rows) for c in range(4)]
                lines += [
                    f"     {'  '.join(t.ljust(w) for t, w in zip(r, widths, strict=True)).rstrip()}"
                    for r in rows
                ]
                lines.append(" */")
        lines.append("")
        lines += [
            f"#define MODEL_INPUTS {len(self.signature.inputs)}",
            f"#define MODEL_OUTPUTS {len(self.signature.outputs)}",
            f"#define MODEL_SIZES {len(self.sizes)}",
            "#define MODEL_MAX_RANK 16",
            f"#define MODEL_ALIGNMENT {ALIGNMENT}",
            "",
            "/* What the functions return. */",
            "#define MODEL_OK 0",
            "#define MODEL_NO_MEMORY 1  /* the workspace cannot be allocated */",
            "#define MODEL_NULL 2       /* a pointer is NULL, or the workspace is not aligned */",
            "#define MODEL_BAD_SIZE 3   /* a size is outside its range, or sizes contradict each other */",
            "",
        ]
        if self.sizes:
            lines.append("/* Sizes:")
            for name, variable in zip(self.sizes, self.plan.symbols, strict=True):
                lines.append(f"     {name}: {_range(self._bounds(variable))}")
            lines += [" */", ""]
        lines += [
            "/* Runs the model. Outputs must overlap neither inputs nor each other. */",
            f"int model_run({sizes}const void *const inputs[], void *const outputs[]);",
            "",
            "/* The same without allocating: the workspace has model_workspace_size() bytes, and its",
            "   address is a multiple of MODEL_ALIGNMENT. */",
            f"int model_run_in({sizes}const void *const inputs[], void *const outputs[], void *workspace);",
            f"size_t model_workspace_size({only_sizes});",
            "",
            "/* Names, element types (float32, int64, bool, ...), and shapes; these return the rank. */",
            "extern const char *const model_input_names[];",
            "extern const char *const model_output_names[];",
            "extern const char *const model_input_types[];",
            "extern const char *const model_output_types[];",
            f"int model_input_shape({sizes}int index, int64_t shape[]);",
            f"int model_output_shape({sizes}int index, int64_t shape[]);",
            f"size_t model_input_bytes({sizes}int index);",
            f"size_t model_output_bytes({sizes}int index);",
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "",
            "#endif",
        ]
        return "\n".join(lines) + "\n"

    # -- model.c ---------------------------------------------------------------------------------

    def source(self) -> str:
        """The implementation."""
        kernels = list({id(s.kernel): s.kernel for s in self.plan.steps}.values())
        parts = [_HEAD, self.prelude.text(), _FLOOR if self.sizes else ""]
        for kernel in kernels:
            parts.append("\n".join([f"KERNEL {kernel.declaration}", "{", *kernel.body, "}"]) + "\n")
        parts += [
            self._tables(),
            self._checks(),
            self._workspace(),
            self._run_in(),
            self._run(),
            self._bytes(),
        ]
        return "\n".join(p for p in parts if p)

    def _parameters(self, more: str = "") -> str:
        return ", ".join([*(f"int64_t {n}" for n in self.sizes), *([more] if more else [])]) or "void"

    def _arguments(self, *more: str) -> str:
        return ", ".join([*self.sizes, *more])

    def _unused(self) -> list[str]:
        return [f"  (void){name};" for name in self.sizes]

    def _text(self, expression: Any) -> str:
        """A size as C."""
        if isinstance(expression, int | tirx.IntImm):
            return str(int(expression))
        scope = Scope(self._names, self.prelude)
        text = scope.term(self._plain(self._builder.of(expression)))
        if scope.lines:
            raise InternalError(f"a size is not one expression of C: {expression}", code="GO-1001")
        return text if text.isalnum() else f"({text})"

    def _plain(self, value: Value) -> Value:
        """A size in functions of its own where C would need a variable."""
        args = [self._plain(a) for a in value.args]
        if value.op in ("min", "max"):
            return self._builder.make("call", value.dtype, args, f"{value.op}_size")
        op = {"&&": "&", "||": "|"}.get(value.op, value.op)
        return self._builder.make(op, value.dtype, args, value.attribute)

    def _size(self, tensor: Tensor) -> str:
        """Bytes of a tensor, as C."""
        if tensor.static_bytes is not None:
            return str(tensor.static_bytes)
        constant, factors = tensor.dtype.bits // 8, []
        for size in tensor.shape:
            if isinstance(size, int | tirx.IntImm):
                constant *= int(size)
            else:
                factors.append(self._text(size))
        return " * ".join([*(f"(size_t){f}" for f in factors), str(constant)])

    def _tables(self) -> str:
        lines = []
        for kind, specs in (("input", self.signature.inputs), ("output", self.signature.outputs)):
            names = ", ".join(_quoted(s.name) for s in specs) or "NULL"
            types = ", ".join(_quoted(dtype_name(s.dtype)) for s in specs) or "NULL"
            lines.append(f"const char *const model_{kind}_names[] = {{{names}}};")
            lines.append(f"const char *const model_{kind}_types[] = {{{types}}};")
        for kind, shapes in (
            ("input", [t.shape for t in self.plan.inputs]),
            ("output", self.plan.output_shapes),
        ):
            lines += ["", f"int model_{kind}_shape({self._parameters('int index, int64_t shape[]')})", "{"]
            lines += self._unused()
            lines.append("  switch (index) {")
            for number, shape in enumerate(shapes):
                lines.append(f"  case {number}:")
                lines += [f"    shape[{axis}] = {self._text(size)};" for axis, size in enumerate(shape)]
                lines.append(f"    return {len(shape)};")
            lines += ["  default:", "    (void)shape;", "    return -1;", "  }", "}"]
        return "\n".join(lines) + "\n"

    def _bounds(self, variable: Any) -> DimRange:
        return self.signature.dims.get(str(variable.name), DimRange())

    def _checks(self) -> str:
        if not self.sizes:
            return ""
        wrong = []
        for name, variable in zip(self.sizes, self.plan.symbols, strict=True):
            bounds = self._bounds(variable)
            wrong.append(f"{name} < {bounds.min}")
            if bounds.max is not None:
                wrong.append(f"{name} > {bounds.max}")
            if bounds.multiple_of != 1:
                wrong.append(f"{name} % {bounds.multiple_of} != 0")
        wrong += [f"{self._text(a)} != {self._text(b)}" for a, b in self.plan.checks]
        condition = " ||\n      ".join(wrong)
        return "\n".join(
            [
                f"static int sizes_are_valid({self._parameters()})",
                "{",
                f"  return !({condition});",
                "}",
                "",
            ]
        )

    def _workspace(self) -> str:
        lines = [f"size_t model_workspace_size({self._parameters()})", "{"]
        if not self.sizes:
            return "\n".join([*lines, f"  return {self.plan.workspace};", "}", ""])
        lines += [*self._unused(), "  size_t end = 0;"]
        for slot in self.plan.slots:
            lines.append(f"  end += {self._room(slot)};")
        return "\n".join([*lines, "  return end;", "}", ""])

    def _room(self, slot: Sequence[Tensor]) -> str:
        sizes = list(dict.fromkeys(self._size(t) for t in slot))
        text = f"({sizes[0]})"
        for size in sizes[1:]:
            text = f"larger({text}, {size})"
        return f"ALIGNED({text})"

    def _run_in(self) -> str:
        more = "const void *const inputs[], void *const outputs[], void *workspace"
        lines = [f"int model_run_in({self._parameters(more)})", "{"]
        if self.sizes:
            lines += [f"  if (!sizes_are_valid({self._arguments()}))", "    return MODEL_BAD_SIZE;"]
        lines += [
            f"  if ({self._null_test()})",
            "    return MODEL_NULL;",
            "  unsigned char *const base = workspace;",
            "  (void)base;",
        ]
        for number in range(len(self.plan.slots)):
            before = f"slot{number - 1} + {self._room(self.plan.slots[number - 1])}" if number else "base"
            lines.append(f"  unsigned char *const slot{number} = {before};")
            lines.append(f"  (void)slot{number};")
        names: dict[Tensor, str] = {}
        weights: list[str] = []
        for number, step in enumerate(self.plan.steps):
            for tensor in dict.fromkeys(step.tensors):
                if tensor not in names:
                    lines.append(self._declare(tensor, names))
                    if tensor.kind == "weight":
                        weights.append(names[tensor])
            arguments = [names[t] for t in step.tensors] + [self._text(s) for s in step.sizes]
            lines.append(f"  {step.kernel.name}({', '.join(arguments)});")
            for tensor in dict.fromkeys(step.tensors):
                if tensor.kind == "workspace" and tensor.last == number:
                    lines.append(f"  RELEASE({names[tensor]});")
        for number, result in enumerate(self.plan.outputs):
            if result.kind == "output" and result.number == number:
                continue
            if result not in names:
                lines.append(self._declare(result, names))
                if result.kind == "weight":
                    weights.append(names[result])
            lines.append(f"  memcpy(outputs[{number}], {names[result]}, {self._size(result)});")
        lines += [f"  RELEASE({name});" for name in weights]
        return "\n".join([*lines, "  return MODEL_OK;", "}", ""])

    def _null_test(self) -> str:
        tests = ["workspace == NULL", "(uintptr_t)workspace % MODEL_ALIGNMENT != 0"]
        tests += [f"inputs[{i}] == NULL" for i in range(len(self.plan.inputs))]
        tests += [f"outputs[{i}] == NULL" for i in range(len(self.plan.outputs))]
        return " || ".join(tests)

    def _declare(self, tensor: Tensor, names: dict[Tensor, str]) -> str:
        ctype, size = c_type(tensor.dtype), self._size(tensor)
        shape = ", ".join(map(self._text, tensor.shape))
        if tensor.kind in ("input", "weight"):
            wanted = self.signature.inputs[tensor.number].name if tensor.kind == "input" else "w"
            place = (
                f"inputs[{tensor.number}]" if tensor.kind == "input" else f"WEIGHT({tensor.number}, {size})"
            )
            names[tensor] = self._names.new(wanted)
            return f"  const {ctype} *const {names[tensor]} = {place};  /* [{shape}] */"
        if tensor.kind == "output":
            place, wanted = f"outputs[{tensor.number}]", self.signature.outputs[tensor.number].name
        else:
            where = f"slot{tensor.offset}" if self.sizes else f"base + {tensor.offset}"
            place, wanted = f"TENSOR({where}, {size})", "t"
        names[tensor] = self._names.new(wanted)
        return f"  {ctype} *const {names[tensor]} = {place};  /* [{shape}] */"

    def _run(self) -> str:
        more = "const void *const inputs[], void *const outputs[]"
        arguments = self._arguments(
            "inputs", "outputs", "(void *)(address / MODEL_ALIGNMENT * MODEL_ALIGNMENT)"
        )
        lines = [f"int model_run({self._parameters(more)})", "{"]
        if self.sizes:
            lines += [f"  if (!sizes_are_valid({self._arguments()}))", "    return MODEL_BAD_SIZE;"]
        lines += [
            f"  void *const memory = malloc(model_workspace_size({self._arguments()}) + MODEL_ALIGNMENT);",
            "  if (memory == NULL)",
            "    return MODEL_NO_MEMORY;",
            "  const uintptr_t address = (uintptr_t)memory + MODEL_ALIGNMENT - 1;",
            f"  const int status = model_run_in({arguments});",
            "  free(memory);",
            "  return status;",
            "}",
            "",
        ]
        return "\n".join(lines)

    def _bytes(self) -> str:
        lines = []
        for kind, tensors in (("input", self.plan.inputs), ("output", self.plan.outputs)):
            # An output has as many bytes as the tensor that it is a view of.
            lines += [f"size_t model_{kind}_bytes({self._parameters('int index')})", "{", *self._unused()]
            lines.append("  switch (index) {")
            for number, tensor in enumerate(tensors):
                lines += [f"  case {number}:", f"    return {self._size(tensor)};"]
            lines += ["  default:", "    return 0;", "  }", "}", ""]
        return "\n".join(lines)


_HEAD = """\
#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

extern const unsigned char model_weights[];

#define KERNEL static __attribute__((noinline))
#define INLINE static inline __attribute__((always_inline))

#ifdef _OPENMP
#define PARALLEL_FOR _Pragma("omp parallel for schedule(static)")
#else
#define PARALLEL_FOR
#endif

/* With MODEL_GUARDED every tensor is an allocation of its own, freed after its last use, so that
   AddressSanitizer or valgrind sees each access outside of it. */
#ifdef MODEL_GUARDED
static __attribute__((unused)) void *guarded(const void *contents, size_t bytes)
{
  void *const copy = malloc(bytes ? bytes : 1);
  if (copy == NULL)
    abort();
  if (contents != NULL)
    memcpy(copy, contents, bytes);
  return copy;
}
#define TENSOR(place, bytes) guarded(NULL, bytes)
#define WEIGHT(offset, bytes) guarded(model_weights + (offset), bytes)
#define RELEASE(tensor) free((void *)(tensor))
#else
#define TENSOR(place, bytes) ((void *)(place))
#define WEIGHT(offset, bytes) ((const void *)(model_weights + (offset)))
#define RELEASE(tensor) ((void)(tensor))
#endif
"""

_FLOOR = """\
#define ALIGNED(bytes) (((bytes) + MODEL_ALIGNMENT - 1) / MODEL_ALIGNMENT * MODEL_ALIGNMENT)

INLINE size_t larger(size_t a, size_t b)
{
  return a > b ? a : b;
}

INLINE int64_t min_size(int64_t a, int64_t b)
{
  return a < b ? a : b;
}

INLINE int64_t max_size(int64_t a, int64_t b)
{
  return a > b ? a : b;
}

INLINE int64_t floor_div(int64_t a, int64_t b)
{
  return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

INLINE int64_t floor_mod(int64_t a, int64_t b)
{
  return a - floor_div(a, b) * b;
}
"""


def _quoted(text: str) -> str:
    escaped = "".join(
        c if c.isprintable() and c.isascii() and c not in '"\\' else "".join(f"\\{b:03o}" for b in c.encode())
        for c in text
    )
    return f'"{escaped}"'


def _shape(shape: Sequence[Any]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _range(bounds: DimRange) -> str:
    text = f"at least {bounds.min}" if bounds.max is None else f"{bounds.min} to {bounds.max}"
    return text if bounds.multiple_of == 1 else f"{text}, a multiple of {bounds.multiple_of}"
