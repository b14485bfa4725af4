"""Runs of stages in this process, for tests of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from acx_jax import config as schema
from acx_jax.runtime.run_log import RunLog
from acx_jax.stages import pipeline


def bring(goal: str, settings: dict[str, Any], root: Path, workdir: Path, **values: Any) -> str:
    """Brings `goal` up to date on the data under `root`, and gives what was said. values: more settings, such as meta__steps=4."""
    said = io.StringIO()
    config = schema.validate(schema.from_flat(settings | {"data.root": str(root)} | {k.replace("__", "."): v for k, v in values.items()}))
    pipeline.refuse(goal, config)
    pipeline.bring_up_to_date(goal, config=config, workdir=workdir, log=RunLog(terminal=said))
    return said.getvalue()
