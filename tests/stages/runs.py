"""Runs of stages in this process, for tests of them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

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


@contextmanager
def compiled_once(stage: ModuleType) -> Iterator[None]:
    """The encoder of a stage's module is compiled for the first run inside, and serves all others."""
    made, kept = stage._encoder, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "_encoder", lambda config: kept.setdefault("encode", made(config)))
        yield
