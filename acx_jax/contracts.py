"""What the stages hand each other: every shape, dtype and range, and the checks that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

NORMAL, ABNORMAL = 0, 1
LABELS = ("normal", "abnormal")  # a label's name stands at its number
SPLITS = ("adapt", "evaluate")
TO_THE_END = -1  # as `Segment.end` in a listing: the segment runs to the video's last frame, wherever that is


class Segment(NamedTuple):
    """A stretch of one video with one label.

    Frames count from 0 at the rate the video is read at; `end` is the last frame of the segment.
    """

    video: str
    start: int
    end: int
    label: int  # NORMAL or ABNORMAL
    category: str = ""
    ego_involved: str = ""  # "yes", "no" or "" (not said)
    source: str = ""  # segments of one source are never on both sides of an episode
    split: str = ""  # one of SPLITS

    def __str__(self) -> str:
        end = "end" if self.end == TO_THE_END else self.end
        return f"{LABELS[self.label]} segment {self.start}..{end} of {self.video}"


class StoredSegment(NamedTuple):
    """A segment whose frames lie in the record files of its split.

    Its stored frames are cut into blocks that overlap so that every window lies whole in one block; block i is
    record `first_record + i` of the split.
    """

    segment: Segment
    frames: int  # frames stored, from the segment's first
    first_record: int
    records: int


class Skipped(NamedTuple):
    """Something of the input that was left out, and why."""

    item: str
    reason: str


class Coverage(NamedTuple):
    """How much of the listed data is used. Counts; `skipped` and `notes` are for people."""

    videos_listed: int
    videos_used: int
    segments_listed: int
    segments_used: int
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


class Clips(NamedTuple):
    """A batch for adaptation, square frames as stored.

    anchor: uint8 [B, T, S, S, 3]. negative: uint8 [B, T, S, S, 3], another moment of the same video that shares no frame
    with the anchor. has_negative: bool [B], False where the video is too short for one (its negative is then to be
    ignored). video: int32 [B], equal for clips of one video.
    """

    anchor: np.ndarray
    negative: np.ndarray
    has_negative: np.ndarray
    video: np.ndarray


class ClassEpisodes(NamedTuple):
    """A batch of episodes of source classes, clips of square frames as stored, class-major, one clip a video.

    support: uint8 [E, way * shot, T, S, S, 3]. query: uint8 [E, way * query, T, S, S, 3].
    """

    support: Any
    query: Any


class ContextFeatures(NamedTuple):
    """Clip vectors of all segments, one after the other.

    vectors: float32 [V, P]. offsets: int64 [S + 1]; segment s owns vectors[offsets[s]:offsets[s + 1]], at least one.
    """

    vectors: np.ndarray
    offsets: np.ndarray


class Graphs(NamedTuple):
    """Segments as padded graphs: nodes float32 [..., N, P], mask bool [..., N], True for real nodes, at least one."""

    nodes: Any
    mask: Any


class Support(NamedTuple):
    """What a learner may learn from: graphs [way * shot, N, P] and int32 labels [way * shot]."""

    graphs: Graphs
    labels: Any


class Episodes(NamedTuple):
    """Few-shot episodes as indices into the evaluation segments, class-major.

    support: int32 [E, way * shot], columns c * shot .. (c + 1) * shot - 1 are of class c. query: int32 [E, Q], first the queries of class 0,
    then those of class 1. queries: how many of each class, one number a class, the same in every episode; Q is their sum. Class 0 is normal.
    categories: str [E, way - 1], what the abnormal segments of classes 1, 2, ... of an episode are; None where abnormal is one class, whatever they are.
    """

    support: np.ndarray
    query: np.ndarray
    queries: tuple[int, ...]
    categories: np.ndarray | None = None

    @property
    def way(self) -> int:
        return len(self.queries)

    @property
    def shot(self) -> int:
        return self.support.shape[1] // self.way


def in_words(queries: Sequence[int]) -> str:
    """Queries by class: "15" of each, or "15+3" of normal and abnormal."""
    return str(queries[0]) if len(set(queries)) == 1 else "+".join(map(str, queries))


def check_features(features: ContextFeatures) -> ContextFeatures:
    """Returns `features`; raises ValueError that names the first thing wrong with them."""
    vectors, offsets = features
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        raise ValueError(f"context vectors are {vectors.dtype} {vectors.shape}, expected float32 [V, P]")
    if offsets[0] != 0 or offsets[-1] != len(vectors) or np.any(np.diff(offsets) < 1):
        raise ValueError("segment offsets must rise from 0 to the number of vectors, each segment owning at least one")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        segment = int(np.searchsorted(offsets, bad[0], side="right")) - 1
        raise ValueError(f"context vectors of segment {segment} are not finite ({bad.size} of {len(vectors)} vectors in all)")
    if len(offsets) > 2 and (vectors == vectors[0]).all():
        raise ValueError(f"all {len(vectors)} context vectors of {len(offsets) - 1} segments are the same, so that nothing tells segments apart")
    return features


class Together(NamedTuple):
    """Process `index`, from 0, of `count` that work together; process 0 answers at `coordinator`, host:port. With "auto" SLURM or the TPU says all three."""

    index: int
    count: int
    coordinator: str
