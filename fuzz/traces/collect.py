"""All traces: torch's operator tests, models of the zoo, and the templates of rewrite rules."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch

from graphopt.fuzz.traces.opinfo import entries, record_entry
from graphopt.fuzz.traces.programs import template_records, zoo_records
from graphopt.fuzz.traces.record import Record
from graphopt.fuzz.traces.recorder import Recorder

SOURCES = ("zoo", "template", "op_db")


def collect(
    sources: Collection[str] = SOURCES,
    *,
    operators: Collection[str] = (),
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Record]:
    """The records of all sources, each once, programs first.

    Args:
        sources: some of :data:`SOURCES`.
        operators: names of entries of ``op_db`` to restrict that source to; default: all.
        seed: of the values that operator tests draw.
        progress: told what is being done, a line at a time.

    Raises:
        ImportError: ``op_db`` needs ``expecttest``, ``zoo`` a checkout with the ``zoo`` extra.
    """
    found: dict[Record, None] = {}
    if "zoo" in sources:
        found |= dict.fromkeys(zoo_records())
        progress(f"zoo: {len(found)} calls")
    if "template" in sources:
        before = len(found)
        found |= dict.fromkeys(template_records())
        progress(f"templates: {len(found) - before} calls")
    if "op_db" in sources:
        recorder, before = Recorder(), len(found)
        with torch.random.fork_rng():
            for entry in entries(operators):
                record_entry(recorder, entry, seed)
        found |= recorder.records
        progress(f"op_db: {len(found) - before} calls")
    return list(found)
