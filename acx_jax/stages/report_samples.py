"""The segments that were recognised best and worst, with a few of their frames."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from acx_jax.contracts import ABNORMAL, Episodes, Segment, StoredSegment
from acx_jax.data import prepared
from acx_jax.stages.report_inputs import true_classes

FRAMES = 4  # shown of a segment
WIDTH = 176  # pixels of a shown frame


class Judged(NamedTuple):
    """An evaluation segment: its index, the mean probability of its true class, and the episodes that asked for it."""

    index: int
    score: float
    episodes: int


class Sample(NamedTuple):
    """A judged segment to show. jpegs: FRAMES encoded images from its first frame to its last; none where none are stored."""

    segment: Segment
    score: float
    episodes: int
    jpegs: tuple[bytes, ...]


def judge(episodes: Episodes, scores: np.ndarray) -> list[Judged]:
    """All segments that were queries, the worst recognised first.

    scores: float [E, way * query], probability of abnormal, NaN where there is none; such queries do not count.
    """
    true = np.where(true_classes(episodes) == ABNORMAL, scores, 1 - scores)
    counts = np.isfinite(true)
    indices = episodes.query[counts]
    asked = np.bincount(indices)
    total = np.bincount(indices, weights=true[counts])
    judged = [Judged(int(i), float(total[i] / asked[i]), int(asked[i])) for i in np.flatnonzero(asked)]
    return sorted(judged, key=lambda one: (one.score, one.index))


def best_and_worst(judged: list[Judged], count: int) -> tuple[list[Judged], list[Judged]]:
    """At most `count` of each, most telling first, no segment among both. `judged` is sorted, worst first."""
    half = len(judged) // 2
    worst = judged[: min(count, half)]
    best = judged[half:][::-1][:count]
    return best, worst


def show(judged: list[Judged], segments: tuple[StoredSegment, ...], folder: Path) -> list[Sample]:
    """Reads and encodes the frames. segments: those of the evaluation split; folder: the prepare stage's."""
    if not judged:
        return []
    if not any(stored.records for stored in segments):  # features were given: there are no frames
        return [Sample(segments[one.index].segment, one.score, one.episodes, ()) for one in judged]
    records = prepared.open_records(folder, "evaluate")
    return [
        Sample(segments[one.index].segment, one.score, one.episodes, _jpegs(segments[one.index], records)) for one in judged
    ]


def _jpegs(stored: StoredSegment, records: Sequence[Any]) -> tuple[bytes, ...]:
    places = np.linspace(0, stored.records, FRAMES)
    blocks = np.minimum(places.astype(int), stored.records - 1)
    read = {int(block): records[stored.first_record + int(block)]["frames"] for block in set(blocks)}
    return tuple(_jpeg(_frame_at(read[int(block)], place - block)) for block, place in zip(blocks, places))


def _frame_at(frames: np.ndarray, share: float) -> np.ndarray:
    """frames: [T, H, W, 3]; share 0 is the first, 1 the last."""
    return np.asarray(frames[round(share * (len(frames) - 1))])


def _jpeg(frame: np.ndarray) -> bytes:
    image = Image.fromarray(frame)
    image.thumbnail((WIDTH, WIDTH))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return out.getvalue()
