"""GPU kernels checked on a CPU: ``graphopt compile --target cuda --verify emulate``.

Start reading at :mod:`graphopt.codegen.emulate.check`; ``docs/emulation.md`` says what is checked and what
is not.  Names are loaded when they are first used: TVM takes seconds to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphopt.codegen.emulate.check import Finding, KernelCheck, check_kernel
    from graphopt.codegen.emulate.module import check_kernels, raise_if_wrong

__all__ = ["Finding", "KernelCheck", "check_kernel", "check_kernels", "raise_if_wrong"]

_HOME = {
    "Finding": "check",
    "KernelCheck": "check",
    "check_kernel": "check",
    "check_kernels": "module",
    "raise_if_wrong": "module",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
