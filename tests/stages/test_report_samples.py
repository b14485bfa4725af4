"""Which segments the report shows, and which of their frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from report_case import make_case

from acx_jax.contracts import Segment, StoredSegment
from acx_jax.stages import report_samples


def test_judged_segments_are_those_asked_for_by_their_true_class():
    episodes = make_case(shot=1, query=1, count=3).episodes._replace(query=np.array([[0, 2], [0, 3], [1, 2]], np.int32))
    scores = np.array([[0.1, 0.9], [0.3, 0.2], [np.nan, 0.5]], np.float32)
    judged = report_samples.judge(episodes, scores)
    assert [one.index for one in judged] == [3, 2, 0]  # segment 1 has no score
    assert [one.score for one in judged] == pytest.approx([0.2, 0.7, 0.8])
    assert [one.episodes for one in judged] == [1, 2, 2]


@pytest.mark.parametrize("judged, count", [(0, 3), (1, 3), (4, 3), (20, 3), (20, 0)])
def test_no_segment_is_among_the_best_and_the_worst(judged, count):
    order = [report_samples.Judged(i, i / 20, 1) for i in range(judged)]
    best, worst = report_samples.best_and_worst(order, count)
    assert not set(best) & set(worst) and len(best) <= count and len(worst) <= count
    assert len(best) + len(worst) == min(judged, 2 * count)
    assert all(b.score > w.score for b in best for w in worst)


@pytest.mark.parametrize("records", [1, 2, 5])
def test_shown_frames_run_from_the_first_to_the_last(monkeypatch, records):
    monkeypatch.setattr(report_samples.prepared, "open_records", lambda folder, split: Counted())
    monkeypatch.setattr(report_samples, "_jpeg", lambda frame: int(frame[0, 0, 0]))
    stored = StoredSegment(Segment("a.mp4", 0, 99, 0), 100, 10, records)
    shown = report_samples.show([report_samples.Judged(0, 0.5, 1)], (stored,), Path())[0].jpegs
    assert len(shown) == report_samples.FRAMES
    assert shown[0] == 100 and shown[-1] == 10 * (10 + records - 1) + 9
    assert list(shown) == sorted(set(shown))


class Counted:
    """Record i holds ten frames, of the grey values 10 i to 10 i + 9."""

    def __getitem__(self, index: int) -> dict:
        return {"frames": np.arange(10 * index, 10 * index + 10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)}
