"""Processes that are asked to stop while they compute where no Python runs: they end soon, or behind the step that is to be saved."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from acx_jax.runtime import stopping

ROOT = Path(__file__).resolve().parents[2]
GRACE, TOGETHER = 0.6, 0.4  # shorter than they are, for quick tests
BODY = f"""
import hashlib, os, signal, sys, time
from acx_jax import main
from acx_jax.runtime import stopping
from acx_jax.runtime.stopping import deferred
from acx_jax.runtime.workers import work

stopping.GRACE, stopping.TOGETHER = {GRACE}, {TOGETHER}
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it starts in the background ignore it

def say(*words):
    print(*words, flush=True)

def compute(seconds):  # holds no lock of Python's and hears of no signal, as XLA's compiler
    say("computes")
    hashlib.pbkdf2_hmac("sha256", b"", b"", int(seconds * ROUNDS_A_SECOND))

def rounds_a_second():
    begin = time.monotonic()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000)
    return 200_000 / (time.monotonic() - begin)

def sleep(file, beat):
    with open(file, "w") as out:
        out.write(str(os.getpid()))
    time.sleep(60)

ROUNDS_A_SECOND = rounds_a_second()
"""
MAIN = """
if __name__ == "__main__":
    main.run = lambda arguments: run()
    main.leave(main.main([]), [])
"""


@contextlib.contextmanager
def running(folder: Path, run: str) -> Iterator[subprocess.Popen]:
    """A process in whose run `run` is done, at the moment where it says `computes`."""
    script = folder / "script.py"
    script.write_text(BODY + "def run():\n" + "".join(f"    {line}\n" for line in run.splitlines()) + MAIN)
    process = subprocess.Popen([sys.executable, script], env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
    try:
        while (line := process.stdout.readline()).strip() != "computes":
            assert line, process.stderr.read()
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen) -> tuple[int, str, float]:
    """Its status, what else it said, and the seconds it took to end."""
    begin = time.monotonic()
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err, time.monotonic() - begin


@pytest.mark.parametrize(("number", "status", "said"), [
    (signal.SIGTERM, 143, "acx_jax: ended by SIGTERM; the same command goes on from here\n"),
    (signal.SIGINT, 130, "acx_jax: interrupted; the same command goes on from here\n"),
])
def test_a_run_ends_though_its_first_step_is_still_compiled(tmp_path, number, status, said):
    with running(tmp_path, "with deferred():\n    compute(40)") as process:
        process.send_signal(number)
        found = ended(process)
    assert found[:2] == (status, said) and found[2] < 10


def test_a_step_that_is_under_way_ends_and_is_saved_first(tmp_path):
    """Though it takes longer than the grace; a signal that comes twice at once, as from `timeout`, is one."""
    loop = "stopping.TOGETHER = 30\nwith deferred() as asked:\n    asked(1)\n    compute(1.5)\n    error = asked(2)\n    time.sleep(0.6)\n    say('saved')\n    raise error"
    with running(tmp_path, loop) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        found = ended(process)
    assert found[:2] == (143, "saved\nacx_jax: ended by SIGTERM; the same command goes on from here\n")


def test_a_signal_behind_the_last_step_is_not_lost(tmp_path):
    with running(tmp_path, "with deferred() as asked:\n    asked(1)\n    compute(1)\nsay('went on')") as process:
        process.send_signal(signal.SIGTERM)
        found = ended(process)
    assert found[:2] == (143, "acx_jax: ended by SIGTERM; the same command goes on from here\n")


@pytest.mark.parametrize("run", ["with deferred() as asked:\n    asked(1)\n    compute(40)", "try:\n    say('computes')\n    time.sleep(40)\nfinally:\n    compute(40)"],
                         ids=["in a step", "while it ends"])
def test_a_second_signal_ends_it_at_once(tmp_path, run):
    with running(tmp_path, run) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(TOGETHER + 0.3)
        process.send_signal(signal.SIGINT)
        status, said, seconds = ended(process)
    assert status == 130 and said.endswith("acx_jax: interrupted; the same command goes on from here\n") and seconds < 10


def test_a_signal_that_the_garbage_collector_drops_ends_the_run_all_the_same(tmp_path):
    run = ("import gc\nstopping.GRACE, stopping.ENDING = 2, 1\ndef once(*phase):\n    gc.callbacks.clear()\n    compute(1)\n"
           "gc.callbacks.append(once)\ngc.collect()\ncompute(40)")
    with running(tmp_path, run) as process:
        process.send_signal(signal.SIGTERM)
        status, said, seconds = ended(process)
    assert status == 143 and "Exception ignored" in said and said.endswith("ended by SIGTERM; the same command goes on from here\n") and seconds < 10


def test_what_still_computes_at_its_exit_is_not_waited_for(tmp_path):
    with running(tmp_path, "import atexit\natexit.register(compute, 40)\nsay('computes')\ntime.sleep(40)") as process:
        process.send_signal(signal.SIGTERM)
        status, said, seconds = ended(process)
    assert (status, said) == (143, "acx_jax: ended by SIGTERM; the same command goes on from here\n") and seconds < 10


def test_its_workers_end_with_it(tmp_path):
    pid = tmp_path / "pid"
    run = (f"import threading\nfound = work(sleep, [{str(pid)!r}], workers=1, patience=60)\n"
           f"threading.Thread(target=next, args=(found,), daemon=True).start()\nwhile not os.path.exists({str(pid)!r}):\n    time.sleep(0.05)\ncompute(40)")
    with running(tmp_path, run) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
        with pytest.raises(ProcessLookupError):
            for _ in range(100):  # until its own parent has heard that it is dead
                os.kill(int(pid.read_text()), 0)
                time.sleep(0.1)


def test_what_listens_is_as_before_when_the_run_is_over():
    before = [signal.getsignal(number) for number in stopping.NUMBERS]
    with stopping.listening(), pytest.raises(stopping.Terminated):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert [signal.getsignal(number) for number in stopping.NUMBERS] == before and signal.set_wakeup_fd(-1) == -1
