"""Two processes that embed together: the vectors of one process with all their devices, byte for byte, also from the middle on."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from together import ROOT, free_port, until, with_devices

from acx_jax import config as schema
from acx_jax import config_file
from acx_jax.models import pretrained
from acx_jax.runtime.checkpoints import save_variables
from acx_jax.runtime.run_log import RunLog
from acx_jax.stages import pipeline

SETTINGS = {"adapt.steps": "0", "embed.batch": "4", "data.videos": "8", "embed.whiten": "0.5"}
RUN = ("--config=configs/tiny.py", "--stage=embed", *(f"--config.{name}={value}" for name, value in SETTINGS.items()))
DONE = 12  # windows that the interrupted run has encoded


@pytest.fixture(scope="module")
def alone(environment, tmp_path_factory) -> Path:
    """The workdir of one process with two devices; its adapted encoder is another random one, for adapting takes long to compile."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    workdir.mkdir()
    config = schema.validate(schema.with_overrides(config_file.load(ROOT / "configs" / "tiny.py"), SETTINGS))
    pipeline.bring_up_to_date("adapt", config=config, workdir=workdir, log=RunLog(terminal=io.StringIO()))
    save_variables(workdir / "adapt" / "encoder", pretrained.load("random", "r2plus1d_tiny", jax.random.key(1), (1, 8, 32, 32, 3)))
    (workdir / "adapt" / "summary.json").write_text('{"adapted": true}')
    embed = [sys.executable, "-m", "acx_jax.main", *RUN, f"--workdir={workdir}"]
    subprocess.run(embed, cwd=ROOT, env=with_devices(environment, 2), check=True, capture_output=True)
    return workdir


def vectors(workdir: Path, name: str) -> np.ndarray:
    return np.load(workdir / "embed" / name / "vectors.npy")


def killed(workdir: Path, to: Path) -> None:
    """Copies a finished run as one that was killed when it had DONE vectors of the first weights."""
    shutil.copytree(workdir, to)
    (to / "embed").rename(to / "embed.partial")
    for later in ("adapted", "normals", "whitened"):
        shutil.rmtree(to / "embed.partial" / later)
    (to / "embed.partial" / "summary.json").unlink()
    first = to / "embed.partial" / "pretrained"
    (first / "progress.json").write_text(json.dumps({"done": DONE}))
    half = np.load(first / "vectors.npy")
    half[DONE:] = 0
    np.save(first / "vectors.npy", half)


def test_two_processes_are_one_and_go_on_where_one_was_killed(alone, pairs, tmp_path):
    killed(alone, tmp_path / "run")
    port = free_port()
    pair = [pairs(index, port, *RUN, f"--workdir={tmp_path}/run") for index in (0, 1)]
    assert [one.wait(120) for one in pair] == [0, 0], (tmp_path / f"output-0-{port}.txt").read_text()
    said = [(tmp_path / f"output-{index}-{port}.txt").read_text() for index in (0, 1)]
    assert "embed: goes on where it was interrupted" in said[0] and "embed adapted: took part" in said[1]
    for name in ("pretrained", "adapted", "normals", "whitened"):
        assert (name == "normals" or len(vectors(alone, name)) % 4) and vectors(tmp_path / "run", name).tobytes() == vectors(alone, name).tobytes()
    assert not np.array_equal(vectors(alone, "pretrained"), vectors(alone, "adapted"))
    assert {path.name for path in (tmp_path / "run" / "embed").iterdir()} == {path.name for path in (alone / "embed").iterdir()}


@pytest.mark.slow
def test_all_stop_behind_the_same_batch_where_one_is_asked_to(pairs, tmp_path):
    workdir, port = tmp_path / "run", free_port()
    larger = ("--config.encoder.arch=r2plus1d_18", "--config.data.videos=60", "--config.embed.batch=2")  # JAX looks for SIGTERM once a second
    pair = [pairs(index, port, *RUN, *larger, f"--workdir={workdir}") for index in (0, 1)]
    until(tmp_path / f"output-0-{port}.txt", "embed pretrained:", pair[0])
    pair[1].terminate()  # the one that writes nothing
    assert [one.wait(120) for one in pair] == [143, 143]
    assert "windows are saved" in (tmp_path / f"output-0-{port}.txt").read_text() and not (workdir / "embed").exists()
