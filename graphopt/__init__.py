"""graphopt rewrites neural networks and checks that every rewrite kept its promise.

Everything here is imported when it is first used, so that ``import graphopt`` is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphopt.codegen import Artifact, compile, load_artifact
    from graphopt.contract import BitExact, Bounded, Exact, ExactWhen, Lossy
    from graphopt.errors import (
        GraphoptError,
        InputError,
        InternalError,
        PassError,
        TargetError,
        UsageError,
        VerificationError,
    )
    from graphopt.frontends.torch_module import capture_torch as capture
    from graphopt.ir.level import Level
    from graphopt.ir.program import Program
    from graphopt.ir.rewriter import Rewriter
    from graphopt.ir.signature import DimRange, Signature, TensorSpec
    from graphopt.passmanager.base import CompositePass, Pass, PassContext, RewritePass, RulePass
    from graphopt.passmanager.bisect import bisect
    from graphopt.passmanager.instruments import Dump, Instrument, PrintProgram, Progress, Timing
    from graphopt.passmanager.manager import PassManager
    from graphopt.passmanager.registry import build_pass, build_pipeline, pass_names, register_pass
    from graphopt.passmanager.result import PassRecord, PassResult
    from graphopt.rewriting.rule import RewriteRule
    from graphopt.verification import OnnxRuntimeRunner, VerificationReport, draw_inputs, verify
    from graphopt.workflows.bench import bench
    from graphopt.workflows.compare import compare
    from graphopt.workflows.compile import compile_model
    from graphopt.workflows.doctor import doctor
    from graphopt.workflows.inspect import inspect
    from graphopt.workflows.loading import load
    from graphopt.workflows.optimize import optimize
    from graphopt.workflows.run import run
    from graphopt.workflows.tune import tune

_HOME = {
    "graphopt.codegen": ("Artifact", "compile", "load_artifact", "list_targets"),
    "graphopt.errors": (
        "GraphoptError",
        "InputError",
        "InternalError",
        "PassError",
        "TargetError",
        "UsageError",
        "VerificationError",
    ),
    "graphopt.ir.level": ("Level",),
    "graphopt.ir.program": ("Program",),
    "graphopt.ir.rewriter": ("Rewriter",),
    "graphopt.ir.signature": ("DimRange", "Signature", "TensorSpec"),
    "graphopt.passmanager.base": ("CompositePass", "Pass", "PassContext", "RewritePass", "RulePass"),
    "graphopt.passmanager.bisect": ("bisect",),
    "graphopt.contract": ("BitExact", "Bounded", "Exact", "ExactWhen", "Lossy"),
    "graphopt.passmanager.instruments": ("Dump", "Instrument", "PrintProgram", "Progress", "Timing"),
    "graphopt.passmanager.manager": ("PassManager",),
    "graphopt.passmanager.registry": ("build_pass", "build_pipeline", "pass_names", "register_pass"),
    "graphopt.passmanager.result": ("PassRecord", "PassResult"),
    "graphopt.rewriting.rule": ("RewriteRule",),
    "graphopt.verification": ("OnnxRuntimeRunner", "VerificationReport", "draw_inputs", "verify"),
    "graphopt.workflows.bench": ("bench",),
    "graphopt.workflows.compare": ("compare",),
    "graphopt.workflows.compile": ("compile_model",),
    "graphopt.workflows.doctor": ("doctor",),
    "graphopt.workflows.inspect": ("inspect",),
    "graphopt.workflows.loading": ("load",),
    "graphopt.workflows.optimize": ("optimize",),
    "graphopt.workflows.run": ("run",),
    "graphopt.workflows.tune": ("tune",),
}
_WHERE = {name: (module, name) for module, names in _HOME.items() for name in names}
_WHERE["capture"] = ("graphopt.frontends.torch_module", "capture_torch")

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("graphopt")
    if name not in _WHERE:
        raise AttributeError(f"module 'graphopt' has no attribute {name!r}")
    module, attribute = _WHERE[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
