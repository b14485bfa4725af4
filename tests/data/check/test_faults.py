"""Segments that will be left out, at a video's own rate and at others."""

import numpy as np
import pytest

from acx_jax.contracts import TO_THE_END, Segment
from acx_jax.data.check.faults import find_faults
from acx_jax.data.probe import Probe


def seen(frames: int, fps: float, problem: str = "") -> Probe:
    return Probe(frames, fps, 64, 48, 1, problem, np.zeros((0, 1, 320), np.uint8))


@pytest.mark.parametrize("start, end, declared, rate, fps, offset, what", [
    (0, 99, 100, 25.0, 0.0, 0, ""), (0, 100, 100, 25.0, 0.0, 0, "beyond"), (100, TO_THE_END, 100, 25.0, 0.0, 0, "beyond"),
    (0, 39, 100, 25.0, 10.0, 0, ""), (0, 41, 100, 25.0, 10.0, 0, "beyond"), (0, 99, 100, 25.0, 10.0, 0, "beyond"),
    (0, 99, 100, 0.0, 10.0, 0, ""), (90, TO_THE_END, 100, 0.0, 10.0, 0, ""), (95, TO_THE_END, 100, 0.0, 10.0, 0, "short"),
    (30, TO_THE_END, 100, 25.0, 10.0, 0, ""), (35, TO_THE_END, 100, 25.0, 10.0, 0, "short"), (3, 9, 100, 25.0, 0.0, 0, "short"),
    (0, 49, 100, 10.0, 10.0, 50, ""), (0, 50, 100, 10.0, 10.0, 50, "beyond"), (0, 50, 0, 10.0, 0.0, 0, ""), (0, TO_THE_END, 0, 10.0, 0.0, 0, ""),
])
def test_what_is_left_out(start, end, declared, rate, fps, offset, what):
    segment = Segment("v", start, end, 0)
    found = find_faults([segment], {"v": seen(declared, rate)}, fps=fps, least=8, offsets={"v": offset})
    assert (found.beyond == (segment,), found.short == (segment,)) == (what == "beyond", what == "short")
    assert found.lost == ({segment[:4]} if what else set())


def test_segments_of_an_unreadable_video_are_lost():
    segments = [Segment("v", 0, 9, 0), Segment("w", 0, 9, 1)]
    found = find_faults(segments, {"v": seen(0, 0.0, "cannot be read"), "w": seen(10, 0.0)}, fps=0.0, least=8, offsets={})
    assert found == ({"v": "cannot be read"}, (), (), {segments[0][:4]})
