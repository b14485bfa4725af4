"""How a run is asked to stop: SIGTERM as Ctrl-C, a step that is under way may finish and save first, and compiled code holds nothing up."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

GRACE = 2.0  # seconds in which the main thread, where it runs Python, hears of a signal
ENDING = 10.0  # seconds in which it ends, once it has heard; it may not have, for what a callback of the garbage collector raises is dropped
TOGETHER = 1.0  # seconds within which signals count as one: some senders give one to the process and to its group
NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Terminated(KeyboardInterrupt):
    """The run was asked to end by SIGTERM, as batch systems do before they kill."""


class _Progress:
    """What the thread that watches signals is told by the main one.

    raised: the main thread has heard of the signal, with nothing to save. saves: a step is under way that is to be saved first. noted: it has
    heard of the signal behind such a step, and ends the run once that is saved.
    """

    raised = saves = noted = False


_progress = _Progress()


def ending(asked: KeyboardInterrupt) -> tuple[int, str]:
    """The exit status of a run that was asked to stop, and what it says."""
    status, how = (143, "ended by SIGTERM") if isinstance(asked, Terminated) else (130, "interrupted")
    return status, f"acx_jax: {how}; the same command goes on from here"


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Inside, SIGTERM raises `Terminated` in the main thread, as Ctrl-C does KeyboardInterrupt.

    Compiled code, such as XLA's compiler, lets no exception in: where the main thread does not hear of a signal within GRACE seconds, or does
    not end within ENDING, and has no step to save, the process ends at once with its children. So it does for a second signal. Either is as harmless as a kill.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    _progress.raised = False
    woken = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    try:
        with _handled_by(_hear):
            threading.Thread(target=_watch, args=(receiver,), daemon=True, name="signals").start()
            yield
    finally:
        signal.set_wakeup_fd(woken)
        sender.close()  # which ends the thread


@contextlib.contextmanager
def deferred(processes: int = 1) -> Iterator[Callable[[int], KeyboardInterrupt | None]]:
    """Inside, behind the first step, SIGTERM and Ctrl-C are only noted: the given function, to be called behind each step, returns what to
    raise once all is saved, None before. Until it is called first there is nothing to save, and they raise; what came behind the last step raises
    at the end.

    A second signal, later than TOGETHER, raises at once. Elsewhere than in the main thread, where signals do not arrive, nothing is changed. Of
    several processes that train together all are told to stop behind the same step, whichever of them got SIGTERM.
    """
    if processes > 1:
        yield _told_together()
    elif threading.current_thread() is not threading.main_thread():
        yield lambda step: None
    else:
        with _noted() as asked_to_stop:
            yield asked_to_stop


@contextlib.contextmanager
def _noted() -> Iterator[Callable[[int], KeyboardInterrupt | None]]:
    asked: list[tuple[float, KeyboardInterrupt]] = []

    def note(number: int, frame: FrameType | None) -> None:
        if not _progress.saves:
            _progress.raised = True
            raise _exception(number)
        if not asked:
            _progress.noted = True
            asked.append((time.monotonic(), _exception(number)))
        elif time.monotonic() - asked[0][0] > TOGETHER:
            raise _exception(number)

    def behind(step: int) -> KeyboardInterrupt | None:
        _progress.saves = True
        return asked[0][1] if asked else None

    with _handled_by(note):
        try:
            yield behind
        finally:
            _progress.saves = False
    if asked:  # since the last step was looked behind
        raise asked[0][1]


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Signals go to `handler` inside, but for those that whoever started the process wants ignored."""
    _progress.noted = False
    before = {number: signal.signal(number, handler) for number in NUMBERS if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, other in before.items():
            signal.signal(number, other)


def _hear(number: int, frame: FrameType | None) -> None:
    if not _progress.raised:  # of a second one the watching thread makes an end
        _progress.raised = True
        raise _exception(number)


def _told_together() -> Callable[[int], KeyboardInterrupt | None]:
    from jax.experimental import multihost_utils  # JAX listens for SIGTERM once processes have joined

    return lambda step: Terminated() if multihost_utils.reached_preemption_sync_point(step) else None


def _exception(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def _watch(receiver: socket.socket) -> None:
    """The life of the thread that reads, from `receiver`, the number of each signal as it arrives."""
    first: tuple[float, int] | None = None  # when the first signal came, and which
    with receiver:
        while True:
            silent = not select.select([receiver], [], [], None if first is None or _progress.noted else GRACE)[0]
            if silent and _overdue(time.monotonic() - first[0]):
                _end(first[1])
            received = b"" if silent else receiver.recv(1)
            if not silent and not received:
                return
            if received and received[0] in NUMBERS:
                if first and time.monotonic() - first[0] > TOGETHER:
                    _end(received[0])
                first = first or (time.monotonic(), received[0])


def _overdue(seconds: float) -> bool:
    """Whether the main thread should have ended the run, so long after a signal."""
    if _progress.raised:
        return seconds >= ENDING
    return seconds >= GRACE and not (_progress.noted or _progress.saves)


def _end(number: int) -> None:
    """Ends the process and its children, whatever the main thread is at."""
    status, said = ending(_exception(number))
    try:
        os.write(2, f"{said}\n".encode())
        for child in multiprocessing.active_children():
            child.kill()
    finally:
        os._exit(status)
