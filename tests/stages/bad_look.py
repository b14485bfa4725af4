"""A look at a video as a broken decoder takes it; processes import it, so it imports little."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from acx_jax.data.probe import Probe, probe


def bad_look(path: Path, beat: Callable[[], None]) -> Probe:
    """Does with a video what its name says."""
    if path.name == "hangs":
        time.sleep(60)
    if path.name == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    for _ in range(30 if path.name == "slow" else 0):
        time.sleep(0.1)
        beat()
    return probe(path)
