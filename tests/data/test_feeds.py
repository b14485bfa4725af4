from __future__ import annotations

import itertools
from pathlib import Path

import grain
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acx_jax.contracts import NORMAL, Clips, Segment, StoredSegment
from acx_jax.data import feeds, prepared
from acx_jax.data.feeds import Process, clips_feed, draw_clips, draw_wrapping_clips, square_crop, square_squeeze
from acx_jax.errors import UsageError

LENGTH = 8


def adaptation(coded: Path, **changes) -> list[Clips]:
    options = dict(length=LENGTH, batch=6, steps=12, seed=3, negative="apart", square="random") | changes
    return list(clips_feed(coded, prepared.load(coded)[0], **options))


def same(one: list, other: list) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for x, y in zip(one, other) for a, b in zip(x, y))


def test_clips_are_consecutive_frames_of_one_normal_segment(coded: Path) -> None:
    adapt = [s.segment for s in prepared.load(coded)[0] if s.segment.split == "adapt"]
    order = list(dict.fromkeys(s.video for s in adapt))
    for batch in adaptation(coded):
        assert batch.anchor.shape == batch.negative.shape == (6, LENGTH, 16, 16, 3) and batch.anchor.dtype == np.uint8
        assert batch.has_negative.dtype == bool and batch.video.dtype == np.int32
        for anchor, negative, video in zip(batch.anchor, batch.negative, batch.video):
            for clip in (anchor, negative):
                numbers = clip[:, 0, 0, 1].astype(int)
                assert np.all(clip[..., 0] == int(order[video])) and np.all(np.diff(numbers) == 1)
                assert any(s.start <= numbers[0] and numbers[-1] <= s.end for s in adapt if s.video == order[video])


def test_the_negative_shares_no_frame_with_the_anchor(coded: Path) -> None:
    batches = adaptation(coded, steps=20)
    for batch in batches:
        apart = np.abs(batch.anchor[:, 0, 0, 0, 1].astype(int) - batch.negative[:, 0, 0, 0, 1]) >= LENGTH
        assert np.array_equal(apart, batch.has_negative)
    videos, has = (np.concatenate([getattr(b, name) for b in batches]) for name in ("video", "has_negative"))
    assert has[videos < 3].mean() > 0.9 and not has[videos == 3].any()


def test_both_clips_are_cropped_alike_and_offsets_vary(coded: Path) -> None:
    columns = [(a[0, 0, 0, 2], n[0, 0, 0, 2]) for b in adaptation(coded) for a, n in zip(b.anchor, b.negative)]
    assert all(a == n for a, n in columns) and {a for a, _ in columns} == set(range(9))


def test_every_epoch_takes_each_video_once_in_a_new_order(coded: Path) -> None:
    videos = np.concatenate([b.video for b in adaptation(coded)]).reshape(-1, 4)
    assert all(sorted(epoch) == [0, 1, 2, 3] for epoch in videos.tolist()) and len({tuple(e) for e in videos.tolist()}) > 3


def test_clips_follow_from_seed_and_sample_number_alone(coded: Path) -> None:
    whole = adaptation(coded)
    assert same(adaptation(coded), whole) and not same(adaptation(coded, seed=4), whole)
    assert all(same(adaptation(coded, start_step=start), whole[start:]) for start in (1, 5, 11, 12))
    flat = [np.concatenate([b.anchor for b in batches]) for batches in (whole, adaptation(coded, batch=4, steps=18))]
    assert np.array_equal(*flat)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_the_parts_of_several_processes_are_the_batches_of_one(coded: Path, count: int) -> None:
    whole = adaptation(coded, steps=8)
    parts = [adaptation(coded, steps=8, process=Process(i, count), start_step=0) for i in range(count)]
    assert same([Clips(*map(np.concatenate, zip(*of_step))) for of_step in zip(*parts)], whole)
    assert same(adaptation(coded, steps=8, process=Process(1, count), start_step=5), parts[1][5:])
    with pytest.raises(ValueError, match="batch of 6 cannot be shared equally by 4"):
        adaptation(coded, process=Process(0, 4))


@pytest.mark.parametrize("threads", [0, 1, 7])
def test_any_number_of_reading_threads_gives_the_same(coded: Path, threads: int, monkeypatch) -> None:
    expected = adaptation(coded, steps=8)
    monkeypatch.setattr(feeds, "_THREADS", grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
    assert same(adaptation(coded, steps=8), expected)


def test_no_clip_to_adapt_on_is_the_users_mistake(coded: Path) -> None:
    with pytest.raises(UsageError, match="no normal segment of 101 frames.*adapt_share.*adapt.steps=0"):
        adaptation(coded, length=101)


SEGMENTS = st.lists(st.tuples(st.integers(0, 60), st.integers(5, 30)), min_size=1, max_size=4)


@given(SEGMENTS, st.integers(1, 5), st.integers(0, 1000))
def test_drawn_clips_lie_in_their_segments_and_apart(places, length: int, seed: int) -> None:
    segments = [StoredSegment(Segment("v", start, start + frames - 1, NORMAL), frames, 0, 1) for start, frames in places]
    anchor, negative = draw_clips(segments, length, np.random.default_rng(seed))
    in_video = [segments[i].segment.start + at for i, at in (anchor, negative or anchor)]
    assert all(0 <= at <= segments[i].frames - length for i, at in (anchor, negative or anchor))
    starts = [s.segment.start + at for s in segments for at in range(s.frames - length + 1)]
    assert (negative is not None) == any(abs(start - in_video[0]) >= length for start in starts)
    assert negative is None or abs(in_video[1] - in_video[0]) >= length


def test_anchors_are_uniform_over_segments_by_frames() -> None:
    segments = [StoredSegment(Segment("v", start, start + n - 1, NORMAL), n, 0, 1) for start, n in ((0, 10), (50, 30))]
    rng = np.random.default_rng(0)
    drawn = [draw_clips(segments, 8, rng)[0] for _ in range(4000)]
    assert abs(np.mean([i for i, _ in drawn]) - 0.75) < 0.03
    starts = np.bincount([at for i, at in drawn if i == 1], minlength=23)
    assert len(starts) == 23 and starts.min() > 80


@pytest.mark.parametrize("height, width", [(16, 24), (24, 16), (16, 16), (17, 30)])
def test_crops(height: int, width: int) -> None:
    frames = np.arange(height * width).reshape(1, height, width, 1)
    side = min(height, width)
    for share in (0.0, 0.5, 0.999):
        assert square_crop(frames, share).shape == (1, side, side, 1)
    assert square_crop(frames, 0.999)[0, -1, -1, 0] == frames[0, -1, -1, 0] and square_crop(frames, 0)[0, 0, 0, 0] == 0


def test_feeds_are_lazy(coded: Path) -> None:
    feed = clips_feed(coded, prepared.load(coded)[0], length=LENGTH, batch=2, steps=10**9, seed=0, negative="apart", square="random")
    assert len(list(itertools.islice(feed, 3))) == 3


def test_published_negatives_wrap_round_and_share_frames_where_ours_never_do() -> None:
    segments, rng = [StoredSegment(Segment("v", 0, 29, NORMAL), 30, 0, 1)], np.random.default_rng(0)
    shared = {draw: 0 for draw in (draw_clips, draw_wrapping_clips)}
    wrapped = 0
    for draw in shared:
        for _ in range(1000):
            (_, anchor), (_, negative) = draw(segments, 8, rng)
            frames = [set((start + np.arange(8)) % 30) for start in (anchor, negative)]
            shared[draw] += bool(frames[0] & frames[1])
            wrapped += negative + 8 > 30
            assert abs(anchor - negative) >= 2 and anchor + 8 <= 30
    assert shared[draw_clips] == 0 and shared[draw_wrapping_clips] > 300 and wrapped > 0


def test_wrapping_clips_are_read_from_the_first_frame_on_again(coded: Path) -> None:
    adapt = {s.segment.video: s.segment for s in prepared.load(coded)[0] if s.segment.video == "3"}
    batches = adaptation(coded, negative="wrapping", steps=20)
    assert all(batch.has_negative.all() for batch in batches)
    read = {tuple(clip[:, 0, 0, 1]) for batch in batches for clip in batch.negative if clip[0, 0, 0, 0] == 3}
    first, last = adapt["3"].start, adapt["3"].end
    assert any(last in numbers and numbers[numbers.index(last) + 1:][:1] == (first,) for numbers in read)


def test_published_frames_are_squeezed_whole_and_ours_cut(coded: Path) -> None:
    columns = {square: adaptation(coded, square=square, steps=1)[0].anchor[0, 0, 0, :, 2].tolist() for square in ("squeeze", "random")}
    assert columns["squeeze"] == [(2 * i + 1) * 24 // 32 for i in range(16)] and set(np.diff(columns["random"])) == {1}
    assert square_squeeze(np.zeros((2, 24, 16, 3)), 0.5).shape == (2, 16, 16, 3)
