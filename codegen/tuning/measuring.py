"""The measuring process, seen from the tuner: restarted when it crashes or takes too long."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
from typing import Any

import tvm

from graphopt.codegen.targets import Target
from graphopt.codegen.tuning.database import FAILED, as_line
from graphopt.codegen.tuning.kernel import Kernel

OPEN_SECONDS, TRY_SECONDS = 180.0, 60.0
MODULE = "graphopt.codegen.tuning.worker"


class Measuring:
    """Builds and measures schedules of one kernel at a time, in a process of its own.

    Args:
        target: must run here.
        module: what the process runs (tests put another one in its place).
    """

    def __init__(self, target: Target, module: str = MODULE) -> None:
        self.target = target
        self.module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Any = None
        self._open: str | None = None

    def __enter__(self) -> Measuring:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def default(self, kernel: Kernel, rounds: int) -> dict[str, Any]:
        """``{"microseconds": ...}`` of the kernel's default schedule, or ``{"status": "failed", ...}``."""
        self._open = None
        func = tvm.ir.save_json(tvm.IRModule({"main": kernel.function}))
        request = {"do": "open", "function": func, "target": self.target.to_dict(), "rounds": rounds}
        answer = self._ask(request, OPEN_SECONDS)
        if "microseconds" in answer:
            self._open = kernel.key
        return answer

    def attempt(self, kernel: Kernel, decisions: dict[str, int], rounds: int) -> dict[str, Any]:
        """What the worker says of a candidate: its ``status``, and times or a reason."""
        if self._open != kernel.key:
            answer = self.default(kernel, 1)
            if "microseconds" not in answer:
                return answer
        return self._ask({"do": "try", "decisions": decisions, "rounds": rounds}, TRY_SECONDS)

    def close(self) -> None:
        """Ends the process."""
        self._open = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._log.close()
        self._process = None

    def _ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return self._died("the measuring process crashed")
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                return self._died(f"it took longer than {seconds:.0f} s")
        line = process.stdout.readline()
        if not line:
            return self._died("the measuring process crashed")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _died(self, reason: str) -> dict[str, Any]:
        assert self._process is not None
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
        self.close()
        return {"status": FAILED, "reason": as_line(": ".join([reason, *said]))}

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "TVM_NUM_THREADS": str(self.target.cores)}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            start_new_session=True,  # Ctrl-C is for us, who then end it
        )
        return self._process
