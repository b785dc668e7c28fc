"""All GPU kernels of zoo models, checked: every finding is a false alarm, or a defect of a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphopt.codegen import find_target
from graphopt.codegen.emulate import KernelCheck, check_kernels

MODELS = (
    ("ppocr-cls", "full"),
    ("ppocr-det", "small"),
    ("ppocr-rec", "small"),
    ("minilm", "full"),
    ("resnet50", "small"),
    ("smollm2-prefill", "small"),
    ("smollm2-decode", "small"),
)


class _Checked(Exception):
    """Carries the checks out of a compilation, which need not go on."""

    def __init__(self, checks: list[KernelCheck]) -> None:
        super().__init__()
        self.checks = checks


def check_model(name: str, size: Any, target: str = "cuda") -> list[KernelCheck]:
    """Check the kernels that ``graphopt compile`` makes of a model of the zoo; no binary is made of them."""
    from benchmarks.zoo.registry import get
    from graphopt.codegen.compiler import compile
    from graphopt.passmanager.manager import PassManager

    program = PassManager("cleanup", verify="off").run(get(name, size).capture()).program

    def inspect(meanings: Mapping[str, Any], lowered: Mapping[str, Any]) -> None:
        checks = check_kernels(meanings, lowered, find_target(target), dims=program.signature.dims)
        raise _Checked(checks)

    try:
        compile(program, target, cache=False, inspect=inspect)
    except _Checked as done:
        return done.checks
    return []
