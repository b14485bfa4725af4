"""How fast a training loop goes, and how much of its time it waits for data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Read(NamedTuple):
    """steps: since the last reading. seconds: it took. waited: of these, at most so many the devices had no work for want of data."""

    steps: int
    seconds: float
    waited: float


class Pace:
    """A clock of steps; it runs from `start` on, and counts from the last `read`."""

    def __init__(self, busy: Callable[[], bool], clock: Callable[[], float] = time.perf_counter):
        self._busy, self._clock = busy, clock
        self._began: float | None = None
        self._waited = 0.0

    def batches(self, feed: Iterator[Any]) -> Iterator[Any]:
        """What `feed` gives; the time until it comes counts as waiting unless `busy()` says that the devices work still."""
        feed = iter(feed)
        while True:
            asked = self._clock()
            try:
                batch = next(feed)
            except StopIteration:
                return
            if self._began is not None and not self._busy():
                self._waited += self._clock() - asked
            yield batch

    def start(self) -> None:
        """Starts counting, from nothing; again after what is not to be counted."""
        self._began, self._waited = self._clock(), 0.0

    def seconds(self) -> float | None:
        """Since the last reading; None before `start`."""
        return None if self._began is None else self._clock() - self._began

    def read(self, steps: int) -> Read | None:
        """`steps` done since the last reading and the time since; None before `start`, or where nothing was done."""
        if self._began is None or steps < 1:
            return None
        result = Read(steps, self._clock() - self._began, self._waited)
        self.start()
        return result
