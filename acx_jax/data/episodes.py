"""Few-shot episodes by protocol: `disjoint`, where support and query share no video and no source, or `published`, where any
two segments may meet, as in the code of arXiv 2112.06320 (siblings of one video are then on both sides)."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from acx_jax.contracts import LABELS, Episodes, Segment
from acx_jax.errors import UsageError
from acx_jax.randomness import numpy_stream

WAY = 2
DISJOINT, PUBLISHED = "disjoint", "published"


def possible_way(way: int) -> int:
    """Classes of an episode where `way` are asked for: as many as there are, at most (the published flags ask for 5)."""
    return min(way, WAY)


class Groups(NamedTuple):
    """Segments that belong together because they share a video or a source, directly or through others.

    of_segment: int [S], the group of each segment. sizes: int [G, WAY], segments of each class.
    """

    of_segment: np.ndarray
    sizes: np.ndarray


def group_segments(segments: Sequence[Segment]) -> Groups:
    """Connected components of segments by common video or common source."""
    names = {name: i for i, name in enumerate(sorted({key for s in segments for key in _ties(s)}))}
    ends = np.array([[names[key] for key in _ties(s)] for s in segments], dtype=int).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(names),) * 2)
    count, component = connected_components(graph, directed=False)
    labels = np.array([s.label for s in segments], dtype=int)
    present, of_segment = np.unique(component[ends[:, 0]], return_inverse=True)
    sizes = np.zeros((len(present), WAY), dtype=int)
    np.add.at(sizes, (of_segment, labels), 1)
    return Groups(of_segment, sizes)


def _ties(segment: Segment) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("video", segment.video), ("source", segment.source or segment.video)


def largest_query(segments: Sequence[Segment], *, shot: int, query: int, protocol: str = DISJOINT) -> int:
    """The largest Q up to `query` for which a support set exists that leaves Q queries of each class.

    Raises UsageError that says how many segments there are and which shot would fit, when not even one is left.
    """
    found = feasible_query(segments, shot=shot, query=query, protocol=protocol)
    if found:
        return found
    if protocol == PUBLISHED:
        raise UsageError(_too_few_of_each(segments, shot=shot))
    sizes = group_segments(segments).sizes
    fits = [k for k in range(1, shot) if _feasible_query(sizes, shot=k, query=1)]
    have = " and ".join(f"{n} {name} segments in {int((sizes[:, c] > 0).sum())} independent videos or sources"
                        for c, (n, name) in enumerate(zip(sizes.sum(0), LABELS)))
    hint = f"--config.episodes.shot={max(fits)} would fit" if fits else "label more videos: not even 1 shot fits"
    raise UsageError(f"too few segments for config.episodes.shot={shot}: the evaluation videos have {have}, and support and "
                     f"query must not share a video or source; {hint}")


def sample_episodes(segments: Sequence[Segment], *, count: int, shot: int, query: int, seed: int,
                    protocol: str = DISJOINT) -> Episodes:
    """Draws `count` 2-way episodes: support sets uniformly among those that leave `query` of each class, then queries.

    `query` must be feasible (`largest_query`). Episode i depends on (seed, i) alone.
    """
    if protocol == PUBLISHED:
        return _permuted(segments, count=count, shot=shot, query=query, seed=seed)
    groups = group_segments(segments)
    labels = np.array([s.label for s in segments])
    members = [[np.flatnonzero((groups.of_segment == g) & (labels == c)) for c in range(WAY)] for g in range(len(groups.sizes))]
    ways = _count_ways(groups.sizes, shot=shot, query=query)
    drawn = [_draw_episode(members, ways, shot=shot, query=query, rng=numpy_stream(seed, "episode", i)) for i in range(count)]
    return Episodes(np.array([s for s, _ in drawn], np.int32), np.array([q for _, q in drawn], np.int32), WAY)


def feasible_query(segments: Sequence[Segment], *, shot: int, query: int, protocol: str = DISJOINT) -> int:
    """As `largest_query`; 0 where not even one query is left."""
    if protocol == PUBLISHED:
        return max(0, min(query, min(sum(s.label == c for s in segments) for c in range(WAY)) - shot))
    return _feasible_query(group_segments(segments).sizes, shot=shot, query=query)


def _too_few_of_each(segments: Sequence[Segment], *, shot: int) -> str:
    """What is wrong where any two segments may meet."""
    have = [sum(s.label == c for s in segments) for c in range(WAY)]
    hint = f"--config.episodes.shot={min(have) - 1} would fit" if min(have) > 1 else "label more videos: not even 1 shot fits"
    return (f"too few segments for config.episodes.shot={shot}: the evaluation videos have "
            + " and ".join(f"{n} {name} segments" for n, name in zip(have, LABELS)) + f"; {hint}")


def _permuted(segments: Sequence[Segment], *, count: int, shot: int, query: int, seed: int) -> Episodes:
    """In each episode a random order of the segments of each class: the first `shot` support, the next `query` query."""
    members = [np.flatnonzero([s.label == c for s in segments]) for c in range(WAY)]
    drawn = np.array([[rng.permutation(own)[: shot + query] for own in members]
                      for rng in (numpy_stream(seed, "episode", i) for i in range(count))], np.int32)
    return Episodes(drawn[:, :, :shot].reshape(count, -1), drawn[:, :, shot:].reshape(count, -1), WAY)


def _feasible_query(sizes: np.ndarray, *, shot: int, query: int) -> int:
    left = _count_ways(sizes, shot=shot, query=query)[0][shot, shot]
    return max((q for q in range(query + 1) if left[q:, q:].any()), default=0)


def _options(size: np.ndarray, shot: int) -> list[tuple[int, int]]:
    """(normal, abnormal) numbers of support segments that a group of this size can give."""
    return [(i, j) for i in range(min(size[0], shot) + 1) for j in range(min(size[1], shot) + 1)]


def _count_ways(sizes: np.ndarray, *, shot: int, query: int) -> list[np.ndarray]:
    """ways[g][i, j, r, s]: in how many ways groups g, g+1, ... give i normal and j abnormal support segments and leave r
    normal and s abnormal ones for queries (counted up to `query`; a group that gives support leaves none).

    Scaled by a constant a group, which no draw depends on, so that large counts stay finite.
    """
    ways = [np.zeros((shot + 1, shot + 1, query + 1, query + 1))]
    ways[0][0, 0, 0, 0] = 1.0
    for size in sizes[::-1]:
        total = sum(_with_group(ways[-1], size, option, shot=shot, query=query) for option in _options(size, shot))
        ways.append(total / total.max())
    return ways[::-1]


def _with_group(rest: np.ndarray, size: np.ndarray, option: tuple[int, int], *, shot: int, query: int) -> np.ndarray:
    """Ways in which one more group gives `option` and the groups behind it do the rest."""
    (i, j), out = option, np.zeros_like(rest)
    if i or j:
        out[i:, j:] = rest[: shot + 1 - i, : shot + 1 - j] * (comb(size[0], i) * comb(size[1], j))
        return out
    left = np.minimum(np.add.outer(size, np.arange(query + 1)), query)
    np.add.at(out, (slice(None), slice(None), left[0][:, None], left[1][None, :]), rest)
    return out


def _draw_episode(members: list, ways: list[np.ndarray], *, shot: int, query: int, rng: np.random.Generator):
    """Walks the groups, drawing what each gives in proportion to the ways to complete it; then draws the queries."""
    support, free = ([], []), ([], [])
    need, left = [shot, shot], [0, 0]
    for g, (own, rest) in enumerate(zip(members, ways[1:])):
        options = _options(np.array([len(own[0]), len(own[1])]), min(shot, max(need)))
        options = [o for o in options if o[0] <= need[0] and o[1] <= need[1]]
        weights = np.array([_completions(own, o, need, left, rest, query) for o in options])
        give = options[rng.choice(len(options), p=weights / weights.sum())]
        for c in range(WAY):
            support[c].extend(rng.choice(own[c], give[c], replace=False))
            free[c].extend(() if any(give) else own[c])
            need[c] -= give[c]
            left[c] = min(query, left[c] + (0 if any(give) else len(own[c])))
    queries = [rng.choice(free[c], query, replace=False) for c in range(WAY)]
    return np.concatenate([rng.permutation(s) for s in support]), np.concatenate(queries)


def _completions(own: list, option: tuple[int, int], need: list[int], left: list[int], rest: np.ndarray, query: int) -> float:
    """In how many ways the groups behind complete an episode in which this group gives `option`."""
    gives = any(option)
    short = [max(0, query - left[c] - (0 if gives else len(own[c]))) for c in range(WAY)]
    table = rest[need[0] - option[0], need[1] - option[1]]
    return comb(len(own[0]), option[0]) * comb(len(own[1]), option[1]) * table[short[0]:, short[1]:].sum()
