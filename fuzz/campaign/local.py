"""Runs the chunks of a campaign on this machine: a thread a worker, and a sandbox a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from graphopt.fuzz.campaign.plan import Chunk
from graphopt.fuzz.campaign.records import ChunkResult
from graphopt.fuzz.campaign.sandbox import ClosedError, Sandbox
from graphopt.fuzz.campaign.settings import Settings

Task = TypeVar("Task")
Result = TypeVar("Result")


class Executor(Protocol):
    """Where chunks are run.  Results come in any order; closing the iterator ends the work."""

    def run(self, chunks: Iterator[Chunk]) -> Iterator[ChunkResult]:
        """Every chunk, taken from the iterator no earlier than there is someone to run it."""
        ...

    def reduce(self, findings: Iterator[dict[str, Any]], seconds: float) -> Iterator[dict[str, Any] | None]:
        """Findings made smaller; see :meth:`Sandbox.reduce`.  Results are in the findings' order."""
        ...

    def close(self) -> None:
        """Ends all work."""
        ...


class LocalExecutor:
    """Workers of this machine.

    Args:
        settings: of the campaign.
        jobs: how many workers.
    """

    def __init__(self, settings: Settings, jobs: int) -> None:
        self.sandboxes = [Sandbox(settings) for _ in range(jobs)]

    def run(self, chunks: Iterator[Chunk]) -> Iterator[ChunkResult]:
        for _, result in self._each(chunks, Sandbox.run):
            yield result

    def reduce(self, findings: Iterator[dict[str, Any]], seconds: float) -> Iterator[dict[str, Any] | None]:
        found = dict(self._each(findings, lambda sandbox, finding: sandbox.reduce(finding, seconds)))
        for _, result in sorted(found.items()):
            yield result

    def close(self) -> None:
        for sandbox in self.sandboxes:
            sandbox.release()

    def _each(
        self, tasks: Iterator[Task], work: Callable[[Sandbox, Task], Result]
    ) -> Iterator[tuple[int, Result]]:
        """Results with the numbers of their tasks, as they come."""
        results: queue.Queue[tuple[int, Result] | BaseException | None] = queue.Queue()
        lock = threading.Lock()
        numbered = enumerate(tasks)

        def serve(sandbox: Sandbox) -> None:
            try:
                while True:
                    with lock:
                        number, task = next(numbered, (-1, None))
                    if task is None:
                        break
                    results.put((number, work(sandbox, task)))
                results.put(None)
            except ClosedError:
                results.put(None)
            except BaseException as error:  # the campaign's thread raises it
                results.put(error)

        threads = [threading.Thread(target=serve, args=(s,), daemon=True) for s in self.sandboxes]
        for thread in threads:
            thread.start()
        waiting = len(threads)
        try:
            while waiting:
                result = results.get()
                if isinstance(result, BaseException):
                    raise result
                if result is None:
                    waiting -= 1
                else:
                    yield result
        finally:
            if waiting:  # an error, an interrupt, or nobody wants more
                for sandbox in self.sandboxes:
                    sandbox.close()
            for thread in threads:
                thread.join()
