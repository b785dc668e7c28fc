"""The passes from a lowered Relax module to one the virtual machine can run, as data.

Order matters, and each step says why it stands where it does.  Targets share every step; what
differs (schedules, thread binding) is inside the step called ``schedule``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tvm
from tvm import ir, relax, tirx

from graphopt.codegen.fusion_budget import limit_fusion
from graphopt.codegen.schedules import apply_schedules
from graphopt.codegen.targets import Target
from graphopt.errors import GraphoptError, InternalError


@dataclass(frozen=True)
class Step:
    """One named step: ``make(target)`` returns the pass that it runs."""

    name: str
    why: str
    make: Callable[[Target], tvm.transform.Pass]


def _schedule(target: Target) -> tvm.transform.Pass:
    @tvm.transform.module_pass(opt_level=0, name="GraphoptSchedule")
    def run(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        return apply_schedules(mod, target)

    return run


def _reshape(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Loops for a reshape to plain sizes; one with a computed size, such as ``(n - 3) // 4``, as it is."""
    if all(isinstance(size, ir.Var | tirx.IntImm) for size in call.ty.shape.values):
        return ir.Op.get("relax.reshape").get_attr("FLegalize")(builder, call)
    return call


def _forget_upper_bounds(_target: Target) -> tvm.transform.Pass:
    @tvm.transform.module_pass(opt_level=0, name="GraphoptForgetUpperBounds")
    def run(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        changed = {
            var: function.without_attr("tir_var_upper_bound")
            for var, function in mod.functions_items()
            if isinstance(function, relax.Function) and "tir_var_upper_bound" in (function.attrs or {})
        }
        mod = tvm.IRModule(dict(mod.functions_items()), attrs=mod.attrs)
        for var, function in changed.items():
            mod.update_func(var, function)
        return mod

    return run


def _mark_unaliased(_target: Target) -> tvm.transform.Pass:
    @tirx.transform.prim_func_pass(opt_level=0, name="GraphoptMarkUnaliased")
    def run(func: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
        return func.with_attr("tirx.noalias", True)

    return run


_relax = relax.transform

FUSE: tuple[Step, ...] = (
    Step(
        "legalize",
        "Relax operators become loops (TensorIR functions); a reshape between computed sizes stays a view, "
        "since TVM takes minutes to simplify its indices",
        lambda _: _relax.LegalizeOps({"relax.reshape": _reshape}),
    ),
    Step(
        "fold-constants",
        "transposed and reshaped weights are computed once, here",
        lambda _: _relax.FoldConstant(),
    ),
    Step("drop-dead", "fewer functions for the analyses that follow", lambda _: _relax.DeadCodeElimination()),
    Step(
        "annotate-patterns",
        "fusion asks which functions are elementwise, injective, reductions, …",
        lambda _: _relax.AnnotateTIROpPattern(),
    ),
    Step(
        "reshape-as-view",
        "a reshape between two kernels shares memory instead of copying; before fusion, "
        "which would make it part of a kernel",
        lambda _: _relax.RewriteDataflowReshape(),
    ),
    Step(
        "limit-fusion",
        "erf of erf as one expression has two million terms; the inner one becomes a kernel of its own",
        lambda _: limit_fusion(),
    ),
    Step(
        "group",
        "elementwise producers and consumers join the kernel they surround",
        lambda _: _relax.FuseOps(),
    ),
    Step("merge-groups", "each group becomes one TensorIR function", lambda _: _relax.FuseTIR()),
    Step(
        "drop-fused",
        "the functions that were merged are no longer called",
        lambda _: _relax.DeadCodeElimination(),
    ),
)

SCHEDULE: tuple[Step, ...] = (
    Step("schedule", "loops are tiled, vectorised and made parallel by the rules of the target", _schedule),
)

FINISH: tuple[Step, ...] = (
    Step(
        "leave-dataflow",
        "from here on the order of calls is the order of execution",
        lambda _: _relax.ToNonDataflow(),
    ),
    Step(
        "drop-purity",
        "calls that write into preallocated memory follow",
        lambda _: _relax.RemovePurityChecking(),
    ),
    Step(
        "destination-passing",
        "each kernel call gets its output tensor allocated before it",
        lambda _: _relax.CallTIRRewrite(),
    ),
    Step(
        "forget-upper-bounds",
        "the memory planner would allocate for the largest sizes that the signature allows (tens of GiB for "
        "attention over a picture) whatever the sizes of the call",
        _forget_upper_bounds,
    ),
    Step(
        "plan-memory",
        "tensors whose lives do not overlap share storage; needs the allocations above",
        lambda _: _relax.StaticPlanBlockMemory(),
    ),
    Step(
        "lower-allocations",
        "what the plan left becomes calls of the runtime",
        lambda _: _relax.LowerAllocTensor(),
    ),
    Step("free-early", "tensors are released after their last use", lambda _: _relax.KillAfterLastUse()),
    Step(
        "lower-builtins",
        "remaining Relax builtins become runtime calls",
        lambda _: _relax.LowerRuntimeBuiltin(),
    ),
    Step(
        "shape-expressions",
        "sizes that are computed become small functions",
        lambda _: _relax.ComputePrimValue(),
    ),
    Step(
        "shape-checks",
        "symbolic sizes are read from the inputs, and kept in the VM's shape heap",
        lambda _: _relax.VMShapeLower(),
    ),
    Step(
        "mark-unaliased",
        "TVM's own functions, which compute sizes, do not say that their tensors are apart, as kernels do; "
        "beside one, LLVM may be told so of no kernel, and sums leave the registers at each step",
        _mark_unaliased,
    ),
    Step(
        "symbols", "each function gets the name it has in the library", lambda _: _relax.AttachGlobalSymbol()
    ),
)

PIPELINE: tuple[Step, ...] = FUSE + SCHEDULE + FINISH

CALLS: tuple[Step, ...] = FINISH[: 1 + [step.name for step in FINISH].index("destination-passing")]
"""Of :data:`FINISH`, the steps up to a sequence of kernel calls on tensors without planned memory."""


def run_pipeline(mod: tvm.IRModule, target: Target, steps: Sequence[Step] = PIPELINE) -> tvm.IRModule:
    """Apply ``steps`` in order.

    Raises:
        InternalError: GO-1001, a step failed; the message names it.
    """
    with tvm.target.Target(target.tvm_config()), tvm.transform.PassContext(opt_level=3):
        for step in steps:
            try:
                mod = step.make(target)(mod)
            except GraphoptError:
                raise
            except Exception as error:  # TVM raises whatever its C++ threw
                raise InternalError(
                    f"code generation step {step.name!r} failed: {last_line(error)}", code="GO-1001"
                ) from error
    return mod


def last_line(error: BaseException) -> str:
    """The line of a TVM error that says what happened; the rest is a C++ stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
