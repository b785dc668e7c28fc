"""The process that examines cases.

It reads chunks from a pipe, one a line of JSON, and writes lines of JSON to another: which case and which
stage begins, so that a crash names its case, and the record of each case.  What libraries print goes to a
log; Python's stack at a crash does too.

``python -m graphopt.fuzz.campaign.worker READ WRITE``, with the numbers of the pipes' descriptors.
"""

from __future__ import annotations

import faulthandler
import functools
import json
import os
import sys
import warnings
from typing import IO, Any

TOGETHER = -1
"""In place of the index of a case: several of them are looked at."""

_GIB = 1 << 30


def main() -> None:
    reading, writing = (int(n) for n in sys.argv[1:3])
    faulthandler.enable()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of libraries, about their own code
    with os.fdopen(reading, encoding="utf-8") as requests, os.fdopen(writing, "w", encoding="utf-8") as out:
        send = functools.partial(_send, out)
        worker: Any = None
        for line in requests:
            message = json.loads(line)
            if "settings" in message:
                worker = _Worker(message["settings"], send)
                send({"ready": os.getpid()})
            elif "reduce" in message:
                worker.reduce(message["reduce"])
            else:
                worker.run(message["chunk"], message["skip"], message["alone"])


def _send(out: IO[str], message: dict[str, Any]) -> None:
    # One write a line: whoever reads after a crash finds whole lines.
    out.write(json.dumps(message, default=str) + "\n")
    out.flush()


class _Worker:
    def __init__(self, settings: dict[str, Any], send: Any) -> None:
        import torch

        from graphopt.fuzz.campaign.settings import Settings
        from graphopt.fuzz.campaign.sources import Sources

        torch.set_num_threads(1)
        self.settings = Settings.from_dict(settings)
        self.sources = Sources(self.settings)
        self.send = send
        _limit_memory(self.settings.memory)

    def run(self, data: dict[str, Any], skip: list[int], alone: bool) -> None:
        """Examines the cases of a chunk, and says that it is done.

        Args:
            skip: indices of cases that are not to be examined.
            alone: whether each case is compiled alone, since together they took a worker with them.
        """
        from graphopt.fuzz.campaign.plan import Chunk

        chunk = Chunk.from_dict(data)
        places = [place for place, index in enumerate(chunk.indices) if index not in skip]
        if chunk.scripts:
            self._run_scripts(chunk, places)
        elif chunk.stream == "passes":
            for place in places:
                self._examine(chunk, [place], alone=True)
        else:
            self._examine(chunk, places, alone)
        self.send({"done": chunk.key})

    def _examine(self, chunk: Any, places: list[int], alone: bool) -> None:
        from graphopt.fuzz.campaign.examine import Examination, together

        examinations = []
        for place in places:
            index = chunk.indices[place]
            label = chunk.label(place, self.settings.seed)
            each = Examination(chunk.stream, index, label, functools.partial(self._note, index))
            each.prepare(functools.partial(self._make, chunk, place))
            examinations.append(each)
        oracles = self.sources.oracles(chunk.stream)
        if not alone:
            oracles = together(examinations, oracles, functools.partial(self._note, TOGETHER))
        for each in examinations:
            if each.case is not None:
                self._note(each.index, "look", "fuzzer")
                self.send({"case": each.case.to_dict()})
            each.look(oracles)
            self.send({"record": each.record().to_dict(), "behaviour": each.behaviour.to_dict()})

    def _run_scripts(self, chunk: Any, places: list[int]) -> None:
        from graphopt.fuzz.campaign.scripts import script_record

        for place in places:
            name, source = chunk.scripts[place]
            self._note(chunk.indices[place], "script", name)
            record = script_record(chunk.indices[place], name, source, self.settings.timeout)
            self.send({"record": record.to_dict(), "behaviour": {}})

    def reduce(self, task: dict[str, Any]) -> None:
        """Makes a finding small, and says what became of it: its case and the files of its folder."""
        import tempfile
        from pathlib import Path

        from graphopt.fuzz.campaign.findings import packed
        from graphopt.fuzz.campaign.records import problem_from_dict
        from graphopt.fuzz.cases import FuzzCase
        from graphopt.fuzz.findings import Finding
        from graphopt.fuzz.reduction import write_finding

        finding = Finding(FuzzCase.from_dict(task["case"]), problem_from_dict(task["problem"]))
        reduced = self._reduced(finding, task["oracle"])
        with tempfile.TemporaryDirectory(prefix="graphopt-fuzz-") as folder:
            path = Path(folder) / "finding"
            write_finding(path, reduced, task["oracle"], command=task["command"])
            files = packed(path.iterdir())
        answer = {"case": reduced.case.to_dict(), "reproduced": reduced.reproduced, "calls": reduced.calls}
        self.send({"reduced": {**answer, "files": files}})

    def _reduced(self, finding: Any, oracle: str) -> Any:
        """What the reducer makes of a finding; a case that does not end stays as it is, to save hours."""
        import contextlib

        from graphopt.fuzz.reduction import Reduced, reduce
        from graphopt.fuzz.reduction.isolated import Isolated, needs_isolation

        if not needs_isolation(finding.signature):
            return reduce(finding, self.sources.oracle_named(oracle))
        if finding.signature.kind == "timeout":
            return Reduced(finding, finding.case, 0, ())
        with contextlib.closing(Isolated(settings=self.settings)) as isolated:
            return reduce(finding, isolated, self.settings.crash_calls)

    def _note(self, index: int, stage: str, component: str) -> None:
        self.send({"begin": index, "stage": stage, "component": component})

    def _make(self, chunk: Any, place: int) -> Any:
        case = self.sources.case(chunk, place)
        self.send({"case": case.to_dict()})
        return case


def _limit_memory(gib: float) -> None:
    """Allocations beyond what the libraries take now and ``gib`` fail, before the machine has none left."""
    try:
        import resource
    except ImportError:  # no such limits on this system
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # sizes are not told here, so no limit can be set beyond them
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = taken + int(gib * _GIB)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


if __name__ == "__main__":
    main()
