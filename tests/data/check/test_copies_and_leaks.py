"""Copies of one video, and what is on both sides, against slow references."""

import io
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from acx_jax.contracts import Segment
from acx_jax.data.check.copies import contradictions, find_copies
from acx_jax.data.check.leaks import audit, possible_episodes
from acx_jax.data.episodes import largest_query
from acx_jax.errors import UsageError


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
    found = find_copies(paths, [3, 3, 3, 3], videos, [50, 100, 50, 101])
    assert found == [(0, 2, True), (1, 3, False)]
    assert find_copies(paths, [3, 3, 3, 3], videos, [50, 100, 50, 150]) == [(0, 2, True)]


def test_a_passer_by_makes_another_video(tmp_path):
    (tmp_path / "a").write_text("x")
    walked = looks(0)
    walked[:, 100:180, 40:70] = 255 - walked[:, 100:180, 40:70]
    assert find_copies([tmp_path / "a"] * 2, [1, 2], [looks(0), walked], [9, 9]) == []


def test_nothing_to_compare(tmp_path):
    nothing = np.zeros((0, 1, 320), np.uint8)
    assert find_copies([tmp_path / "absent"] * 2, [0, 0], [nothing] * 2, [0, 0]) == []
    assert find_copies([], [], [], []) == []


@pytest.mark.parametrize("other, against", [(Segment("b", 20, 40, 1), 1), (Segment("b", 31, 40, 1), 0), (Segment("b", 0, -1, 1), 1),
                                            (Segment("b", 20, 40, 0), 0)])
def test_what_contradicts(other, against):
    assert len(contradictions([Segment("a", 10, 30, 0)], [other])) == against


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
    rows = possible_episodes(segments, shots=(1, 2), most=3, protocol=protocol)
    assert rows[0].category == "all"
    for row in rows:
        own = [s for s in segments if s.split == "evaluate" and (s.label == 0 or row.category in ("all", s.category))]
        for shot, query in row.queries.items():
            try:
                assert query == largest_query(own, shot=shot, query=3, protocol=protocol)
            except UsageError:
                assert query == 0
