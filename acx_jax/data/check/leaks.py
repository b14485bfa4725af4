"""The leakage audit: what stands on both sides of a split, and what might stand on both sides of an episode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from acx_jax.contracts import ABNORMAL, NORMAL, Segment
from acx_jax.data.episodes import feasible_queries


class Leaks(NamedTuple):
    """Names that are in adaptation and in evaluation: videos, and sources; and in how many evaluated segments a video or source
    has siblings, so that an episode of the published protocol may have it on both sides."""

    videos: tuple[str, ...]
    sources: tuple[str, ...]
    siblings: int


class Possible(NamedTuple):
    """A category's abnormal segments in evaluation (with all normal ones), the independent groups they lie in, and the most
    queries of normal and of abnormal that an episode of each number of shots can have; 0 of both where it can have none."""

    category: str
    segments: int
    sources: int
    queries: dict[int, tuple[int, int]]


def audit(split: Sequence[Segment]) -> Leaks:
    """Of segments whose `split` is decided."""
    adapt, evaluate = ([s for s in split if s.split == name] for name in ("adapt", "evaluate"))
    groups = Counter(s.source or s.video for s in evaluate)
    return Leaks(tuple(sorted({s.video for s in adapt} & {s.video for s in evaluate})),
                 tuple(sorted({s.source or s.video for s in adapt} & set(groups))),
                 sum(count for count in groups.values() if count > 1))


def possible_episodes(split: Sequence[Segment], *, shots: Iterable[int], most: tuple[int, int], protocol: str) -> list[Possible]:
    """One row for all abnormal segments and, where there are several, one a category."""
    evaluate = [s for s in split if s.split == "evaluate"]
    normal, abnormal = ([s for s in evaluate if s.label == label] for label in (NORMAL, ABNORMAL))
    names = sorted({s.category for s in abnormal} - {""})
    chosen = [("all", abnormal), *((name, [s for s in abnormal if s.category == name]) for name in names if len(names) > 1)]
    return [Possible(name, len(own), len({s.source or s.video for s in own}),
                     {shot: feasible_queries([*normal, *own], shot=shot, queries=most, protocol=protocol) for shot in shots})
            for name, own in chosen]
