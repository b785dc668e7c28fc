"""The files of a source folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx

from graphopt.codegen.csource.example import example
from graphopt.codegen.csource.kernel import Kernel, print_kernel
from graphopt.codegen.csource.lowering import lower_kernels
from graphopt.codegen.csource.model import ModelSource
from graphopt.codegen.csource.plan import make_plan
from graphopt.codegen.csource.prelude import Prelude
from graphopt.codegen.csource.text import Names
from graphopt.codegen.schedules.rule import RULE_ATTRIBUTE
from graphopt.ir.signature import Signature

MANIFEST = "graphopt.json"
SOURCES = ("model.c", "weights.S")
# C11 would keep a * b + c from becoming one instruction; functions of <math.h> need not set errno, and
# integers wrap around in models as they do in torch.
BUILD_FLAGS = (
    "-std=c11",
    "-Wno-psabi",
    "-Wno-maybe-uninitialized",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fwrapv",
    "-fPIC",
)
# Names that the kernels share the file with.
_OWN_NAMES = (
    "guarded",
    "larger",
    "floor_div",
    "floor_mod",
    "min_size",
    "max_size",
    "sizes_are_valid",
    "base",
)


@dataclass(frozen=True)
class GeneratedModel:
    """A model in C.

    Attributes:
        files: contents by name, but for the manifest.
        kernels: name and schedule rule of each kernel.
        sizes: parameters of ``model_run`` that stand for symbolic sizes, by the signature's names.
    """

    files: Mapping[str, bytes]
    kernels: list[dict[str, str]]
    sizes: list[str]


def generate(mod: tvm.IRModule, signature: Signature) -> GeneratedModel:
    """Print a scheduled module, whose ``main`` calls kernels on preallocated tensors, as C.

    Raises:
        InputError: GO-3005, something in it has no form in C.
        InternalError: GO-1001, lowering failed.
    """
    prelude, names = Prelude(), Names(_OWN_NAMES)
    rules = {
        name.name_hint: str(func.attrs.get(RULE_ATTRIBUTE, "runtime"))
        for name, func in mod.functions_items()
        if isinstance(func, tirx.PrimFunc)
    }
    kernels: dict[str, Kernel] = {}
    for name, func in sorted(lower_kernels(mod).items()):
        kernels[name] = print_kernel(func, names.new(f"{name}_kernel"), prelude)
    plan = make_plan(mod, kernels)
    source = ModelSource(plan, signature, prelude)
    called = {id(step.kernel) for step in plan.steps}
    used = [(k.name, rules[name]) for name, k in kernels.items() if id(k) in called]
    files = {
        "model.h": source.header(),
        "model.c": source.source(),
        "weights.S": _WEIGHTS,
        "main.c": example(source.sizes),
        "Makefile": _MAKEFILE.replace("@FLAGS@", " ".join(BUILD_FLAGS)),
        "README.md": _readme(source),
    }
    contents = {name: text.encode() for name, text in files.items()}
    contents["weights.bin"] = bytes(plan.weights) or b"\0"
    sizes = [str(variable.name) for variable in plan.symbols]
    return GeneratedModel(contents, [{"name": n, "rule": r} for n, r in used], sizes)


def manifest(metadata: Mapping[str, Any]) -> bytes:
    """``graphopt.json``: what the folder says about itself."""
    return (json.dumps(dict(metadata), indent=1, sort_keys=True) + "\n").encode()


def _readme(source: ModelSource) -> str:
    sizes = "".join(f"{name}, " for name in source.sizes)
    arguments = " ".join(
        [
            *(name.upper() for name in source.sizes),
            *(f"INPUT{i}.bin" for i in range(len(source.plan.inputs))),
            *(f"OUTPUT{i}.bin" for i in range(len(source.plan.outputs))),
        ]
    )
    return _README.format(sizes=sizes, arguments=arguments)


_WEIGHTS = """\
/* The weights, as they lie in weights.bin. */
        .section .rodata
        .globl model_weights
        .type model_weights, %object
        .balign 64
model_weights:
        .incbin "weights.bin"
        .size model_weights, . - model_weights
        .section .note.GNU-stack, "", %progbits
"""

_MAKEFILE = """\
# make                                     for this machine
# make CFLAGS='-O3 -march=native'          for exactly this machine
# make CC=aarch64-linux-gnu-gcc LDFLAGS=-static   for another one
# make OPENMP=-fopenmp                     on several cores (OMP_NUM_THREADS)
CC ?= cc
CFLAGS ?= -O3
# C11 would keep a * b + c from becoming one instruction; functions of <math.h> need not set errno;
# integers wrap around, as they do where the model was trained.
MODEL_CFLAGS = -Wall @FLAGS@
OPENMP ?=

example: main.o model.o weights.o
\t$(CC) $(CFLAGS) $(OPENMP) $(LDFLAGS) -o $@ main.o model.o weights.o -lm

libmodel.so: model.o weights.o
\t$(CC) $(CFLAGS) $(OPENMP) $(LDFLAGS) -shared -o $@ model.o weights.o -lm

model.o: model.c model.h
\t$(CC) $(MODEL_CFLAGS) $(CFLAGS) $(OPENMP) -c -o $@ model.c

main.o: main.c model.h
\t$(CC) $(MODEL_CFLAGS) $(CFLAGS) -c -o $@ main.c

weights.o: weights.S weights.bin
\t$(CC) -c -o $@ weights.S

clean:
\trm -f example libmodel.so main.o model.o weights.o

.PHONY: clean
"""

_README = """\
# A compiled model

C source of a neural network, written by graphopt. It needs a C11 compiler with GNU extensions (gcc or clang),
an assembler for `weights.S`, and the C library with `libm`. Nothing else: no run-time library, no Python.

```sh
make && ./example {arguments}
```

| file | contents |
|---|---|
| `model.h` | the interface: inputs, outputs, sizes |
| `model.c` | one function a kernel, and the calls in order |
| `weights.bin`, `weights.S` | the weights, packed for the kernels, and what puts them into the program |
| `main.c` | an example: reads raw arrays from files, runs the model, writes raw arrays |
| `Makefile` | `make`, `make libmodel.so`; other machines by `CC`, more cores by `OPENMP=-fopenmp` |
| `graphopt.json` | versions, hashes and signature |

```c
#include "model.h"

int status = model_run({sizes}inputs, outputs);
```

`inputs` and `outputs` are arrays of pointers to C-contiguous arrays, in the order of `model.h`. `model_run`
allocates its workspace; `model_run_in` is given one, and then the model allocates nothing.

Weights are stored as the machine that compiled the model stores them, in little-endian order.
`make CFLAGS='-g -O1 -DMODEL_GUARDED -fsanitize=address,undefined'` makes every tensor an allocation of its
own, so that an access beside one is found.
"""
