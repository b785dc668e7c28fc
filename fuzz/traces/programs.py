"""Calls in programs: models of the zoo, and the small models on which each rewrite rule is tried.

These are the overloads, attributes and dtypes that graphopt's passes really meet.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from torch import fx
from torch._ops import OpOverload

from graphopt.fuzz.traces.record import NotRecorded, Record, normalised, outputs_of
from graphopt.ir.program import Program

ZOO = (
    "bert-base",
    "convnext-t",
    "deepseek-v2-prefill",
    "gpt2-prefill",
    "mobilenet-v3",
    "poolformer-s12",
    "qwen3-decode",
    "resnet50",
    "swin-t",
    "t5-small-decode",
    "vit-s-eager",
    "whisper-tiny-encoder",
)
"""Models that are built from modules, need nothing downloaded, and differ in their operators."""


def program_records(program: Program, source: str) -> Iterator[Record]:
    """The calls of ATen operators in a program's graph; those with symbolic sizes are left out."""
    for node in program.graph_module.graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, OpOverload):
            continue
        if node.target.namespace != "aten":
            continue
        try:
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
            arguments = normalised(node.target, args, dict(kwargs))
            outputs = outputs_of(node.meta["val"])
        except NotRecorded:
            continue
        yield Record(str(node.target), arguments, outputs, source)


def zoo_records() -> Iterator[Record]:
    """The calls in small variants of the zoo's models.

    Raises:
        ImportError: ``benchmarks`` is only there in a checkout, and models need the ``zoo`` extra.
    """
    from benchmarks import zoo

    for name in ZOO:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = zoo.get(name, "small").capture(dynamic=False)
        yield from program_records(program, f"zoo:{name}")


def template_records() -> Iterator[Record]:
    """The calls in every case of every rewrite rule."""
    from graphopt.fuzz.templates import all_templates

    for template in all_templates().values():
        for case in (*template.positive, *template.near_misses):
            yield from program_records(case.program(), f"template:{template.rule}")
