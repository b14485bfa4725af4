"""Where a training that was interrupted goes on, with its log cut back to there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from acx_jax.runtime.checkpoints import Checkpoints
from acx_jax.runtime.files import write_text
from acx_jax.runtime.run_log import RunLog

Run = TypeVar("Run", bound=NamedTuple)


def resumed(checkpoints: Checkpoints, first: Run, *, lines: Path, what: str, log: RunLog) -> Run:
    """Where the newest checkpoint of a training stands, or `first`, its beginning; `what` names it to the log.

    Run is a named tuple whose `state.step` counts the steps done. lines: the file with a line of JSON a step, which loses those behind the
    checkpoint, or that were not written to their end.
    """
    newest = checkpoints.restore_newest(first._asdict(), lambda line: log.info(f"{what}: {line}"))
    at = first if newest is None else type(first)(**newest)
    write_text(lines, "".join(f"{line}\n" for line, value in _whole(lines) if value["step"] <= int(at.state.step)))
    if newest is not None:
        log.info(f"{what}: goes on from the checkpoint of step {int(at.state.step)}")
    return at


def _whole(lines: Path) -> list[tuple[str, dict[str, Any]]]:
    """Each line that was written to its end, and what it holds."""
    found = lines.read_text().splitlines() if lines.exists() else []
    return [(line, json.loads(line)) for line in found if line.endswith("}")]
