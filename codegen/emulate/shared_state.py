"""Who touched which part of shared memory since the last barrier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
_NOBODY = -1
_FAR = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Touch:
    """An access in the program.

    Attributes:
        buffer: the name of the buffer.
        verb: ``"writes"``, ``"reads"`` or ``"copies to"``.
        text: the access as TVM prints it.
    """

    buffer: str
    verb: str
    text: str


@dataclass(frozen=True)
class Race:
    """Two accesses to one place that nothing orders.

    Attributes:
        kernel: name of the launch.
        first, second: the accesses, in program order.
        actors: who makes them, in words.
        reason: what is missing.
    """

    kernel: str
    first: Touch
    second: Touch
    actors: tuple[str, str]
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.second.buffer}: {self.actors[0]} {self.first.verb} what {self.actors[1]} "
            f"{self.second.verb} ({self.reason}): {self.first.text} / {self.second.text}"
        )


class SharedState:
    """Accesses to one allocation of shared memory since the last barrier.

    Threads are numbers; the warps that carry out collective operations are the numbers after those.
    A part has one writer, or the first and the last of several in order of their numbers, and likewise
    readers: two accesses conflict if they are not all by one.

    Args:
        units: parts of the allocation, of as many bytes as its smallest element.
        threads: of the block.
    """

    def __init__(self, kernel: str, units: int, threads: int) -> None:
        self._kernel = kernel
        self._threads = threads
        self.units = units
        self.touches: list[Touch] = []
        self._under_way = np.full(units, _NOBODY, np.int64)
        self._copy_site = np.zeros(units, np.int64)
        self._last_view = np.full(units, _NOBODY, np.int64)
        self.barrier()

    def barrier(self) -> None:
        """All threads have met: what they did before is done.  Copies that are under way are not."""
        self._first = {w: np.full(self.units, _FAR, np.int64) for w in (True, False)}
        self._last = {w: np.full(self.units, _NOBODY, np.int64) for w in (True, False)}
        self._site = {w: np.zeros(self.units, np.int64) for w in (True, False)}

    def access(self, touch: Touch, units: Ints, actors: Ints, *, write: bool, view: int = 0) -> list[Race]:
        """Records an access.

        Args:
            units, actors: which parts, and by whom; of equal length.
            view: number of the buffer, of those that share the allocation, through which it is made.

        Returns:
            the conflicts with earlier accesses and among its own, at most one of a kind.
        """
        site = len(self.touches)
        self.touches.append(touch)
        if not len(units):
            return []
        first, last = np.full(self.units, _FAR, np.int64), np.full(self.units, _NOBODY, np.int64)
        np.minimum.at(first, units, actors)
        np.maximum.at(last, units, actors)
        touched = last > _NOBODY
        races = self._unfinished(touch, touched, last)
        if write:
            races += self._conflicts(touch, touched & (first != last), first, last, touch)
        for earlier in (True, False) if write else (True,):
            other_first, other_last = self._first[earlier], self._last[earlier]
            lone = (other_first == other_last) & (first == last) & (first == other_first)
            races += self._conflicts(
                touch, touched & (other_last > _NOBODY) & ~lone, other_first, last, None, self._site[earlier]
            )
        if write:
            self._last_view[touched] = view
        else:
            races += self._overwritten(
                touch, touched & (self._last_view != _NOBODY) & (self._last_view != view)
            )
        self._first[write] = np.minimum(self._first[write], first)
        self._last[write] = np.maximum(self._last[write], last)
        self._site[write][touched] = site
        return races

    def start_copy(self, touch: Touch, units: Ints, threads: Ints, view: int = 0) -> list[Race]:
        """Records an asynchronous copy at its issue."""
        races = self.access(touch, units, threads, write=True, view=view)
        self._under_way[units] = threads
        self._copy_site[units] = len(self.touches) - 1
        return races

    def finish_copy(self, units: Ints, threads: Ints) -> None:
        """The threads have waited for their copies: they count as writes made now."""
        self._under_way[units] = _NOBODY
        np.minimum.at(self._first[True], units, threads)
        np.maximum.at(self._last[True], units, threads)
        self._site[True][units] = self._copy_site[units]

    def _conflicts(
        self,
        touch: Touch,
        where: NDArray[np.bool_],
        one: Ints,
        other: Ints,
        before: Touch | None,
        sites: Ints | None = None,
    ) -> list[Race]:
        if not where.any():
            return []
        unit = int(np.argmax(where))
        first = before or self.touches[int(sites[unit])]  # type: ignore[index]
        a, b = int(one[unit]), int(other[unit])
        if a == b and sites is not None:
            a = int(self._last[first.verb != "reads"][unit])
        return [Race(self._kernel, first, touch, (self._who(a), self._who(b)), "no barrier in between")]

    def _unfinished(self, touch: Touch, touched: NDArray[np.bool_], actors: Ints) -> list[Race]:
        where = touched & (self._under_way != _NOBODY)
        if not where.any():
            return []
        unit = int(np.argmax(where))
        copy = self.touches[int(self._copy_site[unit])]
        who = self._who(int(self._under_way[unit])), self._who(int(actors[unit]))
        return [Race(self._kernel, copy, touch, who, "the copy was not waited for")]

    def _overwritten(self, touch: Touch, where: NDArray[np.bool_]) -> list[Race]:
        if not where.any():
            return []
        written = self.touches[int(self._site[True][int(np.argmax(where))])]
        return [
            Race(self._kernel, written, touch, ("a thread", "another"), "as another buffer in the same place")
        ]

    def _who(self, actor: int) -> str:
        return f"thread {actor}" if actor < self._threads else f"warp {actor - self._threads}"
