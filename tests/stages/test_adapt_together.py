"""Two processes that adapt together with jax.distributed: as one process with all their devices, also after a stop."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from together import ROOT, free_port, until, with_devices

STEPS = 6
RUN = ("--config=configs/tiny.py", "--stage=adapt", f"--config.adapt.steps={STEPS}")


@pytest.fixture
def start(pairs):
    return lambda index, port, *more: pairs(index, port, *RUN, *more)


def losses(workdir: Path) -> list[float]:
    lines = [json.loads(line) for line in (workdir / "adapt" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    return [line["loss"] for line in lines]


@pytest.mark.slow
def test_two_processes_are_one_also_when_one_is_asked_to_stop(environment, start, tmp_path):
    """Sums over two devices have one order only, so that there is no rounding for this untamed encoder to magnify."""
    alone = [sys.executable, "-m", "acx_jax.main", *RUN, f"--workdir={tmp_path}/alone"]
    subprocess.run(alone, cwd=ROOT, env=with_devices(environment, 2), check=True, capture_output=True)
    workdir, port = tmp_path / "together", free_port()
    pair = [start(index, port, f"--workdir={workdir}") for index in (0, 1)]
    until(tmp_path / f"output-0-{port}.txt", "the first step compiles", pair[0])
    pair[1].terminate()  # the one that keeps nothing
    assert [one.wait(120) for one in pair] == [143, 143]
    assert "is saved" in (tmp_path / f"output-0-{port}.txt").read_text() and not (workdir / "adapt").exists()

    port = free_port()
    pair = [start(index, port, f"--workdir={workdir}") for index in (0, 1)]
    assert [one.wait(120) for one in pair] == [0, 0]
    said = (tmp_path / f"output-0-{port}.txt").read_text()
    assert "goes on from the checkpoint" in said and "1 x cpu in process 0 of 2" in said
    assert losses(workdir) == pytest.approx(losses(tmp_path / "alone"), abs=1e-4)
    assert {path.name for path in workdir.iterdir()} == {".lock", "adapt", "config.json", "log.process-1.txt", "log.txt", "prepare"}


@pytest.mark.slow
def test_a_process_whose_companion_is_killed_says_so(start, tmp_path):
    workdir, port = tmp_path / "run", free_port()
    pair = [start(index, port, f"--workdir={workdir}", "--config.adapt.steps=1000") for index in (0, 1)]
    output = tmp_path / f"output-0-{port}.txt"
    until(output, "loss", pair[0])
    pair[1].kill()
    assert pair[0].wait(120) == 1
    assert "another of the processes that work together is gone" in output.read_text() and "Traceback" not in output.read_text()


def test_a_process_that_cannot_join_or_has_other_settings_is_refused(environment, start, tmp_path):
    said = tmp_path / "auto.txt"
    with said.open("w") as output:
        done = subprocess.run([sys.executable, "-m", "acx_jax.main", *RUN, "--join=auto", f"--workdir={tmp_path}/auto"], cwd=ROOT, check=False,
                              env=with_devices(environment, 1), stdout=output, stderr=subprocess.STDOUT)
    assert done.returncode == 2 and "--join=auto: the processes cannot join" in said.read_text() and "Traceback" not in said.read_text()
    port = free_port()
    pair = [start(index, port, f"--workdir={tmp_path}/run", f"--config.adapt.learning_rate=0.00{index + 1}") for index in (0, 1)]
    assert pair[1].wait(120) == 2
    assert "this process has other settings" in (tmp_path / f"output-1-{port}.txt").read_text()
