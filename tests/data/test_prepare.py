from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from media import grey_frames, write_frames, write_table

from acx_jax.config import default_config, with_overrides
from acx_jax.data import prepared
from acx_jax.errors import UsageError, WorkError
from acx_jax.runtime.run_log import RunLog
from acx_jax.stages import prepare
from acx_jax.stages import videos as stage_videos
from acx_jax.stages.job import Job


def run(root: Path, out: Path, **changes) -> str:
    """Prepares `root`; returns what was logged."""
    out.mkdir(exist_ok=True)
    said = io.StringIO()
    values = {"data.root": str(root), "data.short_side": "16", "encoder.crop": "16"} | changes
    prepare.run(Job(with_overrides(default_config(), values), out, out, RunLog(terminal=said)))
    return said.getvalue()


def videos(root: Path, *names: str, count: int = 30) -> Path:
    for name in names:
        write_frames(root / name, grey_frames(count), suffix=".bmp")
    return root


def test_a_folder_is_prepared_and_reported(tmp_path: Path) -> None:
    root = videos(tmp_path / "in", "a", "b", "c")
    write_table(root, *(f"{v},{row}" for v in "abc" for row in ("0,9,normal", "12,29,abnormal")), "c,3,1,normal", "gone,0,9,normal")
    said = run(root, tmp_path / "out", **{"data.max_bad_share": "0.5"})
    stored, coverage = prepared.load(tmp_path / "out")
    assert len(stored) == 5 and coverage[:4] == (4, 3, 8, 5) and len(coverage.skipped) == 2
    assert coverage.notes[0] == "1 abnormal segments of adaptation videos are not used"
    for line in ("3 of 4 videos, 5 of 8 segments are used", "adapt: 1 videos, 1 normal, 0 abnormal segments, 1 windows",
                 "evaluate: 2 videos, 2 normal, 2 abnormal segments, 8 windows", "skipped segments.csv line 8 (c 3..1): it is reversed"):
        assert line in said
    adapt, evaluate = ({s.segment.video for s in stored if s.segment.split == split} for split in ("adapt", "evaluate"))
    assert not adapt & evaluate and prepare.SEGMENTS in {p.name for p in (tmp_path / "out").iterdir()}


def test_some_of_each_reason_are_shown(tmp_path: Path) -> None:
    root = write_table(videos(tmp_path / "in", "a"), "a,0,9,normal", *[f"a,{i + 5},1,normal" for i in range(14)], "a,0,9,odd", "a,40,49,normal")
    said = run(root, tmp_path / "out")
    assert said.count("it is reversed") == 8 and "unknown label 'odd'" in said and "beyond the video's last frame" in said
    assert "skipped 6 more" in said


def test_a_link_to_nothing_among_images_costs_its_video_alone(tmp_path: Path) -> None:
    root = videos(tmp_path / "in", "a", "b", "c")
    (root / "b" / "7.bmp").unlink()
    (root / "b" / "7.bmp").symlink_to(tmp_path / "nowhere")
    write_table(root, *(f"{v},{row}" for v in "abc" for row in ("0,9,normal", "12,29,abnormal")))
    changes = {"data.max_bad_share": "0.5", "data.adapt_share": "0"}
    assert prepare.inputs(with_overrides(default_config(), {"data.root": str(root)}))
    assert "skipped abnormal segment 12..29 of b: frame 6 (7.bmp) cannot be read" in run(root, tmp_path / "out", **changes)
    assert {s.segment.video for s in prepared.load(tmp_path / "out")[0]} == {"a", "c"}


def test_long_lists_of_skipped_rows_are_cut_in_the_log_alone(tmp_path: Path) -> None:
    root = write_table(videos(tmp_path / "in", "a"), "a,0,9,normal", *["a,5,1,normal"] * 14)
    said = run(root, tmp_path / "out")
    assert said.count("it is reversed") == 10 and "skipped 4 more, all named in segments.json" in said
    assert len(prepared.load(tmp_path / "out")[1].skipped) == 14


def test_what_an_interrupted_run_left_is_replaced(tmp_path: Path) -> None:
    root = write_table(videos(tmp_path / "in", "a"), "a,0,9,normal")
    half = tmp_path / "out" / "records" / "clips" / "1.0.0"
    half.mkdir(parents=True)
    (half / "clips-evaluate.array_record-00000-of-00001").write_bytes(b"half")
    run(root, tmp_path / "out")
    assert len(prepared.open_records(tmp_path / "out", "evaluate")) == 1 and not prepared.damage(tmp_path / "out")


@pytest.mark.parametrize("whole, said", [(lambda text: "", "segments.json is damaged (JSONDecodeError"), (lambda text: text[:200], "segments.json is damaged"),
                                         (lambda text: "[]", "segments.json is damaged"), (lambda text: '{"files": {}}', "segments.json is damaged (KeyError")])
def test_a_list_of_segments_that_is_damaged_is_said_to_be(tmp_path: Path, whole, said: str) -> None:
    run(write_table(videos(tmp_path / "in", "a"), "a,0,9,normal"), tmp_path / "out")
    file = tmp_path / "out" / prepared.SEGMENTS
    assert not prepared.damage(tmp_path / "out")
    file.write_text(whole(file.read_text()))
    assert prepared.damage(tmp_path / "out").startswith(said)
    file.unlink()
    assert prepared.damage(tmp_path / "out") == "segments.json is gone"


def test_only_what_is_left_to_read_needs_disk(tmp_path: Path, monkeypatch) -> None:
    root = write_table(videos(tmp_path / "in", "a", "b"), "a,0,9,normal", "b,0,29,normal")
    config = with_overrides(default_config(), {"data.root": str(root), "data.short_side": "16", "encoder.crop": "16"})
    (tmp_path / "out").mkdir()
    job = Job(config, tmp_path / "out", tmp_path / "out", RunLog(terminal=io.StringIO()))
    split = stage_videos.divided(stage_videos.list_data(config), config)
    tasks = stage_videos.tasks(split, job)
    stage_videos.read(tasks[:1], split, job)
    monkeypatch.setattr("acx_jax.stages.videos.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(WorkError, match=r"the records need about 0\.0 MB and 0\.0 MB are free"):
        run(root, tmp_path / "out")
    monkeypatch.undo()
    said = io.StringIO()
    stage_videos.read(tasks, split, job._replace(log=RunLog(terminal=said)))
    assert "  1 videos to read in " in said.getvalue() and "records take about 0.0 MB as raw" in said.getvalue()
    monkeypatch.setattr("acx_jax.stages.videos.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    assert "0 videos to read" in run(root, tmp_path / "out")


def test_no_usable_segment_is_an_error(tmp_path: Path) -> None:
    root = write_table(videos(tmp_path / "in", "a"), "a,0,3,normal", "a,20,90,abnormal")
    with pytest.raises(WorkError, match="none of the 2 listed segments can be used: normal segment 0..3 of a: it has 4 frames"):
        run(root, tmp_path / "out")


def test_inputs_follow_the_files(tmp_path: Path) -> None:
    config = with_overrides(default_config(), {"data.root": str(videos(tmp_path / "in" / "normal", "a").parent)})
    before = prepare.inputs(config)
    assert prepare.inputs(config) == before
    videos(tmp_path / "in" / "normal", "b")
    assert prepare.inputs(config) != before
    with pytest.raises(UsageError, match="does not exist"):
        prepare.inputs(with_overrides(config, {"data.root": str(tmp_path / "gone")}))


def test_settings_name_what_records_depend_on() -> None:
    folder, synthetic = default_config(), with_overrides(default_config(), {"data.builder": "synthetic"})
    assert "data.root" not in prepare.settings(folder) and "data.videos" not in prepare.settings(folder)
    assert prepare.settings(synthetic)["data.videos"] == 60 and prepare.inputs(synthetic) == ""


def test_synthetic_videos_go_the_same_way(tmp_path: Path) -> None:
    run(Path(), tmp_path / "out", **{"data.builder": "synthetic", "data.videos": "4", "data.scene_width": "48", "data.scene_height": "32"})
    stored, coverage = prepared.load(tmp_path / "out")
    assert coverage.videos_listed == coverage.videos_used == 4 and {s.segment.split for s in stored} == {"adapt", "evaluate"}
