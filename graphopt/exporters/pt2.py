"""Programs as ``.pt2`` files: torch's archive, with what graphopt knows on top.

The archive is what ``torch.export.save`` writes, so ``torch.export.load`` opens it (import
``graphopt.dialect.registry`` and call ``load()`` first if the program holds dialect operators).  One
extra file, ``graphopt.json``, carries the names of inputs, outputs and dimensions, the level, the
provenance and the origin of each node.

Loading executes nothing that the file brings: see :mod:`graphopt.exporters.pt2_archive`.
"""

from __future__ import annotations

import importlib.metadata
import json
import operator
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from graphopt._torch import detect_fake_mode, keeping_equations_only, pt2_deserialize
from graphopt.errors import GraphoptError, InputError
from graphopt.exporters.exported_program import to_exported_program
from graphopt.exporters.pt2_archive import damaged, read_archive
from graphopt.exporters.pt2_vetting import is_symbol, vet
from graphopt.files import atomic_files
from graphopt.ir.level import Level
from graphopt.ir.program import Program
from graphopt.ir.propagation import value_of
from graphopt.ir.provenance import Origin, ProvenanceLog, origin, set_origin
from graphopt.ir.signature import Signature
from graphopt.ir.verifier import check_program, settle

FORMAT_VERSION = 1
"""Version of ``graphopt.json``; a reader refuses a newer one."""

_EXTRA = "graphopt.json"


def save_pt2(program: Program, path: str | os.PathLike[str]) -> None:
    """Write ``program`` to ``path``; the file appears complete or not at all.

    Raises:
        InputError: the file cannot be written (GO-3001).
    """
    path = Path(path)
    exported = to_exported_program(program)
    with atomic_files(path.parent) as files, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, about its own TreeSpec
        torch.export.save(exported, files.open(path.name), extra_files={_EXTRA: json.dumps(_facts(program))})


def load_pt2(path: str | os.PathLike[str]) -> Program:
    """The program in a ``.pt2`` file that graphopt or ``torch.export.save`` wrote.

    Tensors are mapped from the file and read when they are used.

    Raises:
        InputError: the file cannot be read (GO-3001), is not such a file (GO-3002), is damaged
            (GO-3003), calls unknown operators (GO-3005), or holds pickled objects (GO-3008).
    """
    from graphopt.dialect import registry

    path = Path(path)
    archive = read_archive(path)
    registry.load()
    try:
        facts = json.loads(archive.extra[_EXTRA]) if _EXTRA in archive.extra else None
        model = vet(archive.model)
        if facts is not None:
            _refuse_newer(facts, path)
            model["range_constraints"] = _ranges(facts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            exported = pt2_deserialize(model, archive.weights, archive.constants)
        if facts is not None:
            return settle(_restored(exported, facts))
    except InputError:
        raise
    except Exception as error:  # torch's deserializer raises whatever the wrong form makes it raise
        raise damaged(path, _first_line(error)) from error
    return Program.from_exported(exported)


def _first_line(error: Exception) -> str:
    """The innermost message: torch nests whole tracebacks in its own."""
    if isinstance(error, GraphoptError):
        return error.message
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _facts(program: Program) -> dict[str, Any]:
    return {
        "format": FORMAT_VERSION,
        "graphopt": importlib.metadata.version("graphopt"),
        "signature": program.signature.to_dict(),
        "level": program.level.value,
        "symbols": dict(program.symbols),
        "ranges": _ranges_of(program),
        "provenance": program.provenance.to_list(),
        "notes": list(program.notes),
        "metadata": dict(program.metadata),
        "origins": {
            node.name: [list(known.layers), list(known.made_by)]
            for node in program.graph.nodes
            if (known := origin(node)) != Origin()
        },
    }


def _ranges_of(program: Program) -> dict[str, list[int | None]]:
    """The range that torch reasons with for each symbol; it is not the one that the user declared."""
    environment = program.fake_mode.shape_env
    used = {
        symbol
        for node in program.graph.nodes
        if isinstance(node.meta.get("val"), torch.Tensor)
        for size in node.meta["val"].shape
        if isinstance(size, torch.SymInt)
        for symbol in size.node.expr.free_symbols
    }
    ranges = {symbol: environment.var_to_range[symbol] for symbol in used} if environment is not None else {}
    return {
        str(symbol): [int(known.lower), int(known.upper) if known.upper.is_Integer else None]
        for symbol, known in sorted(ranges.items(), key=str)
    }


def _ranges(facts: dict[str, Any]) -> dict[str, dict[str, int | None]]:
    ranges = {str(name): (lower, upper) for name, (lower, upper) in facts["ranges"].items()}
    for name, bounds in ranges.items():
        if not is_symbol(name) or not all(bound is None or type(bound) is int for bound in bounds):
            raise ValueError(f"{name}: {bounds} is not the range of a symbol")
    return {name: {"min_val": lower, "max_val": upper} for name, (lower, upper) in ranges.items()}


def _refuse_newer(facts: dict[str, Any], path: Path) -> None:
    if facts["format"] > FORMAT_VERSION:
        raise InputError(
            f"{path.name!r} was written by graphopt {facts['graphopt']}, in a newer format",
            code="GO-3002",
            hint="update graphopt",
        )


def _restored(exported: ExportedProgram, facts: dict[str, Any]) -> Program:
    """The program as it was saved: the inverse of :func:`to_exported_program`."""
    module = _unlifted(exported)
    if facts["symbols"]:
        _ask_again(module)
    program = Program(
        module,
        Signature.from_dict(facts["signature"]),
        level=Level(facts["level"]),
        provenance=ProvenanceLog.from_list(facts["provenance"]),
        symbols=facts["symbols"],
        notes=facts["notes"],
        metadata={str(k): str(v) for k, v in facts.get("metadata", {}).items()},
    )
    for node in program.graph.nodes:
        layers, made_by = facts["origins"].get(node.name, ((), ()))
        set_origin(node, Origin(tuple(layers), tuple(made_by)))
    check_program(program, values=False)
    return program


def _ask_again(module: fx.GraphModule) -> None:
    """Make torch learn again what capture learned about the symbols.

    An archive holds no guards.  Each operator asks its questions about sizes once more, so that their
    answers are known before a pass runs, whose own questions then stand out.
    """
    mode = detect_fake_mode([node.meta.get("val") for node in module.graph.nodes])
    if mode is None or mode.shape_env is None:
        return
    with keeping_equations_only(mode.shape_env):
        for node in module.graph.nodes:
            if node.op == "call_function":
                value_of(node, mode, module)


def _unlifted(exported: ExportedProgram) -> fx.GraphModule:
    """The graph with its parameters, buffers and constants as get_attr nodes again."""
    targets = {
        spec.arg.name: spec.target
        for spec in exported.graph_signature.input_specs
        if spec.kind is not InputKind.USER_INPUT
    }
    tensors: dict[str, Any] = {**exported.constants, **exported.state_dict}
    used: dict[str, Any] = {}
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in exported.graph.nodes:
        if node.target is operator.getitem and not node.users:
            continue  # torch's deserializer makes one for each output, used or not
        if node.op == "placeholder" and targets.get(node.name) is not None:
            target = str(targets[node.name])
            used[target] = tensors[target]
            new = graph.create_node("get_attr", target, name=node.name)
        else:
            new = graph.node_copy(node, copied.__getitem__)
            if node.op == "get_attr":
                used[str(node.target)] = getattr(exported.graph_module, str(node.target))
        new._rename(node.name)
        new.meta = {key: value for key, value in node.meta.items() if key != "from_node"}
        if node.op == "get_attr":
            new.meta.setdefault("val", used[str(node.target)])  # a body; torch gives it no value
        copied[node] = new
    return fx.GraphModule(used, graph)
