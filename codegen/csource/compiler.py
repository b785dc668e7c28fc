"""From a lowered program to a folder of C."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tvm

from graphopt.codegen.csource.artifact import SourceArtifact
from graphopt.codegen.csource.folder import MANIFEST, generate, manifest
from graphopt.codegen.package import Description, common_metadata
from graphopt.codegen.pipeline import CALLS, FUSE, SCHEDULE, run_pipeline
from graphopt.codegen.targets import Target
from graphopt.errors import InputError
from graphopt.ir.bodies import CONTROL_FLOW
from graphopt.ir.provenance import origin

if TYPE_CHECKING:
    from graphopt.ir.program import Program
    from graphopt.ir.signature import Signature


def refuse_control_flow(program: Program) -> None:
    """Fail where data decides what runs.

    Raises:
        InputError: GO-3005, naming the first branch or loop.
    """
    for node in program.graph.nodes:
        if node.target in CONTROL_FLOW:
            raise InputError(
                f"target 'c' has no form for {node.target}, a branch or loop that data decides",
                code="GO-3005",
                node=node.name,
                layer=origin(node).layer,
                hint="compile for a CPU by name, such as 'cpu' or 'aarch64'",
            )


def compile_source(
    mod: tvm.IRModule,
    signature: Signature,
    target: Target,
    hashes: dict[str, str],
    source: dict[str, str] | None = None,
) -> SourceArtifact:
    """Compile a Relax module whose function ``main`` has the inputs and outputs of ``signature``.

    Raises:
        InputError: GO-3005, something in it has no form in C.
        InternalError: GO-1001, a step of code generation failed.
    """
    steps = FUSE + SCHEDULE + CALLS
    model = generate(run_pipeline(mod, target, steps), signature)
    metadata = common_metadata(signature, target, hashes, source, (step.name for step in steps)) | {
        "kernels": model.kernels,
        "constant_outputs": [],
        "sizes": model.sizes,
    }
    files = {**model.files, MANIFEST: manifest(metadata)}
    return SourceArtifact(files, Description(metadata, model.files["model.c"].decode()))
