"""How a run is asked to stop: SIGTERM as Ctrl-C, and a step that is under way may finish and save first."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The run was asked to end by SIGTERM, as batch systems do before they kill."""


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def listen() -> None:
    """From now on SIGTERM raises `Terminated` in the main thread."""
    signal.signal(signal.SIGTERM, _raise)


@contextlib.contextmanager
def deferred(processes: int = 1) -> Iterator[Callable[[int], KeyboardInterrupt | None]]:
    """Inside, SIGTERM and Ctrl-C are only noted: the given function returns, behind a step, what to raise once all is saved, None before.

    A second signal raises at once. Elsewhere than in the main thread, where signals do not arrive, nothing is changed. Of
    several processes that train together all are told to stop behind the same step, whichever of them got SIGTERM.
    """
    asked: list[KeyboardInterrupt] = []
    if processes > 1:
        yield _told_together()
        return
    if threading.current_thread() is not threading.main_thread():
        yield lambda step: None
        return

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            _raise(number, frame)
        asked.append(Terminated() if number == signal.SIGTERM else KeyboardInterrupt())

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda step: asked[0] if asked else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _told_together() -> Callable[[int], KeyboardInterrupt | None]:
    from jax.experimental import multihost_utils  # JAX listens for SIGTERM once processes have joined

    return lambda step: Terminated() if multihost_utils.reached_preemption_sync_point(step) else None
