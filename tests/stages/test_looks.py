"""Looks at videos in processes of their own: one on which the decoder hangs or crashes is named, and the others are looked at."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bad_look import bad_closer, bad_look, bad_memory, bad_opening
from test_check import HEADER, check, pictures

from acx_jax.config import from_flat
from acx_jax.data.builders.listing import fingerprint
from acx_jax.data.probe import look_closer, probe
from acx_jax.errors import UsageError
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
    closer = dict(closer_looks(videos, config, lost=pytest.fail))
    assert sorted(closer) == list(range(6)) and all(np.array_equal(closer[i], look_closer(path)) for i, path in enumerate(videos))


def test_of_what_dies_in_a_closer_look_there_is_none(videos, monkeypatch):
    monkeypatch.setattr(looks, "look_closer", bad_look)
    lost = []
    closer = dict(closer_looks(videos[:1], settings(), lost=lambda *told: lost.append(told)))
    assert closer[0].shape == look_closer(videos[-1]).shape and not len(closer[0])
    assert lost == [(videos[0], "its process was ended by SIGSEGV")]


def test_the_check_names_what_dies_in_a_closer_look(tmp_path, monkeypatch):
    """Two videos of the same picture at different rates are looked at closer."""
    for folder in ("crashes", "good"):
        write_video(tmp_path / folder / "a.mp4", grey_frames(40), rate=20 if folder == "good" else 10)
    (tmp_path / "segments.csv").write_text(HEADER + "crashes/a.mp4,0,11,normal,\ngood/a.mp4,0,11,normal,\n")
    monkeypatch.setattr(looks, "look_closer", bad_closer)
    _, report = check(tmp_path)
    assert ("crashes/a.mp4 could not be compared with other videos closely, so that copies of it may not be found: its process was ended by SIGSEGV"
            in report["warnings"])


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
    hung = "cannot be looked at: nothing came of it for config.data.patience seconds, twice; named in config.data.exclude, it is not opened"
    assert [tuple(item) for item in listing.skipped] == [
        ("Abuse000_x264", "cannot be looked at: its process was ended by SIGSEGV, twice"), ("Abuse002_x264", hung)]
    assert listing.missing == ("Abuse000_x264", "Abuse002_x264")


def noted(tmp_path: Path) -> list[str]:
    return (tmp_path / "opened").read_text().split()


@pytest.fixture
def crimes(tmp_path, monkeypatch):
    """Lists two annotated videos with `bad_memory`, from folders of which the first is named as asked; with further settings."""
    def listed(first: str, **values):
        for number, folder in enumerate((first, "good")):
            if not (file := tmp_path / "data" / folder / f"Abuse{number:03d}_x264.mp4").exists():
                write_video(file, grey_frames(40), rate=20)
        lines = "".join(f"Abuse{number:03d}_x264.mp4  Abuse  11  20  -1  -1\n" for number in range(2))
        (tmp_path / "data" / "Temporal_Anomaly_Annotation_for_Testing_Videos.txt").write_text(lines)
        monkeypatch.setattr(looks, "declared_all", partial(declared_all, look=partial(bad_memory, tmp_path / "opened")))
        looks._declared.clear()
        config = settings(data__builder="ucf_crime", data__root=str(tmp_path / "data"), data__fps=10.0, **values)
        return lambda: list_data(config)
    return listed


def test_an_opening_that_died_is_tried_once_more_before_it_is_believed(tmp_path, crimes):
    listing = crimes("crashes_once")()
    assert [s.video for s in listing.segments] == ["Abuse000_x264", "Abuse001_x264"] and listing.skipped == ()
    assert sorted(noted(tmp_path)) == ["crashes_once", "crashes_once", "good"]


def test_what_hangs_costs_its_patience_once_a_run_and_is_listed_alike_whatever_that_is(tmp_path, crimes):
    again = crimes("hangs", data__patience=1.0)
    first = again()
    assert again() == first and sorted(noted(tmp_path)) == ["good", "hangs", "hangs"]
    (tmp_path / "opened").unlink()
    assert fingerprint(crimes("hangs", data__patience=1.5)()) == fingerprint(first)
    assert sorted(noted(tmp_path)) == ["good", "hangs", "hangs"]


def test_a_file_that_changed_is_opened_again(tmp_path, crimes):
    again = crimes("other")
    again()
    write_video(tmp_path / "data" / "good" / "Abuse001_x264.mp4", grey_frames(40), rate=10)
    assert [(s.start, s.end) for s in again().segments] == [(4, 9), (10, 19)] and noted(tmp_path).count("other") == 1


def test_what_is_excluded_is_not_opened(tmp_path, crimes):
    listing = crimes("hangs", data__exclude=("Abuse000_x264",))()
    assert [s.video for s in listing.segments] == ["Abuse001_x264"] and listing.missing == () and noted(tmp_path) == ["good"]
    assert [reason for _, reason in listing.skipped] == ["it is named in config.data.exclude"]
    with pytest.raises(UsageError, match="exclude names 'Abuse00', which is no video and no source; the nearest is 'Abuse00"):
        crimes("hangs", data__exclude=("Abuse000_x264", "Abuse00"))()
