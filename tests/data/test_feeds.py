from __future__ import annotations

import itertools
import json
from pathlib import Path

import grain
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media import write_frames, write_table

from acx_jax.contracts import NORMAL, Clips, Coverage, Segment, StoredSegment
from acx_jax.data import feeds, prepared
from acx_jax.data.builders import records
from acx_jax.data.builders.folder import list_folder
from acx_jax.data.builders.reading import Reading
from acx_jax.data.feeds import Process, centre_crop, clips_feed, draw_clips, draw_wrapping_clips, square_crop, square_squeeze, windows_feed
from acx_jax.data.splits import assign_splits
from acx_jax.data.windows import window_count
from acx_jax.errors import UsageError

LENGTH, STRIDE = 8, 4


def coded_frames(video: int, count: int) -> list[np.ndarray]:
    """16 x 24 frames whose red is the video, green the frame's number and blue the column."""
    frame = np.zeros((count, 16, 24, 3), np.uint8)
    frame[..., 0], frame[..., 1], frame[..., 2] = video, np.arange(count)[:, None, None], np.arange(24)
    return list(frame)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Videos 0 to 3 adapt (3 is too short for a negative), 4 and 5 evaluate."""
    root, out = (tmp_path_factory.mktemp(name) for name in ("in", "out"))
    rows = ["0,0,99,normal,adapt", "1,0,19,normal,adapt", "1,30,59,normal,adapt", "1,60,79,abnormal,adapt", "2,0,22,normal,adapt",
            "2,15,40,normal,adapt", "3,2,11,normal,adapt", "4,0,89,normal,evaluate", "4,90,99,abnormal,evaluate", "5,3,17,abnormal,evaluate"]
    for video in range(6):
        write_frames(root / str(video), coded_frames(video, 100), suffix=".bmp")
    listing = list_folder(write_table(root, *rows, header="video,start,end,label,split"))
    listing = listing._replace(segments=assign_splits(listing.segments, adapt_share=0, seed=0))
    reading = Reading(LENGTH, STRIDE, 0.0, 16, "nearest", 0, 8, {"adapt": 0, "evaluate": 0})
    built = records.build(listing, out / prepared.RECORDS, reading, folder=out / "parts", max_bad_share=0.0)
    value = prepared.to_json(built.stored, Coverage(6, 6, 10, 9, (), ()), prepared.Windows(LENGTH, STRIDE), {})
    (out / prepared.SEGMENTS).write_text(json.dumps(value))
    return out


def windows(folder: Path, **changes) -> list:
    options = dict(crop=12, batch=8, length=LENGTH, stride=STRIDE) | changes
    return list(windows_feed(folder, prepared.load(folder)[0], "evaluate", **options))


def adaptation(folder: Path, **changes) -> list[Clips]:
    options = dict(length=LENGTH, batch=6, steps=12, seed=3, negative="apart", square="random") | changes
    return list(clips_feed(folder, prepared.load(folder)[0], **options))


def same(one: list, other: list) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for x, y in zip(one, other) for a, b in zip(x, y))


@pytest.mark.parametrize("batch", [1, 5, 8, 64])
def test_all_windows_in_order_cropped_at_the_centre(folder: Path, batch: int) -> None:
    batches = windows(folder, batch=batch)
    frames = np.concatenate([b.frames[:b.count] for b in batches])
    stored = [s for s in prepared.load(folder)[0] if s.segment.split == "evaluate"]
    expected = [(int(s.segment.video), s.segment.start + w * STRIDE + np.arange(LENGTH))
                for s in stored for w in range(window_count(s.frames, length=LENGTH, stride=STRIDE))]
    assert len(frames) == len(expected) and frames.shape[1:] == (LENGTH, 12, 12, 3) and frames.dtype == np.uint8
    for window, (video, numbers) in zip(frames, expected):
        assert np.all(window[..., 0] == video) and np.array_equal(window[:, 0, 0, 1], numbers)
        assert np.array_equal(window[0, 0, :, 2], np.arange(6, 18))


def test_the_last_batch_is_filled_up_and_counted(folder: Path) -> None:
    batches = windows(folder, batch=16)
    assert [b.count for b in batches] == [16, 8] and all(len(b.frames) == 16 for b in batches)
    assert np.all(batches[-1].frames[8:] == batches[-1].frames[7])


def test_windows_go_on_at_any_batch(folder: Path) -> None:
    whole = windows(folder)
    assert all(same(windows(folder, start_batch=start), whole[start:]) for start in range(len(whole) + 2))


def test_each_block_is_read_about_once(folder: Path, monkeypatch) -> None:
    records = prepared.open_records(folder, "evaluate")
    read: list[int] = []

    class Counted:
        def __len__(self) -> int:
            return len(records)

        def __getitem__(self, i: int):
            read.append(i)
            return records[i]

    monkeypatch.setattr(feeds, "open_records", lambda *_: Counted())
    windows(folder, batch=2)
    assert len(read) <= 3 * len(records)  # once to look at the size, and two threads may miss the cache together


def test_a_crop_larger_than_the_frames_is_the_users_mistake(folder: Path) -> None:
    with pytest.raises(UsageError, match="encoder.crop is 17.*short side of 16.*data.short_side"):
        windows(folder, crop=17)


def test_windows_other_than_the_prepared_ones_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="prepared for"):
        windows(folder, stride=2)


def test_a_split_without_records_feeds_nothing(folder: Path) -> None:
    assert list(windows_feed(folder, (), "evaluate", crop=12, batch=8, length=LENGTH, stride=STRIDE)) == []


def test_clips_are_consecutive_frames_of_one_normal_segment(folder: Path) -> None:
    adapt = [s.segment for s in prepared.load(folder)[0] if s.segment.split == "adapt"]
    order = list(dict.fromkeys(s.video for s in adapt))
    for batch in adaptation(folder):
        assert batch.anchor.shape == batch.negative.shape == (6, LENGTH, 16, 16, 3) and batch.anchor.dtype == np.uint8
        assert batch.has_negative.dtype == bool and batch.video.dtype == np.int32
        for anchor, negative, video in zip(batch.anchor, batch.negative, batch.video):
            for clip in (anchor, negative):
                numbers = clip[:, 0, 0, 1].astype(int)
                assert np.all(clip[..., 0] == int(order[video])) and np.all(np.diff(numbers) == 1)
                assert any(s.start <= numbers[0] and numbers[-1] <= s.end for s in adapt if s.video == order[video])


def test_the_negative_shares_no_frame_with_the_anchor(folder: Path) -> None:
    batches = adaptation(folder, steps=20)
    for batch in batches:
        apart = np.abs(batch.anchor[:, 0, 0, 0, 1].astype(int) - batch.negative[:, 0, 0, 0, 1]) >= LENGTH
        assert np.array_equal(apart, batch.has_negative)
    videos, has = (np.concatenate([getattr(b, name) for b in batches]) for name in ("video", "has_negative"))
    assert has[videos < 3].mean() > 0.9 and not has[videos == 3].any()


def test_both_clips_are_cropped_alike_and_offsets_vary(folder: Path) -> None:
    columns = [(a[0, 0, 0, 2], n[0, 0, 0, 2]) for b in adaptation(folder) for a, n in zip(b.anchor, b.negative)]
    assert all(a == n for a, n in columns) and {a for a, _ in columns} == set(range(9))


def test_every_epoch_takes_each_video_once_in_a_new_order(folder: Path) -> None:
    videos = np.concatenate([b.video for b in adaptation(folder)]).reshape(-1, 4)
    assert all(sorted(epoch) == [0, 1, 2, 3] for epoch in videos.tolist()) and len({tuple(e) for e in videos.tolist()}) > 3


def test_clips_follow_from_seed_and_sample_number_alone(folder: Path) -> None:
    whole = adaptation(folder)
    assert same(adaptation(folder), whole) and not same(adaptation(folder, seed=4), whole)
    assert all(same(adaptation(folder, start_step=start), whole[start:]) for start in (1, 5, 11, 12))
    flat = [np.concatenate([b.anchor for b in batches]) for batches in (whole, adaptation(folder, batch=4, steps=18))]
    assert np.array_equal(*flat)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_the_parts_of_several_processes_are_the_batches_of_one(folder: Path, count: int) -> None:
    whole = adaptation(folder, steps=8)
    parts = [adaptation(folder, steps=8, process=Process(i, count), start_step=0) for i in range(count)]
    assert same([Clips(*map(np.concatenate, zip(*of_step))) for of_step in zip(*parts)], whole)
    assert same(adaptation(folder, steps=8, process=Process(1, count), start_step=5), parts[1][5:])
    with pytest.raises(ValueError, match="batch of 6 cannot be shared equally by 4"):
        adaptation(folder, process=Process(0, 4))


@pytest.mark.parametrize("threads", [0, 1, 7])
def test_any_number_of_reading_threads_gives_the_same(folder: Path, threads: int, monkeypatch) -> None:
    expected = adaptation(folder, steps=8), windows(folder, batch=5)
    monkeypatch.setattr(feeds, "_THREADS", grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
    assert all(same(*pair) for pair in zip((adaptation(folder, steps=8), windows(folder, batch=5)), expected))


def test_no_clip_to_adapt_on_is_the_users_mistake(folder: Path) -> None:
    with pytest.raises(UsageError, match="no normal segment of 101 frames.*adapt_share.*adapt.steps=0"):
        adaptation(folder, length=101)


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
    centred = centre_crop(frames, 11)
    top, left = np.argwhere(frames[0, ..., 0] == centred[0, 0, 0, 0])[0]
    assert (top, left) == ((height - 11) // 2, (width - 11) // 2) and centred.shape == (1, 11, 11, 1)


def test_feeds_are_lazy(folder: Path) -> None:
    feed = clips_feed(folder, prepared.load(folder)[0], length=LENGTH, batch=2, steps=10**9, seed=0, negative="apart", square="random")
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


def test_wrapping_clips_are_read_from_the_first_frame_on_again(folder: Path) -> None:
    adapt = {s.segment.video: s.segment for s in prepared.load(folder)[0] if s.segment.video == "3"}
    batches = adaptation(folder, negative="wrapping", steps=20)
    assert all(batch.has_negative.all() for batch in batches)
    read = {tuple(clip[:, 0, 0, 1]) for batch in batches for clip in batch.negative if clip[0, 0, 0, 0] == 3}
    first, last = adapt["3"].start, adapt["3"].end
    assert any(last in numbers and numbers[numbers.index(last) + 1:][:1] == (first,) for numbers in read)


def test_published_frames_are_squeezed_whole_and_ours_cut(folder: Path) -> None:
    columns = {square: adaptation(folder, square=square, steps=1)[0].anchor[0, 0, 0, :, 2].tolist() for square in ("squeeze", "random")}
    assert columns["squeeze"] == [(2 * i + 1) * 24 // 32 for i in range(16)] and set(np.diff(columns["random"])) == {1}
    assert square_squeeze(np.zeros((2, 24, 16, 3)), 0.5).shape == (2, 16, 16, 3)
