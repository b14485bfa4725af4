"""Looks at a video as a broken decoder takes them; processes import it, so it imports little."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from acx_jax.data.decode import Facts, declared
from acx_jax.data.probe import Probe, probe


def bad_look(path: Path, beat: Callable[[], None]) -> Probe:
    """Does with a video what its name says."""
    _do(path.name, beat)
    return probe(path)


def bad_opening(path: Path, beat: Callable[[], None]) -> Facts | str:
    """Does with a video what its folder's name says."""
    _do(path.parent.name, beat)
    return declared(path)


def _do(what: str, beat: Callable[[], None]) -> None:
    if what == "hangs":
        time.sleep(60)
    if what == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    for _ in range(30 if what == "slow" else 0):
        time.sleep(0.1)
        beat()
