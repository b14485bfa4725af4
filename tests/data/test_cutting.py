from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from acx_jax.contracts import ABNORMAL, NORMAL, TO_THE_END, Segment
from acx_jax.data.builders import cutting
from acx_jax.data.builders.cutting import Broken, Cut, cut_segments
from acx_jax.data.decode import DecodeError


def numbered(count: int, broken: bool = False) -> Iterator[np.ndarray]:
    """Frames whose pixels are their number."""
    for i in range(count):
        yield np.full((2, 2, 3), i, np.uint8)
    if broken:
        raise DecodeError(Path("v.mp4"), "cut off")


def cut(images, *segments: Segment, keep: int = 0, min_frames: int = 2) -> list:
    return list(cut_segments(images, segments, keep=keep, min_frames=min_frames, shrink=lambda frame: frame))


def numbers(event: Cut) -> list[int]:
    return event.frames[:, 0, 0, 0].tolist()


def test_segments_come_as_they_end_also_when_they_overlap() -> None:
    a, b, c = Segment("v", 2, 6, NORMAL), Segment("v", 4, 5, NORMAL), Segment("v", 7, TO_THE_END, ABNORMAL)
    events = cut(numbered(10), a, b, c)
    assert [(e.segment, numbers(e)) for e in events] == [(b, [4, 5]), (a, [2, 3, 4, 5, 6]), (c._replace(end=9), [7, 8, 9])]


def test_the_first_frames_are_kept() -> None:
    (event,) = cut(numbered(20), Segment("v", 3, 12, NORMAL), keep=4)
    assert numbers(event) == [3, 4, 5, 6] and event.segment.end == 12


def test_nothing_behind_the_last_segment_is_decoded() -> None:
    assert [type(e) for e in cut(numbered(6, broken=True), Segment("v", 0, 5, NORMAL))] == [Cut]


def test_a_break_leaves_out_what_is_not_complete() -> None:
    early, late, open_end = Segment("v", 0, 4, NORMAL), Segment("v", 4, 9, NORMAL), Segment("v", 6, TO_THE_END, NORMAL)
    events = cut(numbered(8, broken=True), early, late, open_end)
    assert isinstance(events[0], Cut) and events[0].segment == early
    assert events[1:] == [(str(late), "cut off"), (str(open_end), "cut off"), Broken("cut off")]


def test_what_cannot_be_used_is_skipped_with_the_reason() -> None:
    beyond, short = Segment("v", 5, 10, NORMAL), Segment("v", 1, 1, NORMAL)
    assert cut(numbered(10), beyond, short) == [(str(short), "it has 1 frames, fewer than the 2 it needs"),
                                                (str(beyond), "it ends beyond the video's last frame, 9")]
    assert cut(numbered(10), Segment("v", 12, TO_THE_END, NORMAL))[0].reason.startswith("it starts beyond")
    mixed = [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 4, 3), np.uint8)]
    assert cut(mixed, Segment("v", 0, 1, NORMAL))[0].reason == "its frames differ in shape, e.g. 2x2 and 4x2"


@pytest.mark.parametrize("held", [1, 12, 50, 10_000])
def test_frames_of_a_long_segment_wait_on_disk_and_come_back(monkeypatch, tmp_path, held) -> None:
    monkeypatch.setattr(cutting, "HELD", held)  # a frame has 12 bytes
    a, b = Segment("v", 0, 19, NORMAL), Segment("v", 5, TO_THE_END, NORMAL)
    events = list(cut_segments(numbered(30), [a, b], keep=0, min_frames=2, shrink=lambda frame: frame, folder=tmp_path))
    assert [numbers(e) for e in events] == [list(range(20)), list(range(5, 30))] and events[0].frames.shape == (20, 2, 2, 3)
    assert isinstance(events[0].frames, np.memmap) == (held < 240) and list(tmp_path.iterdir()) == []


def test_a_long_segment_whose_frames_differ_is_skipped(monkeypatch) -> None:
    monkeypatch.setattr(cutting, "HELD", 12)
    images = [*numbered(6), np.zeros((4, 2, 3), np.uint8), *numbered(3)]
    assert cut(images, Segment("v", 0, 9, NORMAL)) == [("normal segment 0..9 of v", "its frames differ in shape, e.g. 2x2 and 2x4")]
