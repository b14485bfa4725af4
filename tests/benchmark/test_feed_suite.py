"""The suite `feed`: one whole run on small frames, and what it refuses."""

import json
import subprocess
import sys

import numpy as np
import pytest

from acx_jax.benchmark import __main__ as command
from acx_jax.benchmark.suites import feed


def test_a_whole_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(feed, "WIDTH", 48)
    monkeypatch.setattr(feed, "HEIGHT", 40)
    options = ["--videos=3", "--length=30", "--batch=2", "--steps=2", "--repeats=1", "--memory", "2"]
    assert command.main(["--suite=feed", *options, f"--out={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "videos 3, batch 2" in said and "MB/s of frames handed on" in said and "2 videos: " in said
    rows = json.loads((tmp_path / "feed.json").read_text())["rows"]
    assert [row["program"] for row in rows][:3] == ["acx_jax", "acx_jax jpeg", "published way"] and all(row["items"] == 4 for row in rows)


@pytest.mark.parametrize("option, said", [("--batch=0", "at least 1"), ("--length=9", "--length at least 24"), ("--frames_of=nowhere", "no folder of")])
def test_wrong_options_are_refused(option, said, capsys):
    assert command.main(["--suite=feed", option]) == 2 and said in capsys.readouterr().err


def test_the_peak_is_of_the_process_alone_and_not_of_the_one_that_started_it():
    held = np.ones(125_000_000)  # 1,000 MB
    code = "import numpy; from acx_jax.benchmark.suites.feed import peak; before = peak(); a = numpy.ones(25_000_000); print(before, peak())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(float, child.stdout.split())
    assert before < held.nbytes / 1e6 < feed.peak() and 150 < after - before < 210
