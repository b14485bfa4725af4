"""What a stage is given to work with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from acx_jax.runtime.run_log import RunLog

STAMP = "stage.json"  # in the folder of a stage: what it was made from, and the fingerprint of that


class Job(NamedTuple):
    """One stage to run.

    config: the whole locked config. out: the folder to write into; it may hold what an interrupted run of the same
    fingerprint left there, and becomes `workdir/<stage>` when the stage returns. workdir: where finished stages lie.
    """

    config: ConfigDict
    workdir: Path
    out: Path
    log: RunLog
