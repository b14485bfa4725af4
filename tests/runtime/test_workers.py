"""Processes that are watched: what they give, and what is left of one that dies, hangs or fails."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from acx_jax.errors import WorkError
from acx_jax.runtime import workers
from acx_jax.runtime.workers import Died, work


def task(item, beat):
    """What to do is said by the item."""
    what, number = item
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "leave":
        os._exit(3)
    if what == "hang":
        time.sleep(60)
    if what == "touch":
        Path(number).touch()
    if what == "fail":
        raise WorkError(f"number {number}")
    if what == "slow":
        for _ in range(24):
            time.sleep(0.1)
            beat()
    return number, os.getpid()


def done(items, workers=2, patience=30.0) -> dict:
    return dict(work(task, items, workers=workers, patience=patience))


def test_every_item_gives_its_result_from_as_many_processes():
    results = done([("square", i) for i in range(20)])
    assert [results[i][0] for i in range(20)] == list(range(20))
    assert len({pid for _, pid in results.values()} - {os.getpid()}) in (1, 2) and os.getpid() not in {pid for _, pid in results.values()}
    assert done([]) == {}


def test_one_that_dies_costs_its_item_alone():
    results = done([("x", 0), ("die", 1), ("leave", 2), ("x", 3), ("die", 4)], workers=1)
    assert [results[i][0] for i in (0, 3)] == [0, 3]
    assert [results[i] for i in (1, 2, 4)] == [Died("its process was ended by SIGKILL"), Died("its process ended with status 3"),
                                               Died("its process was ended by SIGKILL")]


class Unstartable:
    """A function that ends the process that is to have it."""

    def __reduce__(self):
        return os._exit, (7,)


def test_a_process_that_cannot_start_is_no_fault_of_its_item():
    with pytest.raises(WorkError, match="did not start: its process ended with status 7; .*--config.data.workers"):
        dict(work(Unstartable(), [1, 2], workers=1, patience=30.0))


def test_one_that_died_before_it_was_given_an_item_is_told_of_and_costs_that():
    context = multiprocessing.get_context("forkserver")
    worker = workers._Worker(context, task)
    assert worker.pipe.poll(60) and worker.pipe.recv() == ()
    worker.started = True
    worker.process.kill()
    worker.process.join()
    worker.give(0, ("x", 0))
    assert workers._heard([worker], 30.0) == [(worker, Died("its process was ended by SIGKILL"))]
    worker.end()


def test_one_that_hangs_is_given_up_and_one_that_is_slow_is_not():
    began = time.monotonic()
    results = done([("hang", 0), ("slow", 1), ("x", 2)], patience=1.5)
    assert results[0] == Died("nothing came of it for 1.5 seconds, and it was given up", silent=True) and results[1][0] == 1 and results[2][0] == 2
    assert time.monotonic() - began < 20


def test_a_process_is_at_its_next_item_while_the_caller_is_busy_with_what_it_gave(tmp_path):
    results = work(task, [("x", 0), ("touch", str(tmp_path / "next"))], workers=1, patience=30.0)
    next(results)
    ends = time.monotonic() + 20
    while not (tmp_path / "next").exists():
        assert time.monotonic() < ends
        time.sleep(0.01)
    assert [index for index, _ in results] == [1]


def test_what_a_worker_raises_is_raised_and_ends_the_others():
    began = time.monotonic()
    with pytest.raises(WorkError, match="number 5"):
        done([("hang", 0), ("fail", 5)])
    assert time.monotonic() - began < 20
