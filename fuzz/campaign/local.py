"""Runs the chunks of a campaign on this machine: a thread a worker, and a sandbox a thread."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol, TypeAlias, TypeVar

from graphopt.fuzz.campaign.plan import Chunk
from graphopt.fuzz.campaign.records import ChunkResult
from graphopt.fuzz.campaign.sandbox import ClosedError, Sandbox
from graphopt.fuzz.campaign.settings import Settings

Task = TypeVar("Task")
Result = TypeVar("Result")

Finding: TypeAlias = dict[str, Any]
Reductions: TypeAlias = Generator[tuple[int, dict[str, Any] | None], None, None]
"""Numbers of findings, and what :meth:`Sandbox.reduce` made of them."""


class Executor(Protocol):
    """Where chunks are run.  Results come in any order; closing a generator ends its work."""

    def run(self, chunks: Iterator[Chunk]) -> Generator[ChunkResult, None, None]:
        """Every chunk, taken from the iterator no earlier than there is someone to run it."""
        ...

    def reduce(self, findings: Iterator[Finding], seconds: float) -> Reductions:
        """Findings made smaller, each with its number; see :meth:`Sandbox.reduce`."""
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

    def run(self, chunks: Iterator[Chunk]) -> Generator[ChunkResult, None, None]:
        with contextlib.closing(self._each(chunks, Sandbox.run)) as results:
            for _, result in results:
                yield result

    def reduce(self, findings: Iterator[Finding], seconds: float) -> Reductions:
        return self._each(findings, lambda sandbox, finding: sandbox.reduce(finding, seconds))

    def close(self) -> None:
        for sandbox in self.sandboxes:
            sandbox.release()

    def _each(
        self, tasks: Iterator[Task], work: Callable[[Sandbox, Task], Result]
    ) -> Generator[tuple[int, Result], None, None]:
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
