"""Runs the chunks of a campaign on a Dask cluster.

A chunk is a task.  Each thread of a Dask worker has a sandbox of its own, so that a case that crashes takes
no Dask worker with it; and the tasks of a worker that is lost all the same are run again by others.  Since a
chunk's result depends on the settings and on nothing else, the campaign finds what it finds locally.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

from graphopt.errors import TargetError, UsageError
from graphopt.fuzz.campaign.plan import Chunk
from graphopt.fuzz.campaign.records import ChunkResult
from graphopt.fuzz.campaign.sandbox import Sandbox
from graphopt.fuzz.campaign.settings import Settings

_CODE = "GO-6003"
_CONNECT_SECONDS = 15.0
_WORKERS_SECONDS = 120.0
_AHEAD = 2
"""Tasks handed out for each thread of the cluster: the next one is there when one is done."""

_LOST = 20
"""How often a task may lose its worker before it is taken to be the task's fault."""


class ClusterExecutor:
    """The workers of a Dask cluster.

    Args:
        settings: of the campaign.
        scheduler: an address (``tcp://host:8786``), or ``local:N`` for ``N`` workers on this machine.

    Raises:
        UsageError: ``local:N`` has no number.
        TargetError: GO-6003, Dask is not installed, nobody answers at the address, or the workers have
            another version of graphopt.
    """

    def __init__(self, settings: Settings, scheduler: str) -> None:
        self.settings = settings
        self._stack = contextlib.ExitStack()
        try:
            import distributed
        except ImportError as error:
            raise TargetError(
                f"dask.distributed is not installed: {error}",
                code=_CODE,
                hint="pip install 'graphopt[dask]'",
            ) from error
        self._errors = (distributed.KilledWorker, distributed.comm.CommClosedError, OSError, TimeoutError)
        try:
            address = self._local(distributed, scheduler) if scheduler.startswith("local:") else scheduler
            self.client = self._stack.enter_context(
                distributed.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
            )
            self.client.wait_for_workers(1, timeout=_WORKERS_SECONDS)
            self._check_versions()
        except (OSError, ValueError, TimeoutError) as error:
            self.close()
            raise TargetError(
                f"no Dask cluster answers at {scheduler!r}: {error or type(error).__name__}", code=_CODE
            ) from error
        except BaseException:
            self.close()
            raise

    def run(self, chunks: Iterator[Chunk]) -> Iterator[ChunkResult]:
        tasks = (chunk.to_dict() for chunk in chunks)
        for _, result in self._each(tasks, run_chunk):
            yield ChunkResult.from_dict(result)

    def reduce(self, findings: Iterator[dict[str, Any]], seconds: float) -> Iterator[dict[str, Any] | None]:
        found = dict(self._each(({"finding": f, "seconds": seconds} for f in findings), reduce_finding))
        for _, result in sorted(found.items()):
            yield result

    def close(self) -> None:
        """Leaves the cluster, and ends one that was started here."""
        self._stack.close()

    def _each(
        self, tasks: Iterator[dict[str, Any]], work: Callable[..., Any]
    ) -> Iterator[tuple[int, Any]]:
        """Results with the numbers of their tasks, as they come."""
        from distributed import as_completed

        numbers = count()
        settings = self.settings.to_dict()
        futures: dict[Any, int] = {}

        def submit(task: dict[str, Any]) -> Any:
            future = self.client.submit(work, settings, task, pure=False, retries=0)
            futures[future] = next(numbers)
            return future

        try:
            first = [submit(task) for task in islice(tasks, _AHEAD * self._threads())]
            completed = as_completed(first)
            for future in completed:
                result = future.result()
                number = futures.pop(future)
                for task in islice(tasks, 1):
                    completed.add(submit(task))
                yield number, result
        except self._errors as error:
            raise TargetError(f"the Dask cluster lost its workers: {error}", code=_CODE) from error
        finally:
            if futures:  # an error, an interrupt, or nobody wants more
                with contextlib.suppress(Exception):
                    self.client.cancel(list(futures))
