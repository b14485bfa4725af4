"""Looks at a video as a broken decoder takes them; processes import it, so it imports little."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from acx_jax.data.decode import Facts, declared
from acx_jax.data.probe import Probe, look_closer, probe


def bad_look(path: Path, beat: Callable[[], None]) -> Probe:
    """Does with a video what its name says."""
    _do(path.name, beat)
    return probe(path)


def bad_opening(path: Path, beat: Callable[[], None]) -> Facts | str:
    """Does with a video what its folder's name says."""
    _do(path.parent.name, beat)
    return declared(path)


def bad_closer(path: Path, beat: Callable[[], None]) -> np.ndarray:
    """Does with a video what its folder's name says."""
    _do(path.parent.name, beat)
    return look_closer(path, beat)


def bad_memory(notes: Path, path: Path, beat: Callable[[], None]) -> Facts | str:
    """Notes the folder of each video that it opens; does what its name says, of 'crashes_once' when it has no note yet."""
    what = path.parent.name
    known = notes.read_text().split() if notes.exists() else []
    with notes.open("a") as file:
        file.write(f"{what}\n")
    _do("crashes" if what == "crashes_once" and what not in known else what, beat)
    return declared(path)


def _do(what: str, beat: Callable[[], None]) -> None:
    if what == "hangs":
        time.sleep(60)
    if what == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    for _ in range(30 if what == "slow" else 0):
        time.sleep(0.1)
        beat()
