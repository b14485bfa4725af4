"""The suite `feed`: one whole run on small frames, and what it refuses."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from acx_jax.benchmark import __main__ as command
from acx_jax.benchmark.suites import feed
from acx_jax.data.builders import clips, records
from acx_jax.data.media_files import image_files

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from media import grey_frames, write_frames, write_video  # noqa: E402


@pytest.mark.slow
def test_a_whole_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(feed, "WIDTH", 48)
    monkeypatch.setattr(feed, "HEIGHT", 40)
    options = ["--count=3", "--length=30", "--batch=2", "--steps=2", "--repeats=1", "--memory", "2"]
    assert command.main(["--suite=feed", *options, f"--out={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "videos 3, frames 90, batch 2" in said and "MB/s of frames handed on" in said and "2 videos: " in said
    rows = json.loads((tmp_path / "feed.json").read_text())["rows"]
    assert [row["program"] for row in rows][:3] == ["acx_jax", "acx_jax jpeg", "published way"] and all(row["items"] == 4 for row in rows)
    assert [(row["case"], row["program"]) for row in rows][-2:] == [("embedding", "acx_jax"), ("embedding", "acx_jax jpeg")]


def test_the_frames_of_videos_and_what_is_broken_or_short(tmp_path):
    write_video(tmp_path / "a" / "long.mp4", grey_frames(30))
    write_video(tmp_path / "short.mp4", grey_frames(20))
    (tmp_path / "text.mp4").write_text("no video")
    found = feed._folders(Namespace(videos=tmp_path, frames_of=None, count=9), tmp_path / "made")
    assert [len(image_files(folder)) for folder in found] == [30]


def test_padding_is_no_window(tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "SIDE", 16)
    monkeypatch.setattr(feed, "CROP", 16)
    monkeypatch.setattr(feed, "_pool", lambda function, items: records.serially(function, items))
    write_frames(tmp_path / "frames" / "a", grey_frames(24))  # 5 windows, in batches of 4 and 1, and again
    stored = feed._prepared([tmp_path / "frames" / "a"], tmp_path / "out", clips.RAW)
    assert [feed._windows(stored, 4, steps) for steps in (1, 2, 3, 4)] == [4, 5, 9, 10]


@pytest.mark.parametrize("option, said", [("--batch=0", "at least 1"), ("--length=9", "--length at least 24"), ("--frames_of=nowhere", "no folder of"),
                                          ("--videos=nowhere", "--videos=nowhere: no video of at least 24 frames")])
def test_wrong_options_are_refused(option, said, capsys):
    assert command.main(["--suite=feed", option]) == 2 and said in capsys.readouterr().err


def test_the_peak_is_of_the_process_alone_and_not_of_the_one_that_started_it():
    held = np.ones(125_000_000)  # 1,000 MB
    code = "import numpy; from acx_jax.benchmark.suites.feed import peak; before = peak(); a = numpy.ones(25_000_000); print(before, peak())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(float, child.stdout.split())
    assert before < held.nbytes / 1e6 < feed.peak() and 150 < after - before < 210
