"""Work in processes of its own, watched: one that dies or hangs costs its item, not the run."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from acx_jax.errors import WorkError

BEAT = 1.0  # seconds between two signs of life, at least
START = 60.0  # seconds that a process may take to start and to import what it works with, before patience counts
Beat = Callable[[], None]


class Died(NamedTuple):
    """In place of a result: the process ended, or (silent) gave no sign of life for too long."""

    reason: str
    silent: bool = False


class _Failed(NamedTuple):
    """An exception that `work` raises in its caller."""

    error: Exception


class _Worker:
    """A process and what it is at."""

    def __init__(self, context: Any, function: Callable):
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(function, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.index, self.last, self.started = -1, time.monotonic(), False

    def give(self, index: int, item: Any) -> None:
        """Starts it on an item."""
        self.index, self.last = index, time.monotonic() + (0 if self.started else START)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has died meanwhile, which `_heard` finds out
            self.pipe.send(item)

    def end(self) -> None:
        """Kills the process."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work(function: Callable[[Any, Beat], Any], items: Sequence[Any], *, workers: int, patience: float,
         preload: Sequence[str] = ()) -> Iterator[tuple[int, Any]]:
    """Yields (index, function(item, beat)) of every item, as they are done, or (index, Died) where the process did not live to give one.

    `function` calls `beat()` as often as it likes while it gets on; after `patience` seconds without one its process is killed.
    function and items must be picklable; preload: modules that are imported once for all processes. Raises what `function` raises, WorkError where a
    process did not start. When the caller stops, so do the processes.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    waiting = list(reversed(list(enumerate(items))))
    busy: list[_Worker] = []
    idle = [_Worker(context, function) for _ in range(min(workers, len(items)))]
    done: list[tuple[int, Any]] = []
    try:
        while waiting or busy or done:
            while waiting and idle:
                busy.append(idle.pop())
                busy[-1].give(*waiting.pop())
            yield from done  # after the giving, so that no process waits for what the caller does with it
            done = []
            for worker, result in _heard(busy, patience) if busy else ():
                busy.remove(worker)
                done.append((worker.index, result))
                if isinstance(result, Died):
                    worker.end()
                    idle += [_Worker(context, function)] if waiting else []
                else:
                    idle.append(worker)
    finally:
        for worker in busy + idle:
            worker.end()


def _heard(busy: list[_Worker], patience: float) -> list[tuple[_Worker, Any]]:
    """What has come of the work since, after a second at most. Raises what a worker raised."""
    wait([worker.pipe for worker in busy], timeout=BEAT)
    now, found = time.monotonic(), []
    for worker in busy:
        result = _message(worker)
        if isinstance(result, Died) and not worker.started:
            raise WorkError(f"a process that reads videos did not start: {result.reason}; see what it said above, or lower --config.data.workers")
        if result is not None:
            worker.last, worker.started = now, True
        if isinstance(result, _Failed):
            raise result.error
        if result is None and now - worker.last > patience:
            result = Died(f"nothing came of it for {patience:g} seconds, and it was given up", silent=True)
        if isinstance(result, (Died, tuple)) and result:
            found.append((worker, result if isinstance(result, Died) else result[0]))
    return found


def _message(worker: _Worker) -> Any:
    """The next message of a worker: None where there is none, () for a sign of life, (result,), _Failed or Died."""
    try:
        return worker.pipe.recv() if worker.pipe.poll() else None
    except (EOFError, OSError):
        worker.process.join()
        code = worker.process.exitcode or 0
        return Died(f"its process was ended by {signal.Signals(-code).name}" if code < 0 else f"its process ended with status {code}")


def _serve(function: Callable[[Any, Beat], Any], pipe: Connection) -> None:
    """The life of a worker: until its caller closes the pipe, or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the caller too, who then ends the workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    said = time.monotonic()

    def beat() -> None:
        nonlocal said
        if time.monotonic() - said >= BEAT:
            said = time.monotonic()
            pipe.send(())

    try:
        pipe.send(())  # it has started
        while True:
            item = pipe.recv()
            try:
                pipe.send((function(item, beat),))
            except (EOFError, BrokenPipeError):
                return
            except Exception as error:
                pipe.send(_Failed(_portable(error)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _portable(error: Exception) -> Exception:
    """The error with its traceback as a note; another one where it cannot be pickled."""
    error.add_note(traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
