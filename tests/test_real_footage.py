"""Real labelled videos, the whole way with small settings. The data is not in the repository; its numbers mean nothing here."""

import json
from pathlib import Path

import numpy as np
import pytest

SMALL = ("--config.encoder.arch=r2plus1d_tiny", "--config.encoder.weights=random", "--config.data.short_side=40",
         "--config.encoder.crop=32", "--config.encoder.stage=", "--config.adapt.freeze=", "--config.data.max_adapt_frames=64",
         "--config.adapt.steps=2", "--config.adapt.batch=4",
         "--config.adapt.queue=16", "--config.embed.batch=32", "--config.episodes.count=8", "--config.learners.mcp.hidden=32",
         "--config.learners.mcp.groups=8", "--config.learners.mcp.epochs=3", "--config.learners.linear.epochs=3", "--config.report.samples=1")


@pytest.mark.slow
@pytest.mark.parametrize("name, shot, options", [
    ("dad_dashcam", 1, ("--config.episodes.shot=1", "--config.episodes.query=4")),
    ("ucsd_ped1", 5, ()),
    ("cctv_accident", 5, ()),
])
def test_real_footage(acx, real_data, tmp_path, name, shot, options):
    root = real_data / name
    done = acx("--config=configs/folder.py", f"--config.data.root={root}", f"--workdir={tmp_path}/{name}", *SMALL, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    workdir = tmp_path / name
    check_results(workdir, shot)
    check_episodes(workdir)
    page = (workdir / "report" / "index.html").read_text(encoding="utf-8")
    assert "mcp" in page and (workdir / "report" / "report.md").is_file()


def check_results(workdir: Path, shot: int) -> None:
    rows = json.loads((workdir / "evaluate" / "results.json").read_text())
    assert len(rows) == 10
    for row in rows:
        assert row["shot"] == shot and row["query"] >= 1 and row["episodes"] == 8
        assert all(0 <= row[key] <= 1 for key in ("accuracy", "auroc", "average_precision", "recall_normal", "recall_abnormal"))


def check_episodes(workdir: Path) -> None:
    """Asserts that no episode has a video or a source on both sides, and none that was adapted on."""
    stored = [item["segment"] for item in json.loads((workdir / "prepare" / "segments.json").read_text())["segments"]]
    segments = [segment for segment in stored if segment["split"] == "evaluate"]
    adapted_on = {segment["video"] for segment in stored if segment["split"] == "adapt"}
    assert not adapted_on & {segment["video"] for segment in segments}
    episodes = np.load(workdir / "evaluate" / "episodes.npz")
    for support, query in zip(episodes["support"], episodes["query"], strict=True):
        for key in ("video", "source"):
            assert not named(segments, support, key) & named(segments, query, key)
        assert len(set(support) | set(query)) == len(support) + len(query)
        for side in (support, query):
            labels = [segments[i]["label"] for i in side]
            assert labels == [0] * (len(side) // 2) + [1] * (len(side) // 2)


def named(segments: list[dict], indices: np.ndarray, key: str) -> set[str]:
    return {segments[i][key] for i in indices if segments[i][key]}
