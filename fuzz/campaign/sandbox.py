"""A worker process seen from outside: chunks go in, results come out, and crashes become findings."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO, Any

from graphopt.errors import InternalError
from graphopt.fuzz.campaign.plan import Chunk
from graphopt.fuzz.campaign.records import CaseRecord, ChunkResult, Status
from graphopt.fuzz.campaign.settings import Settings
from graphopt.fuzz.campaign.worker import TOGETHER
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.coverage import Behaviour
from graphopt.fuzz.findings import Problem, Signature

_START_SECONDS = 600.0
"""For a worker to import its libraries; a busy machine takes its time."""

_ABORT_SECONDS = 5.0
"""For a worker to write its stack, once it is told to."""

_LOG_TAIL = 4000
"""Bytes of a dead worker's log that its finding keeps."""


class ClosedError(Exception):
    """The sandbox was closed while it worked: the campaign was interrupted."""


class _GoneError(Exception):
    """The worker ended, or was ended.

    Args:
        status: ``crash`` or ``timeout``.
        words: how, for people: ``SIGSEGV``, ``exit status 1``.
    """

    def __init__(self, status: Status, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


class Sandbox:
    """One worker process at a time, replaced when it dies, hangs, or has seen enough cases.

    It belongs to one thread; only :meth:`close` may be called from another one.

    Args:
        settings: of the campaign.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: IO[str] | None = None
        self._answers = -1
        self._buffer = b""
        self._log: IO[bytes] | None = None
        self._cases = 0
        self._closed = False

    # -- what it is for --------------------------------------------------------------------------

    def run(self, chunk: Chunk) -> ChunkResult:
        """Every case of the chunk, whatever the cases do to the worker.

        Raises:
            ClosedError: :meth:`close` was called meanwhile.
            InternalError: workers do not start here.
        """
        records: dict[int, CaseRecord] = {}
        behaviour = Behaviour()
        alone = False
        while len(records) < len(chunk.indices):
            self._ensure_worker()
            current: dict[str, Any] = {}
            try:
                self._tell({"chunk": chunk.to_dict(), "skip": sorted(records), "alone": alone})
                self._listen(records, behaviour, current)
            except _GoneError as gone:
                left = [i for i in chunk.indices if i not in records]
                index = current.get("begin", left[0] if left else TOGETHER)
                if index == TOGETHER:  # nobody's fault in particular, or after the last case
                    alone = True
                else:
                    records[index] = self._casualty(chunk, index, current, gone)
                self._discard()
        self._cases += len(chunk.indices)
        return ChunkResult(chunk, tuple(records[i] for i in chunk.indices), behaviour)

    def reduce(self, finding: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        """A finding made smaller, in the worker's words; None when that took too long or crashed."""
        self._ensure_worker()
        try:
            self._tell({"reduce": finding})
            return self._receive(time.monotonic() + seconds).get("reduced")
        except _GoneError:
            self._discard()
            return None

    def close(self) -> None:
        """Ends the worker; whoever waits for it gets :class:`ClosedError`."""
        self._closed = True
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    def release(self) -> None:
        """Ends the worker and gives back what it held; by the thread that used it."""
        self.close()
        self._discard()

    # -- one conversation ------------------------------------------------------------------------

    def _listen(self, records: dict[int, CaseRecord], behaviour: Behaviour, current: dict[str, Any]) -> None:
        """Takes down what the worker says, to the end of its chunk; ``current`` is what it is at."""
        deadline = time.monotonic() + self.settings.timeout
        while True:
            message = self._receive(deadline)
            if "done" in message:
                return
            if "record" in message:
                record = CaseRecord.from_dict(message["record"])
                records[record.index] = record
                behaviour.merge(Behaviour.from_dict(message["behaviour"]))
                current.clear()
                deadline = time.monotonic() + self.settings.timeout
                continue
            if message.get("begin", current.get("begin")) != current.get("begin"):
                # Several cases together may take as long as one that is suspicious, tried again.
                deadline = time.monotonic() + self.settings.timeout
                current.clear()
            current.update(message)

    def _casualty(self, chunk: Chunk, index: int, current: dict[str, Any], gone: _GoneError) -> CaseRecord:
        """The record of a case that took its worker with it."""
        stage = current.get("stage", "generate")
        log = self._log_tail()
        # Where a process hangs differs from run to run; where it crashes does not.
        where = _innermost(log) if gone.status == "crash" else ""
        detail = f"{gone.words} in {where}" if where else gone.words if gone.status == "crash" else ""
        signature = Signature(current.get("component", "fuzzer"), stage, gone.status, detail)
        message = f"the worker ended ({gone.words}) in stage {stage!r}"
        label = chunk.label(chunk.indices.index(index), self.settings.seed)
        case = FuzzCase.from_dict(current["case"]) if "case" in current else None
        problem = Problem(signature, message, {"stage": stage, "stack": _stack(log)})
        return CaseRecord(chunk.stream, index, label, gone.status, {}, (problem,), (stage,), case)

    def _tell(self, message: dict[str, Any]) -> None:
        assert self._requests is not None
        try:
            self._requests.write(json.dumps(message) + "\n")
            self._requests.flush()
        except BrokenPipeError:
            raise self._gone() from None

    def _receive(self, deadline: float) -> dict[str, Any]:
        """The worker's next message."""
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                self._abort()
                if self._closed:
                    raise ClosedError
                raise _GoneError("timeout", f"more than {self.settings.timeout:g} s")
            data = os.read(self._answers, 1 << 16)
            if not data:
                raise self._gone()
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    # -- the process -----------------------------------------------------------------------------

    def _ensure_worker(self) -> None:
        if self._closed:
            raise ClosedError
        if self._process is not None and self._cases >= self.settings.recycle:
            self._discard()
        if self._process is None:
            self._start()

    def _start(self) -> None:
        their_requests, our_requests = os.pipe()
        our_answers, their_answers = os.pipe()
        self._log = tempfile.TemporaryFile()
        module = "graphopt.fuzz.campaign.worker"
        # In a session of its own: an interrupt at the terminal is for us, who then ends it.
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, str(their_requests), str(their_answers)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=(their_requests, their_answers),
            start_new_session=True,
            env=_environment(),
        )
        os.close(their_requests)
        os.close(their_answers)
        self._requests = os.fdopen(our_requests, "w", encoding="utf-8")
        self._answers, self._buffer, self._cases = our_answers, b"", 0
        try:
            self._tell({"settings": self.settings.to_dict()})
            self._receive(time.monotonic() + _START_SECONDS)
        except _GoneError as gone:
            tail = self._log_tail().strip().splitlines()
            self._discard()
            raise InternalError(
                f"a worker of the fuzzer did not start ({gone.words}): {tail[-1] if tail else 'no output'}"
            ) from None

    def _gone(self) -> Exception:
        """What to raise when the worker's pipe is closed."""
        if self._closed:
            return ClosedError()
        assert self._process is not None
        try:
            status = self._process.wait(_ABORT_SECONDS)
        except subprocess.TimeoutExpired:  # it closed its pipe and goes on
            self._process.kill()
            status = self._process.wait()
        words = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return _GoneError("crash", words)

    def _abort(self) -> None:
        """Ends a worker that hangs; its handler of SIGABRT writes Python's stack to the log first."""
        assert self._process is not None
        self._process.send_signal(signal.SIGABRT)
        try:
            self._process.wait(_ABORT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _discard(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._requests is not None:
            with contextlib.suppress(BrokenPipeError):
                self._requests.close()
            self._requests = None
        if self._answers >= 0:
            os.close(self._answers)
            self._answers = -1
        if self._log is not None:
            self._log.close()
            self._log = None

    def _log_tail(self) -> str:
        assert self._log is not None
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_TAIL))
        return self._log.read().decode("utf-8", "replace")


def _environment() -> dict[str, str]:
    """Ours, with one thread a worker, and what this process can import."""
    path = os.pathsep.join(p for p in sys.path if p)
    threads = {"OMP_NUM_THREADS": "1", "TVM_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return os.environ | threads | {"PYTHONPATH": path, "PYTHONHASHSEED": "0"}


def _stack(log: str) -> list[str]:
    """Python's stack as faulthandler wrote it, without what differs from run to run."""
    _, _, stack = log.rpartition("(most recent call first)")
    found = re.findall(r'File "([^"]+)", line (\d+) in (\S+)', stack)
    return [f"{os.path.basename(file)}:{line} {function}" for file, line, function in found]


def _innermost(log: str) -> str:
    """The innermost function of graphopt on the stack that faulthandler wrote, else the innermost at all."""
    _, _, stack = log.rpartition("(most recent call first)")
    frames = re.findall(r'File "([^"]+)", line \d+ in (\S+)', stack)
    if not frames:
        return ""
    file, function = next((f for f in frames if "graphopt" in f[0]), frames[0])
    return f"{os.path.splitext(os.path.basename(file))[0]}.{function}"
