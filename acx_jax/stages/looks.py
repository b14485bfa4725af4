"""Looks at the user's videos in processes of their own: a file on which the decoder hangs or crashes costs its look, not the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from acx_jax.data.builders import parts
from acx_jax.data.builders.listing import size_and_time
from acx_jax.data.decode import Facts, declared
from acx_jax.data.probe import Probe, look_closer, probe, unread
from acx_jax.runtime import workers
from acx_jax.runtime.workers import Beat, Died

LOST = "cannot be looked at: "  # before the reason where a process did not live to give its look
_SILENT = "nothing came of it for config.data.patience seconds, twice; named in config.data.exclude, it is not opened"
Look = Callable[[Path, Beat], Probe]

_declared: dict[tuple, Facts | str] = {}  # by what looks, file, bytes and time of change: a hanging file costs its patience once a run, not at each listing


def probe_all(paths: Sequence[Path], config: ConfigDict, *, advance: Callable[[int], None] = lambda count: None, look: Look = probe) -> list[Probe]:
    """What a look at each video tells, in order; where its process died, or gave no sign of life for config.data.patience seconds, a problem that
    says so. advance(1) is called behind each."""
    return _in_order(look, paths, config, dead=lambda died: unread(f"{LOST}{died.reason}"), advance=advance)


def declared_all(paths: Sequence[Path], config: ConfigDict, *, look: Callable[[Path, Beat], Facts | str] = declared) -> list[Facts | str]:
    """What each video file declares, or why it cannot be opened, in order; of one whose process died, or hung, twice, that.

    A run that asks again, of files that have not changed since, is told the same: what is listed of the data depends on it.
    """
    keys = [(look, path.absolute(), size_and_time(path)) for path in paths]
    new = [index for index, key in enumerate(keys) if key not in _declared]
    told = _in_order(look, [paths[i] for i in new], config, dead=lambda died: died)
    lost = [n for n, result in enumerate(told) if isinstance(result, Died)]
    for n, result in zip(lost, _in_order(look, [paths[new[n]] for n in lost], config, dead=_twice)):
        told[n] = result
    _declared.update({keys[i]: result for i, result in zip(new, told)})
    return [_declared[key] for key in keys]


def _twice(died: Died) -> str:
    """Words that are the same for every patience, since what is listed of the data has them."""
    return LOST + (_SILENT if died.silent else f"{died.reason}, twice")


def closer_looks(paths: Sequence[Path], config: ConfigDict, *, lost: Callable[[Path, str], None]) -> Iterator[tuple[int, np.ndarray]]:
    """(index, `probe.look_closer`) of each video, as they are done; none of a video whose process died, of which `lost` is told the reason."""
    for index, result in _each(look_closer, paths, config):
        if isinstance(result, Died):
            lost(paths[index], result.reason)
        yield index, unread("").looks[:, None] if isinstance(result, Died) else result


def _in_order(look: Callable, paths: Sequence[Path], config: ConfigDict, *, dead: Callable[[Died], Any],
              advance: Callable[[int], None] = lambda count: None) -> list[Any]:
    """What `look` gives of each video, and `dead` of how its process did not live to give it."""
    found: list[Any] = [None] * len(paths)
    for index, result in _each(look, paths, config):
        found[index] = dead(result) if isinstance(result, Died) else result
        advance(1)
    return found


def _each(look: Callable, paths: Sequence[Path], config: ConfigDict) -> Iterator[tuple[int, object]]:
    run = partial(workers.work, workers=config.data.workers or workers.cores(), patience=config.data.patience)
    return run(look, paths, preload=[parts.__name__])  # the process that all others come from starts once, also for those that read whole videos
