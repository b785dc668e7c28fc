"""From a program to an artifact: lower, run the pipeline, generate machine code, package."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import tvm
from tvm import relax, tirx

from graphopt.codegen import loops
from graphopt.codegen.artifact import Artifact
from graphopt.codegen.cache import ArtifactCache, cache_key
from graphopt.codegen.cuda import build_binaries, cuda_source, embed_binary, kernel_names
from graphopt.codegen.emulate.lowering import LoweredFunction, LoweredKernels
from graphopt.codegen.gpu_report.kernels import count_calls, describe_kernels
from graphopt.codegen.gpu_report.launches import Launches
from graphopt.codegen.gpu_report.work import Work, count_work
from graphopt.codegen.package import Description, common_metadata, write_package
from graphopt.codegen.pipeline import FINISH, FUSE, PIPELINE, SCHEDULE, last_line, run_pipeline
from graphopt.codegen.schedules.rule import RULE_ATTRIBUTE
from graphopt.codegen.targets import Target, find_target
from graphopt.codegen.tuning.applying import apply_records
from graphopt.codegen.tuning.database import Record, open_database
from graphopt.codegen.tuning.kernel import target_key
from graphopt.errors import GraphoptError, InternalError

if TYPE_CHECKING:
    from graphopt.ir.program import Program
    from graphopt.ir.signature import Signature

# For GPUs: copies to shared memory that schedules mark as asynchronous become cp.async.  TVM's reuse of
# storage is off, because it merges buffers of shared memory across types, which matrix loads do not allow;
# shared memory is reused by a later pass, and registers by ptxas.  Nor are common subexpressions looked for:
# nvcc does it, and TVM moves some that a condition guards before what they are computed from.
_GPU_LOWERING = {
    "tirx.use_async_copy": True,
    "tirx.disable_storage_rewrite": True,
    "tirx.disable_cse_tir": True,
}
# Looks for copies that a DMA engine of Hexagon could do, and fails on some that are in vectors.
_NOT_FOR_GPUS = ["s_tir.LowerAsyncDMA"]

Inspect = Callable[[Mapping[str, tirx.PrimFunc], Mapping[str, LoweredFunction]], None]
"""Looks at functions before scheduling and at the end of lowering, by name."""

_RESHAPE = tvm.ir.Op.get("relax.reshape")


def compile(
    program: Program,
    target: str | Target = "cpu",
    *,
    source: dict[str, str] | None = None,
    cache: bool = True,
    tuned: bool | str | os.PathLike[str] = True,
    fast_algorithms: bool = True,
    inspect: Inspect | None = None,
) -> Artifact:
    """Compile a program.

    The library is linked here and now: what is run, and verified, is what :meth:`Artifact.save` writes.

    Args:
        program: any level; operators without a converter are reported all at once.
        target: a name of :func:`~graphopt.codegen.targets.find_target`, or a target.
        source: path and digest of the model file, kept in the artifact's metadata.
        cache: look for the artifact in the user's cache (:mod:`graphopt.codegen.cache`), and keep it there;
            not for target ``c``, whose source is written anew each time.
        tuned: use what :func:`graphopt.tune` found: True for the user's database, a folder for the one
            there, False for none.  A record that does not fit its kernel is reported in the metadata.
        fast_algorithms: on CPUs, compute 3x3 convolutions by Winograd's method and large products with
            weights by Strassen's where that pays: in fewer operations, with larger rounding errors and more
            memory for weights.  :meth:`Artifact.winograd` and :meth:`Artifact.strassen` list the kernels.
        inspect: gets the functions before scheduling and as they are emitted for a GPU, by name, before
            a binary is made of them; what it raises ends the compilation.  Nothing comes from the cache then.

    Raises:
        UsageError: GO-2003, unknown target.
        InputError: GO-3005, operators that cannot be compiled (for target ``c``: branches and loops too).
        TargetError: GO-6001, a missing or failing linker or compiler for CUDA.
        InternalError: GO-1001, a step of code generation failed.
    """
    from graphopt.codegen.csource.compiler import compile_source, refuse_control_flow
    from graphopt.codegen.relax import lower

    target = find_target(target) if isinstance(target, str) else target
    weights = hashlib.sha256()
    for name, tensor in sorted(program.constants.items()):
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    hashes = {"program": program.structural_hash(), "weights": weights.hexdigest()}
    if target.kind == "c":
        refuse_control_flow(program)
        mod = lower(program, target, fast_algorithms=fast_algorithms).mod
        return compile_source(mod, program.signature, target, hashes, source)
    database = open_database(tuned)
    records = database.best_of_target(target_key(target)) if database else {}

    def generate() -> Artifact:
        mod = lower(program, target, fast_algorithms=fast_algorithms).mod
        return compile_module(mod, program.signature, target, hashes, source, records, inspect)

    kept = ArtifactCache.of_user() if cache else None
    if kept is None:
        return generate()
    facts = {
        "hashes": hashes,
        "target": target.to_dict(),
        "source": source,
        "signature": program.signature.to_dict(),
        "examples": _example_sizes(program),  # tiles are chosen for them
        "tuned": database.digest(target_key(target)) if database else None,
        "fast_algorithms": fast_algorithms,
    }
    key = cache_key(facts)
    artifact = kept.find(key, target) if inspect is None else None
    if artifact is None:
        artifact = generate()
        kept.add(key, artifact)
    return artifact


def compile_module(
    mod: tvm.IRModule,
    signature: Signature,
    target: Target,
    hashes: dict[str, str],
    source: dict[str, str] | None = None,
    records: Mapping[str, Record] | None = None,
    inspect: Inspect | None = None,
) -> Artifact:
    """Compile a Relax module whose function ``main`` has the inputs and outputs of ``signature``.

    Args:
        records: of tuned kernels, by their keys.

    Raises:
        as :func:`compile`, but for unknown targets and operators.
    """
    mod = run_pipeline(mod, target, FUSE)
    shared = _constant_outputs(mod["main"])
    mod, applied = apply_records(mod, target, records or {})
    on_gpu = target.kind == "cuda"
    work = _work(mod) if on_gpu else {}
    calls = count_calls(mod) if on_gpu else {}
    meanings = {v.name_hint: f for v, f in mod.functions_items() if isinstance(f, tirx.PrimFunc)}
    mod = run_pipeline(mod, target, SCHEDULE + FINISH)
    kernels, text = _kernels(mod)
    launches, lowered = Launches(), LoweredKernels()
    executable = _generate(mod, target, [launches] if inspect is None else [launches, lowered])
    if inspect is not None:
        inspect(meanings, lowered.functions)
    objects, library = _pack(executable)
    cubins: dict[str, bytes] = {}
    gpu_source = cuda_source(executable) if on_gpu else None
    if gpu_source is not None:
        binaries = build_binaries(gpu_source, target.gpu_architectures)
        cubins = binaries.cubins
        library = memoryview(embed_binary(bytes(library), gpu_source, binaries.fatbin))
        names = {name for cubin in cubins.values() for name in kernel_names(cubin)}
        rules = {k["name"]: k["rule"] for k in kernels}
        described = describe_kernels(names, rules, work, calls, launches.by_kernel, binaries.resources)
        kernels, text = [k.to_dict() for k in described], gpu_source
    metadata = common_metadata(signature, target, hashes, source, (step.name for step in PIPELINE)) | {
        "kernels": kernels,
        "tuning": {"tuned": applied.tuned, "refused": applied.refused},
        "constant_outputs": shared,
    }
    description = Description(metadata, text, cubins)
    folder = Path(tempfile.mkdtemp(prefix="graphopt-artifact-"))
    try:
        path = folder / f"model.{target.object_format}"
        write_package(objects, library, description, target, path)
        return Artifact(path, description, owned=folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _example_sizes(program: Program) -> list[list[int | None]]:
    """The sizes of the inputs that the program was captured from."""
    shapes = [node.meta["val"].shape for node in program.input_nodes]
    return [
        [size.node.hint if isinstance(size, torch.SymInt) else size for size in shape] for shape in shapes
    ]


def _constant_outputs(main: relax.Function) -> list[int]:
    """Outputs that are weights, or views of weights: callers must get copies of them.

    So must they of what a function gives that holds control flow, which may hand out a weight.
    """
    bindings = {b.var: b.value for block in main.body.blocks for b in block.bindings}

    def origin(value: relax.Expr) -> relax.Expr:
        while True:
            if isinstance(value, relax.Var) and value in bindings:
                value = bindings[value]
            elif isinstance(value, relax.Call) and value.op == _RESHAPE:
                value = value.args[0]
            elif isinstance(value, relax.TupleGetItem):
                value = value.tuple_value
            else:
                return value

    result = origin(main.body.body)
    fields = result.fields if isinstance(result, relax.Tuple) else []

    def shared(value: relax.Expr) -> bool:
        of_function = isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.GlobalVar)
        return of_function or isinstance(value, tvm.ir.GenericConst)

    return [i for i, f in enumerate(fields) if shared(origin(f))]


def _work(mod: tvm.IRModule) -> dict[str, Work]:
    """The work of each function before it is scheduled."""
    return {
        var.name_hint: count_work(func)
        for var, func in mod.functions_items()
        if isinstance(func, tirx.PrimFunc)
    }


def _kernels(mod: tvm.IRModule) -> tuple[list[dict[str, Any]], str]:
    """Name and schedule rule of each function, sorted, and their scheduled source."""
    found = sorted(
        (str(f.attrs["global_symbol"]), f) for _, f in mod.functions_items() if isinstance(f, tirx.PrimFunc)
    )
    kernels = [{"name": n, "rule": str(f.attrs.get(RULE_ATTRIBUTE, "runtime"))} for n, f in found]
    return kernels, "\n".join(f.script(show_meta=False) for _, f in found)


def lowering_context(target: Target, instruments: Sequence[Any] = ()) -> tvm.transform.PassContext:
    """The context in which scheduled loops become machine code."""
    on_gpu = target.kind == "cuda"
    return tvm.transform.PassContext(
        opt_level=3,
        config=_GPU_LOWERING if on_gpu else loops.CONFIG,
        disabled_pass=_NOT_FOR_GPUS if on_gpu else None,
        instruments=list(instruments),
    )


def _generate(mod: tvm.IRModule, target: Target, instruments: Sequence[Any]) -> tvm.runtime.Module:
    try:
        tir = loops.PIPELINE_NAME if target.kind == "cpu" else "default"
        with lowering_context(target, instruments):
            config = tvm.target.Target(target.tvm_config())
            return relax.build(mod, config, relax_pipeline=None, tir_pipeline=tir).mod
    except GraphoptError:
        raise
    except Exception as error:  # TVM raises whatever its C++ threw
        raise InternalError(f"code generation failed: {last_line(error)}", code="GO-1001") from error


def _pack(module: tvm.runtime.Module) -> tuple[dict[str, bytes], memoryview]:
    """Object files of the compiled functions, and the packed tree of everything else."""
    objects = {}
    with tempfile.TemporaryDirectory(prefix="graphopt-objects-") as folder:
        # Where nothing is left to compute, TVM puts an empty source in the place of the kernels.
        kernels = [m for m in module._collect_dso_modules() if m.kind != "c"]
        for index, part in enumerate(kernels):
            path = Path(folder, f"kernels{index}.o")
            part.write_to_file(str(path))
            objects[path.name] = path.read_bytes()
    packed = tvm.get_global_func("runtime.ModulePackImportsToTensor")(module)
    return objects, memoryview(packed.numpy()).cast("B")
