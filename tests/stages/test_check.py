"""The check as its user meets it: folders of pictures with what can be wrong with them."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from acx_jax import config as schema
from acx_jax.data.check import cameras, copies
from acx_jax.errors import UsageError, WorkError
from acx_jax.runtime.run_log import RunLog
from acx_jax.stages import looks, pipeline

HEADER = "video,start,end,label,source\n"


def pictures(folder, seed: int, count: int = 12) -> None:
    """Boxes at places of the seed's own, the brightest of which moves."""
    rng = np.random.default_rng(seed)
    still = np.full((56, 72, 3), 90, np.uint8)
    for _ in range(12):
        y, x, h, w = rng.integers((0, 0, 6, 6), (56, 72, 25, 25))
        still[y:y + h, x:x + w] = rng.integers(20, 235, 3)
    folder.mkdir(parents=True)
    for i in range(count):
        image = still.copy()
        image[20:32, 3 * i:3 * i + 12] = 250
        Image.fromarray(image).save(folder / f"{i}.png")


@pytest.fixture
def root(tmp_path):
    """Eight videos of 12 frames, four of them abnormal."""
    rows = HEADER
    for i in range(8):
        pictures(tmp_path / "data" / f"v{i}", i)
        rows += f"v{i},0,11,{'abnormal' if i % 2 else 'normal'},\n"
    (tmp_path / "data" / "segments.csv").write_text(rows)
    return tmp_path / "data"


def check(root, **values) -> tuple[str, dict]:
    """What is said and `check.json`, whether or not there are problems."""
    said, workdir = io.StringIO(), root.parent / "work"
    given = {"data.root": str(root), "data.adapt_share": 0.25, **{k.replace("__", "."): v for k, v in values.items()}}
    try:
        pipeline.bring_up_to_date("check", config=schema.from_flat(given), workdir=workdir, log=RunLog(terminal=said))
    except WorkError as error:
        said.write(str(error))
    return said.getvalue(), json.loads((workdir / "check" / "check.json").read_text())


def test_nothing_wrong(root):
    said, report = check(root)
    assert report["problems"] == report["warnings"] == report["copies"] == report["cameras"] == []
    assert "coverage: 8 of 8 listed videos, 8 of 8 segments" in said and "width 72, height 56, frames 12" in said
    assert report["episodes"][0]["queries"]["1"] == [1, 1] and report["episodes"][0]["queries"]["5"] == [0, 0]
    assert report["disk"]["needed"] == 6 * 12 * 128 * 165 * 3 + 2 * 12 * 128 * 165 * 3


def test_of_many_videos_copies_are_found_in_small_looks(root, monkeypatch):
    """And no cameras, which need the whole looks."""
    shutil.rmtree(root / "v2")
    (root / "v2").mkdir()
    for i in range(12):
        Image.open(root / "v0" / f"{i}.png").save(root / "v2" / f"{i}.jpg", quality=95)
    asked = []
    monkeypatch.setattr(looks, "probe_all", lambda *given, real=looks.probe_all, **options: asked.append(options.get("look")) or real(*given, **options))
    assert check(root)[1]["copies"] and asked.pop() is None
    monkeypatch.setattr(cameras, "MOST", 7)
    shutil.rmtree(root.parent / "work")
    said, report = check(root)
    assert report["copies"] and asked == [copies.probe_small] and "shared cameras are not looked for in more than 7 videos: there are 8" in said


def test_copies_that_contradict_stop_the_run_and_are_said_again(root):
    shutil.rmtree(root / "v1")
    shutil.copytree(root / "v0", root / "v1")
    said, report = check(root)
    assert "v0 and v1 are the same bytes, labelled differently" in said
    assert report["copies"][0]["videos"] == ["v0", "v1"] and len(report["problems"]) == 1
    assert report["problems"][0].endswith("abnormal segment 0..11 of v1: take the wrong ones away, or leave them out with --config.data.exclude")
    said, _ = check(root)
    assert "check: up to date" in said and "v0 and v1 are the same bytes" in said
    workdir = root.parent / "work"
    with pytest.raises(WorkError, match="check found"):
        config = schema.from_flat({"data.root": str(root), "data.adapt_share": 0.25})
        pipeline.bring_up_to_date("all", config=config, workdir=workdir, log=RunLog(terminal=io.StringIO()))
    assert not (workdir / "prepare").exists()


def test_empty_scenes_of_one_camera_may_be_on_both_sides(root):
    empty, rng = np.asarray(Image.open(root / "v0" / "0.png")).clip(0, 250), np.random.default_rng(0)
    for file in root.glob("v*/*.png"):
        Image.fromarray(empty + rng.integers(0, 4, empty.shape, np.uint8)).save(file)
    said, report = check(root)
    assert [p for p in report["problems"] if "adaptation" in p] == [] and "labelled differently" in report["problems"][0]
    (root / "segments.csv").write_text((root / "segments.csv").read_text().replace("abnormal", "normal"))
    said, report = check(root)
    assert report["problems"] == [] and any("the same pictures, in which nothing moves" in warning for warning in report["warnings"])


def test_copies_of_one_label_are_a_warning(root):
    shutil.rmtree(root / "v3")
    shutil.copytree(root / "v1", root / "v3")
    said, report = check(root, data__adapt_share=0.0)
    assert report["problems"] == [] and "v1 and v3 are the same bytes" in report["warnings"]


def test_what_is_no_part_of_the_data_is_named_in_full_in_the_findings(root):
    for number in range(7):
        (root / f"other{number}.mp4").write_bytes(b"not looked into")
    said, report = check(root)
    names = [f"other{number}.mp4" for number in range(7)]
    assert report["coverage"]["extra"] == names and report["problems"] == []
    assert "no part of the data: 7" in said and "... and 2 more, all in check.json" in said and [name in said for name in names] == [True] * 5 + [False] * 2


def test_missing_and_unreadable_up_to_a_share(root):
    shutil.rmtree(root / "v2")
    (root / "v4" / "3.png").write_bytes(b"")
    for file in (root / "v4").iterdir():
        file.write_bytes(b"no picture")
    said, report = check(root, data__max_bad_share=0.5)
    assert report["problems"] == [] and report["coverage"]["missing"] == ["v2"] and list(report["unreadable"]) == ["v4"]
    assert "6 of 8 listed videos" in said
    said, report = check(root, data__max_bad_share=0.1)
    assert "2 of 8 videos are missing or unreadable, more than config.data.max_bad_share=0.1: v2 is not there" in report["problems"][0]


def test_segments_beyond_the_end_short_ones_and_unreadable_videos_are_not_usable(root):
    for file in (root / "v4").iterdir():
        file.write_bytes(b"no picture")
    rows = (root / "segments.csv").read_text().replace("v1,0,11,", "v1,5,12,").replace("v3,0,11", "v3,5,11")
    (root / "segments.csv").write_text(rows)
    said, report = check(root, data__max_bad_share=0.5, data__adapt_share=0.0)
    assert report["beyond"] == ["abnormal segment 5..12 of v1: its file has 12 frames"] and report["short"] == ["abnormal segment 5..11 of v3"]
    assert "beyond the end of their video: 1" in said and "coverage: 7 of 8 listed videos, 5 of 8 segments" in said
    assert report["episodes"][0]["segments"] == 2 and report["episodes"][0]["queries"]["1"] == [1, 1]
    _, report = check(root, data__max_bad_share=0.5, data__adapt_share=0.0, data__min_frames=13)
    assert "none of the 8 listed segments can be used; v4: cannot be read" in report["problems"][0]


def test_adaptation_that_loses_all_its_segments_is_a_problem_where_a_table_names_them(root):
    text = (root / "segments.csv").read_text()
    _, report = check(root, data__min_frames=12)
    assert report["problems"] == report["warnings"] == []
    table = [HEADER.strip() + ",split", "v0,0,6,normal,,adapt", "v2,3,12,normal,,adapt", *(row + ",evaluate" for row in text.splitlines()[1:] if row[:2] not in ("v0", "v2"))]
    (root / "segments.csv").write_text("\n".join(table))
    said, report = check(root)
    assert len(report["problems"]) == 1 and report["warnings"] == [] and "none of the 2 normal segments of adaptation can be used, such as normal segment 0..6 of v0" in said
    assert check(root, adapt__steps=0)[1]["problems"] == check(root, source__steps=1)[1]["problems"] == []
    (root / "segments.csv").write_text("\n".join(table).replace("v2,3,12", "v2,3,11"))
    assert check(root)[1]["problems"] == []
    for video in ("v0", "v2", "v4", "v6"):  # nobody named them
        text = text.replace(f"{video},0,11", f"{video},0,6")
    (root / "segments.csv").write_text(text)
    _, report = check(root)
    assert report["problems"] == [] and "segments of adaptation can be used" in report["warnings"][0]


def test_one_camera_is_a_warning_with_sources_to_take(root):
    for file in (root / "v5").iterdir():
        image = np.asarray(Image.open(root / "v1" / file.name)).astype(int)
        Image.fromarray(np.clip(image * 0.7 + 30, 0, 255).astype(np.uint8)).save(file)
    said, report = check(root)
    assert report["problems"] == [] and "v1, v5 seem to be of one camera" in said
    rows = (root.parent / "work" / "check" / "sources.csv").read_text().splitlines()
    assert rows[0] == "video,source" and "v5,v1" in rows and "v2,v2" in rows
    assert "take the column source of check/sources.csv into your table" in said
    said, report = check(root, data__builder="bdd100k")
    assert "v1, v5 seem to be of one camera" in said and "into your table" not in said


def test_folders_of_classes_take_the_sources_as_a_file(root):
    for i in range(8):
        (root / ("abnormal" if i % 2 else "normal")).mkdir(exist_ok=True)
        (root / f"v{i}").rename(root / ("abnormal" if i % 2 else "normal") / f"v{i}")
    (root / "segments.csv").unlink()
    shutil.rmtree(root / "normal" / "v4")
    shutil.copytree(root / "abnormal" / "v1", root / "normal" / "v4")
    (root / "normal" / "v4" / "5.png").unlink()  # no copy, for it is shorter
    said, report = check(root)
    found = root.parent / "work" / "check" / "sources.csv"
    assert "normal/v4, abnormal/v1 seem to be of one camera" in said and f"to keep it apart, copy {found} into {root}" in said
    shutil.copy(found, root)
    said, report = check(root)
    assert report["cameras"] == [] and "seem to be of one camera" not in said and not any("sources.csv" in note for note in report["coverage"]["notes"])
    assert report["episodes"][0]["sources"] == 4


def test_a_source_on_both_sides_is_a_warning(root):
    text = (root / "segments.csv").read_text()
    (root / "segments.csv").write_text("".join(line + ("drive\n" if line.endswith(",") else "\n") for line in text.splitlines()))
    said, report = check(root)
    assert report["problems"] == [] and report["leaks"]["sources"] == ["drive"]
    assert "--config.data.split=source keeps them apart" in said


def test_a_full_disk_is_known_before(root, monkeypatch):
    monkeypatch.setattr("acx_jax.stages.check_media.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    assert "0.0 MB are free" in check(root)[1]["problems"][0]


def test_rendered_videos_need_none(tmp_path):
    said = io.StringIO()
    config = schema.from_flat({"data.builder": "synthetic"})
    pipeline.bring_up_to_date("check", config=config, workdir=tmp_path, log=RunLog(terminal=said))
    assert "nothing to check" in said.getvalue()


def test_data_without_labels_are_checked_prepared_and_adapted_on_alone(tmp_path, monkeypatch):
    for i in range(4):
        pictures(tmp_path / "data" / f"drive{i}", i)
    said = io.StringIO()
    config = schema.from_flat({"data.root": str(tmp_path / "data"), "data.builder": "bdd100k", "encoder.arch": "r2plus1d_tiny",
                               "encoder.weights": "random", "adapt.steps": 2})
    lines = "".join(f'{{"step": {step}, "loss": 1.5}}\n' for step in (1, 2))
    adapt = pipeline.STAGES["adapt"]._replace(run=lambda job: (job.out / "log.jsonl").write_text(lines))
    monkeypatch.setitem(pipeline.ADAPTATION_STAGES, "adapt", adapt)
    pipeline.bring_up_to_date("all", config=config, workdir=tmp_path / "work", log=RunLog(terminal=said))
    assert "no segment to evaluate is labelled abnormal" in said.getvalue()
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"check", "prepare", "adapt", "report"}
    page = (tmp_path / "work" / "report" / "index.html").read_text()
    assert page.count("<img") == 1 and "adapted in 2 steps of 8 clips" in page and "the trained one, behind the last step, 2." in page
    with pytest.raises(UsageError, match="--stage=evaluate: nothing in a data set of config.data.builder='bdd100k' is labelled abnormal"):
        pipeline.refuse("evaluate", config)
