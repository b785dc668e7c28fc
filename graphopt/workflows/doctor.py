"""``graphopt doctor``: what works on this machine, and how to mend what does not."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        ok: works; None when it is optional and absent.
        detail: version or reason.
        fix: what to do when it does not work.
    """

    name: str
    ok: bool | None
    detail: str
    fix: str = ""


_PACKAGES = {
    "torch": "2.13",
    "onnx": "1.23",
    "onnx-ir": "1.1",
    "onnxscript": "0.7",
    "onnxruntime": "1.31",
    "apache-tvm": "0.27",
    "apache-tvm-ffi": "0.1.14.post0",
}


def doctor() -> list[Finding]:
    """Looks at Python, packages, compilers and targets; nothing is changed."""
    findings = [
        Finding("python", sys.version_info >= (3, 11), platform.python_version(), "use Python 3.11 or newer")
    ]
    findings += [_package(name, wanted) for name, wanted in _PACKAGES.items()]
    findings.append(_code_generation())
    findings.append(_cuda_compiler())
    from graphopt.codegen import list_targets

    for status in list_targets():
        why = status.why_not_compiled
        detail = why or (
            f"compiles; {status.why_not_run}" if status.why_not_run else "compiles and runs here"
        )
        findings.append(Finding(f"target {status.name}", None if why else True, detail))
    return findings


def healthy(findings: list[Finding]) -> bool:
    """Whether nothing that graphopt needs is broken."""
    return all(f.ok is not False for f in findings)


def _package(name: str, wanted: str) -> Finding:
    fix = f"pip install '{name}=={wanted}'" if wanted.count(".") > 1 else f"pip install '{name}=={wanted}.*'"
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, "not installed", fix)
    return Finding(name, found.startswith(wanted), found, "" if found.startswith(wanted) else fix)


def _cuda_compiler() -> Finding:
    from graphopt.codegen import nvrtc, toolchain

    where = toolchain.find_nvcc() or ("NVRTC" if nvrtc.is_installed() else None)
    return Finding(
        "CUDA compiler",
        True if where else None,
        where or "not installed; needed for CUDA artifacts",
        "" if where else toolchain.CUDA_HINT,
    )


def _code_generation() -> Finding:
    """Compiles and runs a small program: the only proof that the whole chain works."""
    import torch

    import graphopt

    class Probe(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x) + 1

    try:
        program = graphopt.capture(Probe().eval(), (torch.ones(3),))
        (result,) = graphopt.compile(program)(torch.tensor([-1.0, 0.0, 2.0]))
    except graphopt.GraphoptError as error:
        return Finding("code generation", False, error.message, error.hint or "")
    right = result.tolist() == [1.0, 1.0, 3.0]
    return Finding(
        "code generation", right, "compiled and ran" if right else f"wrong result {result.tolist()}"
    )


def to_dict(findings: list[Finding]) -> dict[str, Any]:
    return {"schema": "graphopt.doctor/1", "findings": [f.__dict__ for f in findings]}
