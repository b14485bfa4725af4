"""All windows in order, by one process and by several."""

from __future__ import annotations

import shutil
from pathlib import Path

import grain
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acx_jax.data import feeds, prepared, window_feed
from acx_jax.data.feeds import Process
from acx_jax.data.window_feed import WindowBatch, centre_crop, largest_frame, whole_windows_feed, windows_feed
from acx_jax.data.windows import window_count
from acx_jax.errors import UsageError, WorkError

LENGTH, STRIDE = 8, 4


def windows(coded: Path, **changes) -> list:
    options = dict(crop=12, batch=8, length=LENGTH, stride=STRIDE) | changes
    return list(windows_feed(coded, prepared.load(coded)[0], "evaluate", **options))


def same(one: list, other: list) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for x, y in zip(one, other) for a, b in zip(x, y))


@pytest.mark.parametrize("batch", [1, 5, 8, 64])
def test_all_windows_in_order_cropped_at_the_centre(coded: Path, batch: int) -> None:
    batches = windows(coded, batch=batch)
    frames = np.concatenate([b.frames[:b.count] for b in batches])
    stored = [s for s in prepared.load(coded)[0] if s.segment.split == "evaluate"]
    expected = [(int(s.segment.video), s.segment.start + w * STRIDE + np.arange(LENGTH))
                for s in stored for w in range(window_count(s.frames, length=LENGTH, stride=STRIDE))]
    assert len(frames) == len(expected) and frames.shape[1:] == (LENGTH, 12, 12, 3) and frames.dtype == np.uint8
    for window, (video, numbers) in zip(frames, expected):
        assert np.all(window[..., 0] == video) and np.array_equal(window[:, 0, 0, 1], numbers)
        assert np.array_equal(window[0, 0, :, 2], np.arange(6, 18))


@pytest.mark.parametrize("name, said", [("clips-evaluate*", r"evaluate record \d+ in .*records is damaged \(Corrupted Riegeli/records file: .*\): delete .*, and the next"),
                                        ("dataset_info.json", "what describes the records in .* is damaged"), ("features.json", "what describes the records")])
def test_records_damaged_at_equal_size_are_an_error(coded: Path, tmp_path: Path, name: str, said: str) -> None:
    shutil.copytree(coded, tmp_path / "prepare")
    file = next((tmp_path / "prepare").rglob(name))
    data = np.frombuffer(file.read_bytes(), np.uint8).copy()
    data[100::100] ^= 129
    file.write_bytes(data.tobytes())
    with pytest.raises(WorkError, match=said):
        windows(tmp_path / "prepare")


def test_the_last_batch_is_filled_up_and_counted(coded: Path) -> None:
    batches = windows(coded, batch=16)
    assert [b.count for b in batches] == [16, 8] and all(len(b.frames) == 16 for b in batches)
    assert np.all(batches[-1].frames[8:] == batches[-1].frames[7])


def test_windows_go_on_at_any_batch(coded: Path) -> None:
    whole = windows(coded)
    assert all(same(windows(coded, start_batch=start), whole[start:]) for start in range(len(whole) + 2))


def test_each_block_is_read_about_once(coded: Path, monkeypatch) -> None:
    records = prepared.open_records(coded, "evaluate")
    read: list[int] = []

    class Counted:
        def __len__(self) -> int:
            return len(records)

        def __getitem__(self, i: int):
            read.append(i)
            return records[i]

    monkeypatch.setattr(window_feed, "open_records", lambda *_: Counted())
    windows(coded, batch=2)
    assert len(read) <= 3 * len(records)  # once to look at the size, and two threads may miss the cache together


def test_a_crop_larger_than_the_frames_is_the_users_mistake(coded: Path) -> None:
    with pytest.raises(UsageError, match="encoder.crop is 17.*short side of 16.*data.short_side"):
        windows(coded, crop=17)


def test_windows_other_than_the_prepared_ones_are_refused(coded: Path) -> None:
    with pytest.raises(ValueError, match="prepared for"):
        windows(coded, stride=2)


def test_a_split_without_records_feeds_nothing(coded: Path) -> None:
    assert list(windows_feed(coded, (), "evaluate", crop=12, batch=8, length=LENGTH, stride=STRIDE)) == []


@pytest.mark.parametrize("threads", [0, 7])
def test_any_number_of_reading_threads_gives_the_same(coded: Path, threads: int, monkeypatch) -> None:
    expected = windows(coded, batch=5)
    monkeypatch.setattr(feeds, "_THREADS", grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
    assert same(windows(coded, batch=5), expected)


@settings(deadline=None, max_examples=15, derandomize=True)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 25))
def test_the_parts_of_several_processes_are_the_batches_of_one(coded: Path, processes: int, each: int, start: int) -> None:
    whole = windows(coded, batch=processes * each, start_batch=start)
    parts = [windows(coded, batch=processes * each, start_batch=start, process=Process(i, processes)) for i in range(processes)]
    assert same([WindowBatch(np.concatenate([part.frames for part in of_batch]), sum(part.count for part in of_batch)) for of_batch in zip(*parts)], whole)
    for of_batch in zip(*parts):  # real windows come first, so that those of process 0 on are a run
        counts = [part.count for part in of_batch]
        assert all(later == 0 for earlier, later in zip(counts, counts[1:]) if earlier < each) and max(counts) <= each


def test_a_process_may_have_padding_alone_and_a_batch_must_be_shared_equally(coded: Path) -> None:
    parts = [windows(coded, batch=64, process=Process(i, 4))[0] for i in range(4)]
    assert [part.count for part in parts] == [16, 8, 0, 0] and all(len(part.frames) == 16 for part in parts)
    assert np.all(parts[3].frames == parts[1].frames[7])
    with pytest.raises(ValueError, match="batch of 8 cannot be shared equally by 3"):
        windows(coded, process=Process(0, 3))


def test_a_centre_crop_leaves_odd_pixels_at_the_bottom_and_right() -> None:
    frames = np.arange(17 * 30).reshape(1, 17, 30, 1)
    assert centre_crop(frames, 11).shape == (1, 11, 11, 1) and centre_crop(frames, 12)[0, 0, 0, 0] == 2 * 30 + 9


@pytest.mark.parametrize("batch, start", [(5, 0), (8, 2), (64, 0)])
def test_whole_windows_have_all_of_the_frames_and_say_whose_they_are(coded: Path, batch: int, start: int) -> None:
    stored = [s for s in prepared.load(coded)[0] if s.segment.split == "evaluate"]
    canvas = largest_frame(coded, stored, "evaluate")
    batches = list(whole_windows_feed(coded, stored, "evaluate", canvas=(canvas[0] + 2, canvas[1] + 3), batch=batch, length=LENGTH, stride=STRIDE,
                                      start_batch=start))
    plain = windows(coded, batch=batch, start_batch=start)
    of = np.concatenate([[i] * window_count(s.frames, length=LENGTH, stride=STRIDE) for i, s in enumerate(stored)])[start * batch:]
    assert canvas == (16, 24) and [b.count for b in batches] == [b.count for b in plain]
    assert np.array_equal(np.concatenate([b.segment[:b.count] for b in batches]), of) and batches[0].segment.dtype == np.int32
    for whole, cropped in zip(batches, plain):
        assert whole.frames.shape == (batch, LENGTH, 18, 27, 3) and np.all(whole.size == (16, 24)) and len(whole.segment) == batch
        assert np.array_equal(whole.frames[:, :, 2:14, 6:18], cropped.frames)
        assert not whole.frames[:, :, 16:].any() and not whole.frames[:, :, :, 24:].any() and whole.frames[:, :, :16, 23, 2].min() == 23
