"""What a training that goes on finds of its log, whatever became of that."""

from __future__ import annotations

import io
import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

from acx_jax.runtime.checkpoints import Checkpoints
from acx_jax.runtime.run_log import RunLog
from acx_jax.stages.adapt_record import LOG, PROBES, SPEED, Record
from acx_jax.stages.resuming import resumed

STEPS = 4
LINES = [json.dumps({"step": step, "loss": 1 / step}) + "\n" for step in range(1, STEPS + 3)]  # two behind the checkpoint


class State(NamedTuple):
    step: jax.Array


class Run(NamedTuple):
    state: Any


@pytest.mark.parametrize("third", [b'{"step": 3, "loss', b'{"step": 3, "lo\xff": 1.0}\n', b'{"stfp": 3}\n', b'{"step": null}\n', b"3\n", b'{"step": 3, "loss": "x"}\n'])
def test_a_damaged_log_is_cut_there_and_what_is_lost_of_it_said(tmp_path, third):
    before, after = "".join(LINES[:2]), "".join(LINES[3:])
    for name in (LOG, SPEED, PROBES):
        (tmp_path / name).write_bytes(before.encode() + third + after.encode())
    Record(tmp_path, done=STEPS).close()
    assert {(tmp_path / name).read_text() for name in (LOG, SPEED, PROBES)} == {before}
    (tmp_path / LOG).write_bytes(before.encode() + third + after.encode())
    assert f"x: {tmp_path / LOG} is damaged or cut short: what it told of the last 2 of 4 steps is lost" in go_on(tmp_path)
    assert (tmp_path / LOG).read_text() == before


def test_a_whole_log_loses_what_the_checkpoint_does_not_know(tmp_path):
    (tmp_path / LOG).write_text("".join(LINES))
    assert go_on(tmp_path) == "x: goes on from the checkpoint of step 4\n"
    assert (tmp_path / LOG).read_text() == "".join(LINES[:STEPS])


def go_on(folder) -> str:
    """What is said by a training whose checkpoint is of STEPS."""
    said, checkpoints = io.StringIO(), Checkpoints(folder / "checkpoints", every=1)
    checkpoints.save(STEPS, lambda: Run(State(jnp.int32(STEPS)))._asdict())
    checkpoints.wait()
    resumed(checkpoints, Run(State(jnp.int32(0))), lines=folder / LOG, what="x", log=RunLog(terminal=said))
    checkpoints.close()
    return said.getvalue()
