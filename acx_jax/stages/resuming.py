"""Where a training that was interrupted goes on, with its log cut back to there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

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
    tell_lost(cut(lines, int(at.state.step)), lines, done=int(at.state.step), what=what, log=log)
    if newest is not None:
        log.info(f"{what}: goes on from the checkpoint of step {int(at.state.step)}")
    return at


def cut(path: Path, done: int) -> list[dict[str, float]]:
    """Takes from a file what is not whole, and what is of steps behind `done`. Gives what is left."""
    kept = [line for line in whole_lines(path) if line["step"] <= done]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
    return kept


def tell_lost(kept: Sequence[dict[str, float]], path: Path, *, done: int, what: str, log: RunLog) -> None:
    """Says so where a file has fewer lines than steps were done."""
    if last := done - (kept[-1]["step"] if kept else 0):
        log.info(f"{what}: {path} is damaged or cut short: what it told of the last {last} of {done} steps is lost, and missing in the report; the training "
                 "itself has lost nothing")


def whole_lines(path: Path) -> Iterator[dict[str, float]]:
    """The lines of a file of JSON, numbers by name and a `step` among them, up to one that a kill or the disk cut short; none where there is no file."""
    for text in path.read_bytes().splitlines() if path.exists() else ():
        try:
            line = json.loads(text.decode())
        except ValueError:
            return
        if not (isinstance(line, dict) and isinstance(line.get("step"), int) and all(isinstance(value, (int, float)) for value in line.values())):
            return
        yield line
