"""prepare as a command: killed at any moment, divided among processes, with a record file that was cut short."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from acx_jax.data import prepared

sys.path.insert(0, str(Path(__file__).parent / "data"))
from media import write_table, write_video  # noqa: E402

CONFIG = ("--config=configs/folder.py", "--stage=prepare", "--config.data.short_side=32", "--config.encoder.crop=32", "--config.data.workers=2")
VIDEOS = 12


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Twelve short videos of noise, one of them cut off, one text."""
    root, rng = tmp_path_factory.mktemp("in"), np.random.default_rng(0)
    for i in range(VIDEOS):
        write_video(root / f"v{i:02}.mp4", list(rng.integers(0, 255, (40, 48, 64, 3), np.uint8)))
    whole = (root / "v03.mp4").read_bytes()
    (root / "v03.mp4").write_bytes(whole[:len(whole) // 2])
    (root / "v07.mp4").write_text("no video")
    return write_table(root, *(f"v{i:02}.mp4,{at}" for i in range(VIDEOS) for at in ("0,19,normal", "20,39,abnormal")))


@pytest.fixture(scope="module")
def whole(acx, root, tmp_path_factory) -> Path:
    """The workdir of a run that nothing happened to."""
    workdir = tmp_path_factory.mktemp("whole")
    done = acx(*CONFIG, f"--config.data.root={root}", "--config.data.max_bad_share=0.5", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert f"{VIDEOS} videos to read in 2 processes; records take about" in done.stdout and "skipped" in done.stdout
    return workdir


def contents(workdir: Path) -> tuple:
    """All that `prepare` left: its JSON and every record's bytes."""
    value = json.loads((workdir / "prepare" / prepared.SEGMENTS).read_text())
    records = [{key: np.asarray(field).tobytes() for key, field in record.items()}
               for split in ("adapt", "evaluate") for record in map(prepared.open_records(workdir / "prepare", split).__getitem__,
                                                                    range(len(prepared.open_records(workdir / "prepare", split))))]
    return value, records


def test_a_run_that_is_killed_again_and_again_gives_what_one_gives_that_is_not(acx, root, whole, environment, tmp_path):
    arguments = [*CONFIG, f"--config.data.root={root}", "--config.data.max_bad_share=0.5", f"--workdir={tmp_path}"]
    draw = random.Random(0)
    for _ in range(3):
        run = subprocess.Popen([sys.executable, "-m", "acx_jax.main", *arguments], cwd=Path(__file__).parents[1], env=environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(2.0, 4.0))
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    done = acx(*arguments)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path) == contents(whole)
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith(".")) == ["config.json", "log.txt", "prepare"]


def test_shards_read_side_by_side_and_are_put_together(acx, root, whole, environment, tmp_path):
    arguments = [*CONFIG, f"--config.data.root={root}", "--config.data.max_bad_share=0.5", f"--workdir={tmp_path}"]
    runs = [subprocess.Popen([sys.executable, "-m", "acx_jax.main", *arguments, f"--shard={i}/2"], cwd=Path(__file__).parents[1],
                             env=environment, stdout=subprocess.PIPE, text=True) for i in range(2)]
    said = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert all(f"shard {i} of 2: 6 videos are read" in said[i] for i in range(2))
    assert len(list((tmp_path / "prepare.parts").iterdir())) == VIDEOS + VIDEOS - 2  # what is said of each, and the records of the good ones
    done = acx(*arguments)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path) == contents(whole) and not (tmp_path / "prepare.parts").exists()
    late = acx(*arguments, "--shard=1/2")
    assert late.returncode == 0 and "prepare: up to date, nothing to read" in late.stdout
    assert not (tmp_path / "prepare.parts").exists()


def test_a_record_file_cut_short_is_noticed_and_redone(acx, root, whole):
    before = contents(whole)
    name, size = next((name, size) for name, size in before[0]["files"].items() if "array_record" in name)
    os.truncate(whole / "prepare" / name, size // 2)
    again = acx(f"--workdir={whole}", "--stage=prepare")
    assert again.returncode == 0 and f"prepare: is redone: {name} has {size // 2} bytes, it was written with {size}" in again.stdout
    assert contents(whole) == before
    assert "prepare: up to date" in acx(f"--workdir={whole}", "--stage=prepare").stdout


@pytest.mark.parametrize("shard, stage, said", [("2/2", "prepare", "expected i/n with i from 0 to n - 1"), ("a", "prepare", "expected i/n"),
                                                ("0/2", "all", "--stage=prepare alone")])
def test_a_wrong_shard_is_refused(acx, tmp_path, shard, stage, said):
    done = acx("--config=configs/folder.py", f"--shard={shard}", f"--stage={stage}", f"--workdir={tmp_path}/w")
    assert done.returncode == 2 and said in done.stderr and not list(tmp_path.iterdir())


def test_data_without_videos_are_not_divided(acx, tmp_path):
    done = acx("--config=configs/tiny.py", "--shard=0/2", "--stage=prepare", f"--workdir={tmp_path}")
    assert done.returncode == 2 and "'synthetic' has no videos to divide" in done.stderr
