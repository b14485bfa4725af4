from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from acx_jax.contracts import ABNORMAL, NORMAL, Segment
from acx_jax.data.splits import assign_splits

VIDEOS = st.lists(st.lists(st.sampled_from([NORMAL, ABNORMAL]), min_size=1, max_size=4), min_size=1, max_size=30)
SHARES = st.floats(0, 0.9)
SEEDS = st.integers(0, 2**32 - 1)


def _segments(videos: list[list[int]]) -> list[Segment]:
    return [Segment(f"v{v}", 10 * i, 10 * i + 9, label) for v, labels in enumerate(videos) for i, label in enumerate(labels)]


def _videos(segments, split: str) -> set[str]:
    return {s.video for s in segments if s.split == split}


@given(VIDEOS, SHARES, SEEDS)
def test_no_video_on_both_sides_and_one_at_least_evaluates(videos, share, seed) -> None:
    split = assign_splits(_segments(videos), adapt_share=share, seed=seed)
    adapt, evaluate = _videos(split, "adapt"), _videos(split, "evaluate")
    assert not adapt & evaluate and evaluate
    assert all(s.split in ("adapt", "evaluate") for s in split)


@given(VIDEOS, SHARES, SEEDS)
def test_only_abnormal_segments_of_adaptation_videos_are_left_out(videos, share, seed) -> None:
    segments = _segments(videos)
    split = assign_splits(segments, adapt_share=share, seed=seed)
    adapt = _videos(split, "adapt")
    assert [s._replace(split="") for s in split] == [s for s in segments if s.video not in adapt or s.label == NORMAL]


@given(VIDEOS, SHARES, SEEDS)
def test_purely_normal_videos_adapt_first(videos, share, seed) -> None:
    adapt = _videos(assign_splits(_segments(videos), adapt_share=share, seed=seed), "adapt")
    pure = {f"v{i}" for i, labels in enumerate(videos) if ABNORMAL not in labels}
    assert adapt <= pure or pure <= adapt


@given(VIDEOS, SHARES, SEEDS)
def test_the_share_is_met_where_enough_videos_have_a_normal_segment(videos, share, seed) -> None:
    adapt = _videos(assign_splits(_segments(videos), adapt_share=share, seed=seed), "adapt")
    able = sum(NORMAL in labels for labels in videos)
    assert len(adapt) == max(0, min(round(share * len(videos)), able - 1))


def test_the_seed_decides_and_repeats() -> None:
    segments = _segments([[NORMAL, ABNORMAL]] * 30)
    drawn = [_videos(assign_splits(segments, adapt_share=0.3, seed=seed), "adapt") for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and len(drawn[0]) == 9


def test_row_order_does_not_change_the_draw() -> None:
    segments = _segments([[NORMAL, ABNORMAL]] * 30)
    assert (_videos(assign_splits(segments, adapt_share=0.3, seed=4), "adapt")
            == _videos(assign_splits(segments[::-1], adapt_share=0.3, seed=4), "adapt"))


def test_the_table_decides_where_it_says() -> None:
    segments = [Segment("a", 0, 9, NORMAL, split="adapt"), Segment("a", 10, 19, ABNORMAL, split="adapt"), Segment("b", 0, 9, NORMAL),
                Segment("c", 0, 9, ABNORMAL, split="evaluate")]
    split = assign_splits(segments, adapt_share=0.9, seed=0)
    assert [(s.video, s.label, s.split) for s in split] == [("a", 0, "adapt"), ("b", 0, "evaluate"), ("c", 1, "evaluate")]


@given(VIDEOS, SHARES, SEEDS, st.integers(1, 5))
def test_sources_are_never_parted(videos, share, seed, sources) -> None:
    segments = [s._replace(source=f"s{int(s.video[1:]) % sources}", split="evaluate") for s in _segments(videos)]
    split = assign_splits(segments, adapt_share=share, seed=seed, how="source")
    sides = [{s.source for s in split if s.split == side} for side in ("adapt", "evaluate")]
    assert not sides[0] & sides[1] and sides[1]
    assert [s for s in split if s.split == "evaluate"] == [s for s in segments if s.source in sides[1]]


@given(VIDEOS, SEEDS)
def test_the_published_way_adapts_on_all_normal_segments_and_evaluates_all(videos, seed) -> None:
    segments = [s._replace(split="adapt") if s.video == "v0" else s for s in _segments(videos)]
    split = assign_splits(segments, adapt_share=0.3, seed=seed, how="published")
    assert [s._replace(split="") for s in split if s.split == "adapt"] == [s._replace(split="") for s in segments if s.label == NORMAL]
    assert [s._replace(split="") for s in split if s.split == "evaluate"] == [s for s in segments if s.video != "v0"]
