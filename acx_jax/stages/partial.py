"""The folder in which a stage works, NAME.partial: what an interrupted run left there is gone on with, put aside or thrown away."""

from __future__ import annotations

import shutil
from pathlib import Path

from acx_jax.runtime.run_log import RunLog
from acx_jax.stages import stamps
from acx_jax.stages.job import STAMP
from acx_jax.stages.stamps import Stamp


def begin(partial: Path, stamp: Stamp, log: RunLog) -> bool:
    """Makes `partial` a folder of what has the stamp. Gives whether an interrupted run goes on there.

    What another stamp left is thrown away, but for a training that has saved steps: one of them, the last, stays beside it as NAME.partial.FINGERPRINT,
    where a run with its stamp finds it.
    """
    before, kept = stamps.read(partial), _beside(partial, stamp)
    if before == stamp:
        return True
    if _steps_saved(partial):
        _put_aside(partial, before, stamp, log)
    shutil.rmtree(partial, ignore_errors=True)
    if stamps.read(kept) == stamp:
        kept.rename(partial)
        return True
    partial.mkdir(parents=True)
    stamps.write(partial, stamp)
    return False


def _put_aside(partial: Path, before: Stamp | None, stamp: Stamp, log: RunLog) -> None:
    aside, steps = _beside(partial, before), _steps_saved(partial)
    for other in sorted({aside, *partial.parent.glob(f"{partial.name}.{'[0-9a-f]' * stamps.DIGITS}")} - {_beside(partial, stamp)}):
        if other.exists():
            log.info(f"{partial.stem}: {other}, with {_steps_saved(other)} steps that were put aside before, is deleted: one such training is kept")
            shutil.rmtree(other)
    partial.rename(aside)
    if before is None:
        log.info(f"{partial.stem}: {steps} steps that an interrupted run has saved are put aside in {aside}: its {STAMP} is damaged or missing, so that "
                 "nothing tells the settings they are of")
        return
    log.info(f"{partial.stem}: {steps} steps that an interrupted run has saved are put aside, for {stamps.changes(before, stamp)}. The settings of before "
             f"take them up again; {aside} may be deleted where nobody will")


def _beside(partial: Path, stamp: Stamp | None) -> Path:
    return partial.with_name(f"{partial.name}.{stamp.get('fingerprint') if stamp else 'unknown'}")


def _steps_saved(partial: Path) -> int:
    """By the checkpoints of a training, or of the several that a stage has; 0 where it has none."""
    found = [path.name for pattern in ("checkpoints/*", "*/checkpoints/*") for path in partial.glob(pattern)]
    return max((int(name) for name in found if name.isdigit()), default=0)
