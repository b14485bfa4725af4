"""The suite `prepare`: one whole run on small videos, and what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image

from acx_jax.benchmark import __main__ as command
from acx_jax.benchmark.suites import prepare


def test_a_whole_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepare, "SIZE", (64, 48))
    monkeypatch.setattr(prepare, "FRAMES", (12, 12))
    assert command.main(["--suite=prepare", "--count=4", "--short_side=16", "--repeats=1", f"--out={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "videos 4, frames " in said and "of the ceiling" in said and "jpeg: " in said
    rows = json.loads((tmp_path / "prepare.json").read_text())["rows"]
    assert [row["program"] for row in rows] == ["acx_jax", "acx_jax jpeg", "decoding alone", "decoding to RGB"]
    assert len({row["items"] for row in rows}) == 1 and rows[0]["items"] >= 4 * 12


def test_folders_of_images_of_one_name(tmp_path, capsys):
    for name, count in (("a/v", 9), ("b/v", 12)):
        (tmp_path / "frames" / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((24, 32, 3), 9 * i, np.uint8)).save(tmp_path / "frames" / name / f"{i:03}.jpg")
    given = ["--suite=prepare", f"--videos={tmp_path / 'frames'}", "--short_side=16", "--repeats=1", f"--out={tmp_path}"]
    assert command.main(given) == 0
    assert "videos 2, frames 21" in capsys.readouterr().out
    assert {row["items"] for row in json.loads((tmp_path / "prepare.json").read_text())["rows"]} == {21}


@pytest.mark.parametrize("option, said", [("--count=0", "--count=0"), ("--videos=nowhere", "no video file")])
def test_wrong_options_are_refused(option, said, capsys):
    assert command.main(["--suite=prepare", option]) == 2 and said in capsys.readouterr().err
