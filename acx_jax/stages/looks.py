"""Looks at the user's videos in processes of their own: a file on which the decoder hangs or crashes costs its look, not the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from acx_jax.data.builders import parts
from acx_jax.data.decode import Facts, declared
from acx_jax.data.probe import Probe, look_closer, probe, unread
from acx_jax.runtime import workers
from acx_jax.runtime.workers import Beat, Died

LOST = "cannot be looked at: "  # before the reason where a process did not live to give its look
Look = Callable[[Path, Beat], Probe]


def probe_all(paths: Sequence[Path], config: ConfigDict, *, advance: Callable[[int], None] = lambda count: None, look: Look = probe) -> list[Probe]:
    """What a look at each video tells, in order; where its process died, or gave no sign of life for config.data.patience seconds, a problem that
    says so. advance(1) is called behind each."""
    return _in_order(look, paths, config, dead=unread, advance=advance)


def declared_all(paths: Sequence[Path], config: ConfigDict, *, look: Callable[[Path, Beat], Facts | str] = declared) -> list[Facts | str]:
    """What each video file declares, or why it cannot be opened, in order; of one whose process died, or hung, that."""
    return _in_order(look, paths, config, dead=str)


def closer_looks(paths: Sequence[Path], config: ConfigDict) -> Iterator[tuple[int, np.ndarray]]:
    """(index, `probe.look_closer`) of each video, as they are done; none of a video whose process died."""
    for index, result in _each(look_closer, paths, config):
        yield index, unread("").looks[:, None] if isinstance(result, Died) else result


def _in_order(look: Callable, paths: Sequence[Path], config: ConfigDict, *, dead: Callable[[str], Any],
              advance: Callable[[int], None] = lambda count: None) -> list[Any]:
    """What `look` gives of each video, and `dead` of the reason where its process did not live to give it."""
    found: list[Any] = [None] * len(paths)
    for index, result in _each(look, paths, config):
        found[index] = dead(f"{LOST}{result.reason}") if isinstance(result, Died) else result
        advance(1)
    return found


def _each(look: Callable, paths: Sequence[Path], config: ConfigDict) -> Iterator[tuple[int, object]]:
    run = partial(workers.work, workers=config.data.workers or workers.cores(), patience=config.data.patience)
    return run(look, paths, preload=[parts.__name__])  # the process that all others come from starts once, also for those that read whole videos
