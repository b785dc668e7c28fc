"""Runs the chunks of a campaign on a Dask cluster.

A chunk is a task.  Each thread of a Dask worker has a sandbox of its own, so that a case that crashes takes
no Dask worker with it; and the tasks of a worker that is lost all the same are run again by others.  Since a
chunk's result depends on the settings and on nothing else, the campaign finds what it finds locally.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from typing import Any

from graphopt.errors import TargetError, UsageError
from graphopt.fuzz.campaign.local import Finding, Reductions
from graphopt.fuzz.campaign.plan import Chunk
from graphopt.fuzz.campaign.records import ChunkResult
from graphopt.fuzz.campaign.sandbox import Sandbox
from graphopt.fuzz.campaign.settings import Settings

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
        self._client: Any = None
        try:
            import distributed
        except ImportError as error:
            message = f"dask.distributed is not installed: {error}"
            raise _unavailable(message, "pip install 'graphopt[dask]'") from error
        try:
            address = self._local(distributed, scheduler) if scheduler.startswith("local:") else scheduler
            self._client = self._stack.enter_context(
                distributed.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
            )
            self.client.wait_for_workers(1, timeout=_WORKERS_SECONDS)
            self._check_versions()
        except (OSError, ValueError, TimeoutError) as error:
            self.close()
            why = str(error) or type(error).__name__
            raise _unavailable(f"no Dask cluster answers at {scheduler!r}: {why}") from error
        except BaseException:
            self.close()
            raise

    @property
    def client(self) -> Any:
        """The connection to the scheduler."""
        if self._client is None:
            raise _unavailable("the campaign has left its Dask cluster")
        return self._client

    def run(self, chunks: Iterator[Chunk]) -> Generator[ChunkResult, None, None]:
        tasks = (chunk.to_dict() for chunk in chunks)
        with contextlib.closing(self._each(tasks, run_chunk)) as results:
            for _, result in results:
                yield ChunkResult.from_dict(result)

    def reduce(self, findings: Iterator[Finding], seconds: float) -> Reductions:
        return self._each(({"finding": f, "seconds": seconds} for f in findings), reduce_finding)

    def close(self) -> None:
        """Leaves the cluster, and ends one that was started here."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(OSError, TimeoutError):  # it may be gone already
                client.run(_release_sandboxes)
        self._stack.close()

    def _each(
        self, tasks: Iterator[dict[str, Any]], work: Callable[..., Any]
    ) -> Generator[tuple[int, Any], None, None]:
        """Results with the numbers of their tasks, as they come."""
        from distributed import KilledWorker, as_completed

        settings = self.settings.to_dict()
        numbered = enumerate(tasks)
        running: dict[Any, tuple[int, dict[str, Any]]] = {}
        losses: Counter[int] = Counter()

        def submit(number: int, task: dict[str, Any]) -> Any:
            future = self.client.submit(work, settings, task, pure=False)
            running[future] = (number, task)
            return future

        try:
            first = [submit(*each) for each in islice(numbered, self._ahead())]
            completed = as_completed(first, loop=self.client.loop)
            for future in completed:
                number, task = running.pop(future)
                try:
                    result = future.result()
                except KilledWorker:  # Dask gives a task up after it lost a few workers
                    losses[number] += 1
                    if losses[number] > _LOST:
                        raise
                    completed.add(submit(number, task))
                    continue
                for following in islice(numbered, 1):
                    completed.add(submit(*following))
                yield number, result
        except (OSError, TimeoutError, KilledWorker) as error:
            raise _unavailable(f"the Dask cluster lost its workers: {error}") from error
        finally:
            if running:  # an error, an interrupt, or nobody wants more
                with contextlib.suppress(OSError, TimeoutError):
                    self.client.cancel(list(running))

    def _ahead(self) -> int:
        """How many tasks are handed out at a time."""
        return _AHEAD * max(1, sum(self.client.nthreads().values()))

    def _local(self, distributed: Any, scheduler: str) -> Any:
        """A cluster on this machine, which ends with the executor."""
        number = scheduler.removeprefix("local:")
        if not number.isdigit() or int(number) < 1:
            raise UsageError(f"--scheduler {scheduler}: local:N needs a number of workers")
        return self._stack.enter_context(
            distributed.LocalCluster(
                n_workers=int(number), threads_per_worker=1, dashboard_address=None, silence_logs=50
            )
        )

    def _check_versions(self) -> None:
        """Workers with another graphopt would find something else."""
        ours = _version()
        for worker, theirs in self.client.run(_version).items():
            if theirs != ours:
                raise _unavailable(f"the Dask worker at {worker} has {theirs}, and this is {ours}")


def _unavailable(message: str, hint: str | None = None) -> TargetError:
    return TargetError(message, code="GO-6003", hint=hint)


def run_chunk(settings: dict[str, Any], chunk: dict[str, Any]) -> dict[str, Any]:
    """On a Dask worker: the result of a chunk; all in words that JSON has."""
    return _sandbox(settings).run(Chunk.from_dict(chunk)).to_dict()


def reduce_finding(settings: dict[str, Any], task: dict[str, Any]) -> dict[str, Any] | None:
    """On a Dask worker: a finding made small."""
    return _sandbox(settings).reduce(task["finding"], task["seconds"])


_sandboxes: dict[int, Sandbox] = {}
"""On a Dask worker: one a thread."""


def _sandbox(settings: dict[str, Any]) -> Sandbox:
    """The sandbox of this thread of a Dask worker."""
    wanted = Settings.from_dict(settings)
    thread = threading.get_ident()
    found = _sandboxes.get(thread)
    if found is not None and found.settings == wanted:
        return found
    if found is not None:  # of an earlier campaign
        found.release()
    _sandboxes[thread] = Sandbox(wanted)
    return _sandboxes[thread]


def _release_sandboxes() -> None:
    """On a Dask worker: ends the processes of a campaign that is over."""
    for thread in list(_sandboxes):
        _sandboxes.pop(thread).close()


def _version() -> str:
    from importlib.metadata import version

    return f"graphopt {version('graphopt')} with torch {version('torch')}"
