"""The procedural data set: the same every time, resumable, and without a way to the label but the event itself."""

import csv
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from acx_jax.data.builders import synthetic
from acx_jax.data.builders.scenes import camera, events, impact, traffic, world
from acx_jax.data.builders.scenes.encode import write_mp4
from acx_jax.data.builders.scenes.script import Clip

TOY = {"seed": 3, "videos": 4, "size": (64, 48), "frames": (12, 16)}
SEEN = 32  # videos of the statistical tests


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def _rows(root: Path) -> list[dict[str, str]]:
    with (root / "segments.csv").open() as table:
        return list(csv.DictReader(table))


def _frame_count(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    synthetic.write_videos(root, **TOY)
    return root


class Labelled(NamedTuple):
    """S labelled segments: video [S], label [S], mean colour [S, 3], how hard somebody is thrown about [S], length [S, 1]."""

    video: np.ndarray
    label: np.ndarray
    colour: np.ndarray
    violence: np.ndarray
    length: np.ndarray


@pytest.fixture(scope="module")
def drawn() -> list[tuple[Clip, np.ndarray]]:
    """Clips, and the mean colour [T, 3] of each frame."""
    kinds = synthetic.event_kinds(0, SEEN)
    videos = [synthetic.draw_video(0, i, event=kind, size=(48, 32), frames=(12, 16)) for i, kind in enumerate(kinds)]
    return [(clip, np.stack([picture.mean(axis=(0, 1)) for picture in pictures])) for clip, pictures in videos]


@pytest.fixture(scope="module")
def clips(drawn: list[tuple[Clip, np.ndarray]]) -> list[Clip]:
    return [clip for clip, _ in drawn]


@pytest.fixture(scope="module")
def segments(drawn: list[tuple[Clip, np.ndarray]]) -> Labelled:
    rows = []
    for video, (clip, colours) in enumerate(drawn):
        for label, (start, stop) in enumerate(_ranges(clip)):
            violence = _violence(clip.motions[start:stop])
            rows.append((video, label, colours[start:stop].mean(axis=0), violence, [float(stop - start)]))
    return Labelled(*(np.array(column) for column in zip(*rows)))


def _ranges(clip: Clip) -> list[tuple[int, int]]:
    first = [(0, clip.first)]
    return first + [(clip.first, clip.first + clip.second)] if clip.event else first


def _violence(motions: tuple[traffic.Motion, ...]) -> float:
    """The largest change of anybody's velocity between two frames, m/s."""
    velocity = np.stack([motion.velocity for motion in motions])
    return float(np.linalg.norm(np.diff(velocity, axis=0), axis=2).max())


def _auroc(features: np.ndarray, segments: Labelled) -> float:
    """Of a logistic regression on features [S, F], cross-validated so that no video is on both sides."""
    scores = (features - features.mean(axis=0)) / features.std(axis=0)
    model, folds = LogisticRegression(class_weight="balanced"), GroupKFold(6)
    found = cross_val_predict(model, scores, segments.label, groups=segments.video, cv=folds, method="decision_function")
    return roc_auc_score(segments.label, found)


def _chance(labels: np.ndarray) -> tuple[float, float]:
    """0.5 give or take 2.6 standard deviations of the AUROC of scores that know nothing (Mann and Whitney, 1947): 99 %."""
    ones = labels.sum()
    width = 2.6 * np.sqrt((len(labels) + 1) / (12 * ones * (len(labels) - ones)))
    return 0.5 - width, 0.5 + width


def test_same_seed_same_bytes(written: Path, tmp_path: Path) -> None:
    synthetic.write_videos(tmp_path, **TOY)
    assert _files(tmp_path) == _files(written)


def test_other_seed_replaces_the_files(written: Path, tmp_path: Path) -> None:
    small = TOY | {"videos": 1}
    synthetic.write_videos(tmp_path, **small)
    before = _files(tmp_path)
    synthetic.write_videos(tmp_path, **small | {"seed": 4})
    after = _files(tmp_path)
    assert before.keys() == after.keys() and before["videos/scene_0000.mp4"] != after["videos/scene_0000.mp4"]


def test_processes_write_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"seed": 1, "videos": 4, "size": (32, 32), "frames": (8, 9)}
    synthetic.write_videos(tmp_path / "alone", **settings)
    monkeypatch.setattr(synthetic, "_VIDEOS_A_WORKER", 2)
    monkeypatch.setattr(synthetic.os, "cpu_count", lambda: 2)
    synthetic.write_videos(tmp_path / "together", **settings)
    assert _files(tmp_path / "alone") == _files(tmp_path / "together")


def test_table_fits_the_files(written: Path) -> None:
    rows = _rows(written)
    assert {row["video"] for row in rows} == {f"videos/scene_{i:04d}.mp4" for i in range(TOY["videos"])}
    for row in rows:
        length = int(row["end"]) - int(row["start"]) + 1
        assert TOY["frames"][0] <= length <= TOY["frames"][1]
        assert int(row["end"]) < _frame_count(written / row["video"])
        assert (row["category"] == "none") <= (row["label"] == "normal")
    assert len({row["source"] for row in rows}) == TOY["videos"]


def test_abnormal_follows_normal_at_once(written: Path) -> None:
    normal = {row["video"]: row for row in _rows(written) if row["label"] == "normal"}
    abnormal = [row for row in _rows(written) if row["label"] == "abnormal"]
    assert len(normal) == TOY["videos"] and len(abnormal) == TOY["videos"] // 2
    for row in abnormal:
        assert int(row["start"]) == int(normal[row["video"]]["end"]) + 1
        assert row["category"] == normal[row["video"]]["category"]


def test_half_have_events_of_all_kinds() -> None:
    kinds = synthetic.event_kinds(0, 60)
    assert kinds.count("") == 30 and {kinds.count(kind) for kind in events.EVENTS} == {7, 8}
    assert kinds != synthetic.event_kinds(1, 60)


def test_resumes_after_a_stop(written: Path, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        synthetic.write_videos(tmp_path, **TOY, progress=stop)
    kept = tmp_path / "videos" / "scene_0000.mp4"
    (tmp_path / "videos" / ".scene_0002.mp4.1.part").write_bytes(b"half a video")
    stamp = kept.stat().st_mtime_ns
    assert not (tmp_path / "segments.csv").exists()
    synthetic.write_videos(tmp_path, **TOY)
    assert kept.stat().st_mtime_ns == stamp
    assert _files(tmp_path) == _files(written)


def test_finished_set_is_left_alone(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "draw_clip", lambda *_, **__: pytest.fail("drawn again"))
    synthetic.write_videos(written, **TOY)


def test_broken_encoding_leaves_no_video(tmp_path: Path) -> None:
    def frames():
        yield np.zeros((32, 32, 3), np.uint8)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_mp4(tmp_path / "a.mp4", frames(), (32, 32))
    assert not (tmp_path / "a.mp4").exists()


def test_event_and_no_event_share_all_before_it() -> None:
    plain, eventful = (synthetic.draw_video(5, 0, event=kind, size=(64, 48), frames=(12, 16))[0] for kind in ("", "collision"))
    assert (plain.first, plain.second, len(plain.motions)) == (eventful.first, eventful.second, len(eventful.motions))
    for one, two in zip(plain.motions[: plain.first], eventful.motions[: plain.first]):
        np.testing.assert_array_equal(one.position, two.position)


def test_mean_colour_tells_nothing(segments: Labelled) -> None:
    low, high = _chance(segments.label)
    assert low < _auroc(segments.colour, segments) < high


def test_colour_check_would_notice_a_cue(segments: Labelled) -> None:
    tinted = segments.colour + 60.0 * segments.label[:, None]
    assert _auroc(tinted, segments) > _chance(segments.label)[1]


def test_length_tells_nothing(segments: Labelled) -> None:
    low, high = _chance(segments.label)
    assert low < _auroc(segments.length, segments) < high


def test_events_throw_vehicles_about(segments: Labelled) -> None:
    assert roc_auc_score(segments.label, segments.violence) > 0.9


def test_nobody_collides_in_ordinary_traffic(clips: list[Clip]) -> None:
    """Vehicles of the normal part stay apart wherever the picture may show them."""
    deep = [_deepest(clip, clip.motions[frame]) for clip in clips[:20] for frame in range(0, clip.first, 5)]
    assert np.mean(np.array(deep) > 0.3) < 0.02


def _deepest(clip: Clip, motion: traffic.Motion) -> float:
    vehicles = np.flatnonzero((clip.users.size[:, 1] > 1) & (np.linalg.norm(motion.position, axis=1) < 20))
    boxes = impact.corners(clip.users.size[vehicles], motion.position[vehicles], motion.heading[vehicles])
    pairs = [(i, j) for i in range(len(vehicles)) for j in range(i)]
    return max((impact.overlap(boxes[i], boxes[j])[0] for i, j in pairs), default=0.0)


def test_junctions_differ() -> None:
    shapes = {len(world.draw_junction(np.random.default_rng(seed)).angles) for seed in range(30)}
    assert shapes == {2, 3, 4}


def test_overlap_of_rectangles() -> None:
    square = impact.corners(np.array([2.0, 2.0, 1.0]), np.zeros(2), np.array(0.0))
    depth, normal = impact.overlap(square, square + [1.5, 0.2])
    assert depth == pytest.approx(0.5) and normal == pytest.approx([1, 0])
    assert impact.overlap(square, square + [0, 2.5])[0] == pytest.approx(-0.5)


def test_camera_finds_the_ground_it_draws() -> None:
    view = camera.draw_camera(np.random.default_rng(0), np.array([1.0, -2.0]), (64, 48))
    points = camera.ground(view)
    spots, depth = camera.project(view, np.concatenate([points, np.zeros((*points.shape[:2], 1))], axis=-1))
    rows, columns = np.indices(points.shape[:2])
    assert (depth > 0).all()
    np.testing.assert_allclose(spots, np.stack([columns, rows], axis=-1) + 0.5, atol=1e-6)
