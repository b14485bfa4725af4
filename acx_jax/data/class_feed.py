"""Source classes for episodic training: which there are, which of them judge, and a Grain pipeline of episodes of their clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from acx_jax.contracts import ClassEpisodes, StoredSegment
from acx_jax.data.feeds import ALONE, ClipReader, Process, iterate, square_crop
from acx_jax.data.prepared import load_windows, open_records
from acx_jax.data.splits import ADAPT
from acx_jax.errors import UsageError
from acx_jax.randomness import numpy_stream

Videos = list[list[StoredSegment]]  # the segments of a class by video (or by source, where the data name those)


def source_classes(stored: Sequence[StoredSegment], *, each: int, length: int) -> dict[str, Videos]:
    """Categories of the adaptation split with at least `each` videos that hold a clip of `length` frames, by name.

    A video or source that has segments of several categories is left out: it could give an answer away.
    """
    by_unit: dict[str, list[StoredSegment]] = {}
    for s in stored:
        if s.segment.split == ADAPT and s.segment.category and s.frames >= length:
            by_unit.setdefault(s.segment.source or s.segment.video, []).append(s)
    classes: dict[str, Videos] = {}
    for segments in by_unit.values():
        if len({s.segment.category for s in segments}) == 1:
            classes.setdefault(segments[0].segment.category, []).append(segments)
    return {name: classes[name] for name in sorted(classes) if len(classes[name]) >= each}


def split_classes(names: Sequence[str], *, way: int, share: float, seed: int) -> tuple[list[str], list[str]]:
    """Classes to train on and further ones to validate on: round(share * classes), but at least `way` of each.

    Raises UsageError when there are fewer than 2 * way classes.
    """
    if len(names) < 2 * way:
        raise UsageError(f"too few source classes for config.source.way={way}: {len(names)} have enough videos, and training and "
                         f"validation need {way} each, of their own; --config.source.way={len(names) // 2} would fit"
                         if len(names) >= 4 else
                         f"too few source classes: {len(names)} have enough videos for config.source.shot and config.source.query, and at "
                         "least 4 are needed, 2 to train on and 2 others to validate on. Classes are the categories of videos of "
                         "the split adapt (configs/kinetics.py)")
    held = min(max(way, round(share * len(names))), len(names) - way)
    order = numpy_stream(seed, "source classes").permutation(len(names))
    return sorted(names[i] for i in order[held:]), sorted(names[i] for i in order[:held])


def episodes_feed(prepared: Path, classes: Sequence[Videos], *, way: int, shot: int, query: int, batch: int, length: int, steps: int,
                  seed: int, stream: str, start_step: int = 0, process: Process = ALONE) -> Iterator[ClassEpisodes]:
    """Yields batches start_step .. steps - 1 of `batch` episodes of `way` of the classes; of several processes each its part of every batch.

    A video gives one clip of `length` frames at most, so that support and query share none. Episode n follows from (seed, stream,
    n) alone, whatever was fed before. Reads ahead a few batches.
    """
    reader = ClipReader(open_records(prepared, ADAPT), load_windows(prepared))
    return iterate(_EpisodeBatches(reader, classes, way=way, shot=shot, query=query, numbers=process.share(batch), batch=batch, length=length,
                                   steps=steps, seed=seed, stream=stream), start_step)


class _EpisodeBatches:
    """Random access to the batches of `episodes_feed`."""

    def __init__(self, reader: ClipReader, classes: Sequence[Videos], *, way: int, shot: int, query: int, numbers: range, batch: int,
                 length: int, steps: int, seed: int, stream: str):
        self._reader, self._classes, self._length = reader, classes, length
        self._way, self._shot, self._query = way, shot, query
        self._numbers, self._batch, self._steps, self._seed, self._stream = numbers, batch, steps, seed, stream

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> ClassEpisodes:
        episodes = [self._episode(step * self._batch + i) for i in self._numbers]
        return ClassEpisodes(*(np.stack(side) for side in zip(*episodes)))

    def _episode(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        rng = numpy_stream(self._seed, self._stream, number)
        support, query = [], []
        for chosen in rng.choice(len(self._classes), self._way, replace=False):
            videos = self._classes[chosen]
            clips = [self._clip(videos[i], rng) for i in rng.choice(len(videos), self._shot + self._query, replace=False)]
            support += clips[:self._shot]
            query += clips[self._shot:]
        return np.stack(support), np.stack(query)

    def _clip(self, segments: list[StoredSegment], rng: np.random.Generator) -> np.ndarray:
        """A uniform clip of a uniform segment of a video, and of its frames the square a uniform part of the way along."""
        segment = segments[rng.integers(len(segments))]
        start = int(rng.integers(segment.frames - self._length + 1))
        return square_crop(self._reader.read(segment, start, self._length), rng.random())
