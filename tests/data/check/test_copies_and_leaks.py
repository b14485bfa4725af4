"""Copies of one video, and what is on both sides, against slow references."""

import io
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from acx_jax.contracts import TO_THE_END, Segment
from acx_jax.data.check.copies import _candidates, contradictions, find_copies, in_blocks, probe_small
from acx_jax.data.check.leaks import audit, possible_episodes
from acx_jax.data.episodes import largest_queries
from acx_jax.data.probe import look_closer, probe
from acx_jax.errors import UsageError

sys.path.insert(0, str(Path(__file__).parents[1]))
from media import grey_frames, write_frames, write_video  # noqa: E402


def looks(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (3, 12, 16)).astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(x).resize((320, 240), Image.Resampling.BICUBIC)) for x in coarse])


def encoded_anew(video: np.ndarray) -> np.ndarray:
    def once(image: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=60)
        return np.asarray(Image.open(file))
    return np.stack([once(image) for image in video])


def test_same_bytes_and_same_pictures(tmp_path):
    paths = []
    for name, text in (("a", "one"), ("b", "two"), ("c", "one"), ("d", "six")):
        paths.append(tmp_path / name)
        paths[-1].write_text(text)
    videos = [looks(0), looks(1), looks(0), encoded_anew(looks(1))]
    closer = lambda asked: ((place, videos[paths.index(path)][:, None].repeat(3, axis=1)) for place, path in reversed(list(enumerate(asked))))
    found = find_copies(paths, [3, 3, 3, 3], videos, [50, 100, 50, 101], [25] * 4, closer=closer)
    assert found == [((0, 2), True, False), ((1, 3), False, False)]
    assert find_copies(paths, [3, 3, 3, 3], videos, [50, 100, 50, 150], [25] * 4, closer=closer) == [((0, 2), True, False)]
    assert find_copies(paths, [3, 3, 3, 3], [in_blocks(video) for video in videos], [50, 100, 50, 101], [25] * 4, closer=closer) == found


def street(seed: int, size: int, path: tuple[int, int], frames: int = 60) -> list[np.ndarray]:
    """One camera's view, and one small walker on it, at 320 x 240."""
    view, rng = looks(seed)[0], np.random.default_rng(path[0])
    found = []
    for i in range(frames):
        frame, x = np.repeat(view[..., None], 3, axis=2), 10 + (path[0] + i * path[1]) % 290
        frame[120:120 + size, x:x + size] = 255 - frame[120:120 + size, x:x + size] // 2
        found.append(np.clip(frame + rng.normal(0, 1.5, frame.shape), 0, 255).astype(np.uint8))
    return found


def test_videos_of_one_still_camera_are_not_copies_and_one_encoded_anew_is(tmp_path):
    files = {"one": (street(0, 10, (0, 3)), {}), "other": (street(0, 10, (200, -2)), {}), "standing": (street(0, 10, (100, 0)), {}),
             "again.mkv": (street(0, 10, (0, 3)), {"rate": 25, "bit_rate": 300_000})}
    paths = [write_video(tmp_path / (name if "." in name else f"{name}.mp4"), frames, **options) for name, (frames, options) in files.items()]
    probes = [probe(path) for path in paths]
    assert copies_of(paths, probes) == [((0, 3), False, False)]


def copies_of(paths: list[Path], probes: list) -> list:
    return find_copies(paths, [p.bytes for p in probes], [p.looks for p in probes], [p.frames for p in probes], [p.fps for p in probes],
                       closer=lambda asked: enumerate(map(look_closer, asked)))


def relit(frames: list[np.ndarray], gain: float, offset: float) -> list[np.ndarray]:
    return [(frame * gain + offset).clip(0, 255).astype(np.uint8) for frame in frames]


def resized(frames: list[np.ndarray], width: int, height: int) -> list[np.ndarray]:
    return [np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)) for frame in frames]


def test_copies_in_another_light_rate_and_size_are_found_and_other_walkers_in_another_light_are_not(tmp_path):
    walk, back = street(0, 10, (0, 3)), street(0, 10, (200, -2))
    files = {"walk": (walk, 25), "back": (back, 25), "dark": (relit(walk, 0.5, 20), 25), "slow": (walk[::2], 25 / 2), "small": (resized(walk, 160, 120), 25),
             "all": (resized(relit(walk[::2], 0.7, 30), 200, 150), 25 / 2), "dark back": (relit(back, 0.5, 20)[::2], 25 / 2), "shorter": (walk[:40], 25)}
    paths = [write_video(tmp_path / f"{name}.mp4", frames, rate=Fraction(rate)) for name, (frames, rate) in files.items()]
    assert copies_of(paths, [probe(path) for path in paths]) == [((0, 2, 3, 4, 5), False, False), ((1, 6), False, False)]


def test_empty_pictures_of_other_brightness_are_no_copies(tmp_path):
    levels = [np.full((3, 240, 320), level, np.uint8) for level in (50, 90)]
    paths = [tmp_path / "a", tmp_path / "b"]
    assert find_copies(paths, [1, 2], levels, [9, 9], [25, 25], closer=lambda asked: enumerate(levels[paths.index(path)][:, None].repeat(3, axis=1) for path in asked)) == []


def test_three_of_the_same_bytes_are_one_group(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text("one")
    assert find_copies(paths, [3] * 3, [looks(0)] * 3, [9] * 3, [0] * 3, closer=enumerate) == [((0, 1, 2), True, False)]


def test_candidates_are_those_of_a_slow_comparison():
    """Of pictures that differ by about as much as candidates may, in several contrasts."""
    rng = np.random.default_rng(0)
    first = [in_blocks(looks(seed)) for seed in range(4)]
    videos = [np.clip(first[i % 4] * rng.uniform(0.5, 1) + rng.normal(0, rng.uniform(0, 5), first[0].shape), 0, 255).astype(np.uint8) for i in range(40)]
    found = []
    for i, j in ((i, j) for j in range(40) for i in range(j)):
        a, b = videos[i].astype(float), videos[j].astype(float)
        difference = ((a - a.mean()) / a.std() - (b - b.mean()) / b.std()) * max(a.std(), b.std())
        coarse = np.abs((difference.reshape(3, 6, 5, 8, 5)).mean(axis=(2, 4))).mean()
        found += [(i, j)] if coarse < 2.0 and np.abs(difference).max(axis=(1, 2)).min() < 16.0 else []
    assert _candidates(videos, [9] * 40, [25.0] * 40) == found and 20 < len(found) < 39 * 10


def test_a_small_look_is_what_is_compared_of_a_look(tmp_path):
    write_video(tmp_path / "a.mp4", grey_frames(40), rate=20)
    small, whole = probe_small(tmp_path / "a.mp4"), probe(tmp_path / "a.mp4")
    assert small[:6] == whole[:6] and np.array_equal(small.looks, in_blocks(whole.looks)) and small.looks.shape == (3, 30, 40)
    assert len(probe_small(tmp_path / "absent").looks) == 0


def test_a_closer_look_goes_over_the_whole_video(tmp_path):
    frames = grey_frames(120, step=2)
    write_video(tmp_path / "v.mp4", frames)
    write_frames(tmp_path / "f", frames)
    for path in (tmp_path / "v.mp4", tmp_path / "f"):
        seen = look_closer(path)
        levels = seen.mean(axis=(2, 3)) / 2
        assert seen.shape == (16, 3, 240, 320) and np.abs(levels[:, 0] - (np.arange(16) + 0.5) * 7.5).max() < 2
        assert np.allclose(np.diff(levels, axis=1), 1, atol=0.6)
    write_video(tmp_path / "short.mp4", frames[:2])
    assert look_closer(tmp_path / "short.mp4").shape == (16, 3, 240, 320)
    (tmp_path / "text.mp4").write_text("no video")
    assert len(look_closer(tmp_path / "text.mp4")) == 0


def test_a_passer_by_makes_another_video(tmp_path):
    (tmp_path / "a").write_text("x")
    walked = looks(0)
    walked[:, 100:180, 40:70] = 255 - walked[:, 100:180, 40:70]
    assert find_copies([tmp_path / "a"] * 2, [1, 2], [looks(0), walked], [9, 9], [0, 0], closer=enumerate) == []


def test_nothing_to_compare(tmp_path):
    nothing = np.zeros((0, 1, 320), np.uint8)
    assert find_copies([tmp_path / "absent"] * 2, [0, 0], [nothing] * 2, [0, 0], [0, 0], closer=enumerate) == []
    assert find_copies([], [], [], [], [], closer=enumerate) == []


@pytest.mark.parametrize("other, against", [(Segment("b", 20, 40, 1), 1), (Segment("b", 31, 40, 1), 0), (Segment("b", 0, -1, 1), 1),
                                            (Segment("b", 20, 40, 0), 0)])
def test_what_contradicts(other, against):
    assert len(contradictions([[Segment("a", 10, 30, 0)], [other]], [0.0, 0.0])) == against


@pytest.mark.parametrize("start, end, against", [(0, 15, 1), (16, 30, 0), (15, 30, 0), (14, 30, 1), (31, TO_THE_END, 0), (0, TO_THE_END, 1)])
def test_what_contradicts_at_another_rate(start, end, against):
    """Normal from second 0 to 1.24 at 25 frames a second, abnormal at 12.5."""
    assert len(contradictions([[Segment("a", 0, 30, 0)], [Segment("b", start, end, 1)]], [25.0, 12.5])) == against


drawn_segments = st.lists(st.builds(
    lambda v, label, split, kind, s: Segment(f"v{v}", 0, 9, label, category=kind if label else "", source=s, split=split),
    st.integers(0, 8), st.integers(0, 1), st.sampled_from(["adapt", "evaluate"]), st.sampled_from(["a", "b"]), st.sampled_from(["", "s", "t"])),
    min_size=1, max_size=25)


@settings(deadline=None)
@given(drawn_segments)
def test_the_audit_against_a_slow_one(segments):
    sides = {name: [s for s in segments if s.split == name] for name in ("adapt", "evaluate")}
    found = audit(segments)
    assert set(found.videos) == {a.video for a in sides["adapt"] for b in sides["evaluate"] if a.video == b.video}
    source = lambda s: s.source or s.video
    assert set(found.sources) == {source(a) for a in sides["adapt"] for b in sides["evaluate"] if source(a) == source(b)}
    counts = Counter(map(source, sides["evaluate"]))
    assert found.siblings == sum(counts[source(s)] > 1 for s in sides["evaluate"])


@settings(deadline=None, max_examples=40)
@given(drawn_segments, st.sampled_from(["disjoint", "published"]))
def test_possible_episodes_are_those_that_can_be_drawn(segments, protocol):
    rows = possible_episodes(segments, shots=(1, 2), most=(3, 3), protocol=protocol)
    assert rows[0].category == "all"
    for row in rows:
        own = [s for s in segments if s.split == "evaluate" and (s.label == 0 or row.category in ("all", s.category))]
        for shot, queries in row.queries.items():
            try:
                assert queries == largest_queries(own, shot=shot, queries=(3, 3), protocol=protocol)
            except UsageError:
                assert queries == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("folder, pattern", [("dad_dashcam", "*/*.mp4"), ("cctv_accident", "frames/*"), ("ucsd_ped1", "frames/*")])
def test_no_real_video_is_accused(real_data, folder, pattern):
    paths = sorted((real_data / folder).glob(pattern))
    assert len(paths) > 10 and copies_of(paths, [probe(path) for path in paths]) == []
