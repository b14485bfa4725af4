"""Looks at videos in processes of their own: one on which the decoder hangs or crashes is named, and the others are looked at."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bad_look import bad_look, bad_opening
from test_check import HEADER, check, pictures

from acx_jax.config import from_flat
from acx_jax.data.probe import look_closer, probe
from acx_jax.stages import looks
from acx_jax.stages.looks import closer_looks, declared_all, probe_all
from acx_jax.stages.videos import list_data

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from media import grey_frames, write_video  # noqa: E402


def settings(**values):
    return from_flat({"data.builder": "synthetic", "data.workers": 2} | {key.replace("__", "."): value for key, value in values.items()})


@pytest.fixture
def videos(tmp_path) -> list[Path]:
    for number, name in enumerate(("crashes", "good", "hangs", "slow", "other")):
        pictures(tmp_path / name, number, count=4 + number)
    return [tmp_path / name for name in ("crashes", "good", "hangs", "slow", "other", "absent")]


def test_looks_are_in_order_and_one_that_hangs_or_crashes_costs_its_own_alone(videos):
    told = []
    found = probe_all(videos, settings(data__patience=2.0), advance=told.append, look=bad_look)
    assert [p.frames for p in found] == [0, 5, 0, 7, 8, 0] and told == [1] * 6
    assert found[0].problem == "cannot be looked at: its process was ended by SIGSEGV" and not len(found[0].looks)
    assert found[2].problem == "cannot be looked at: nothing came of it for 2 seconds, and it was given up"
    assert [p.problem for p in found[1:5:2]] == ["", ""] and "cannot be read" in found[5].problem


def test_looks_from_processes_are_those_of_this_one(videos):
    config = settings()
    for one, other in zip(probe_all(videos, config), map(probe, videos), strict=True):
        assert one[:6] == other[:6] and np.array_equal(one.looks, other.looks)
    closer = dict(closer_looks(videos, config))
    assert sorted(closer) == list(range(6)) and all(np.array_equal(closer[i], look_closer(path)) for i, path in enumerate(videos))


def test_of_what_dies_in_a_closer_look_there_is_none(videos, monkeypatch):
    monkeypatch.setattr(looks, "look_closer", bad_look)
    closer = dict(closer_looks(videos[:1], settings()))
    assert closer[0].shape == look_closer(videos[-1]).shape and not len(closer[0])


def test_long_looks_say_that_they_get_on(videos, tmp_path):
    beats = []
    probe(videos[1], lambda: beats.append("probe"))
    look_closer(videos[1], lambda: beats.append("closer"))
    assert beats.count("probe") == 3 and beats.count("closer") == 5


def test_the_check_names_a_video_that_hangs_and_goes_on(tmp_path, monkeypatch):
    rows = HEADER
    for number, name in enumerate(["hangs", "crashes", *"abcdefgh"]):
        pictures(tmp_path / "data" / name, number)
        rows += f"{name},0,11,{'abnormal' if number % 2 else 'normal'},\n"
    (tmp_path / "data" / "segments.csv").write_text(rows)
    monkeypatch.setattr(looks, "probe_all", partial(probe_all, look=bad_look))
    said, report = check(tmp_path / "data", data__patience=2.0, data__max_bad_share=0.5)
    assert report["unreadable"] == {"hangs": "cannot be looked at: nothing came of it for 2 seconds, and it was given up",
                                    "crashes": "cannot be looked at: its process was ended by SIGSEGV"}
    assert "coverage: 8 of 10 listed videos, 8 of 10 segments" in said and report["problems"] == []


def test_lost_looks_that_stopped_a_run_are_taken_again(tmp_path, monkeypatch):
    """A look may be lost for a passing reason; of a check that found nothing to stop for, it stays so."""
    for number, name in enumerate(["crashes", *"abcdefgh"]):
        pictures(tmp_path / "data" / name, number)
    rows = "".join(f"{name},0,11,{'abnormal' if n % 2 else 'normal'},\n" for n, name in enumerate(["crashes", *"abcdefgh"]))
    (tmp_path / "data" / "segments.csv").write_text(HEADER + rows)
    lost = partial(probe_all, look=bad_look)
    for share, again in ((0.5, False), (0.0, True)):
        monkeypatch.setattr(looks, "probe_all", lost)
        said, report = check(tmp_path / "data", data__max_bad_share=share)
        assert list(report["unreadable"]) == ["crashes"] and bool(report["problems"]) == again
        monkeypatch.setattr(looks, "probe_all", probe_all)
        said, report = check(tmp_path / "data", data__max_bad_share=share)
        assert ("check: is redone: 1 of its looks at videos was lost" in said) == again and ("up to date" in said) != again
        assert bool(report["unreadable"]) != again and report["problems"] == []


def test_the_listing_of_ucf_crime_names_what_hangs_when_it_is_opened_and_goes_on(tmp_path, monkeypatch):
    lines = ""
    for number, folder in enumerate(("crashes", "good", "hangs")):
        write_video(tmp_path / folder / f"Abuse{number:03d}_x264.mp4", grey_frames(40), rate=20)
        lines += f"Abuse{number:03d}_x264.mp4  Abuse  11  20  -1  -1\n"
    (tmp_path / "Temporal_Anomaly_Annotation_for_Testing_Videos.txt").write_text(lines)
    monkeypatch.setattr(looks, "declared_all", partial(declared_all, look=bad_opening))
    listing = list_data(settings(data__builder="ucf_crime", data__root=str(tmp_path), data__fps=10.0, data__patience=2.0))
    assert [(s.video, s.start, s.end) for s in listing.segments] == [("Abuse001_x264", 4, 9)]
    assert [tuple(item) for item in listing.skipped] == [
        ("Abuse000_x264", "cannot be looked at: its process was ended by SIGSEGV"),
        ("Abuse002_x264", "cannot be looked at: nothing came of it for 2 seconds, and it was given up")]
    assert listing.missing == ("Abuse000_x264", "Abuse002_x264")
