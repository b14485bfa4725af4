"""Few-shot episodes by protocol: `disjoint`, where support and query share no video and no source, or `published`, where any
two segments may meet, as in the code of arXiv 2112.06320 (siblings of one video are then on both sides)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from acx_jax.contracts import LABELS, Episodes, Segment
from acx_jax.data import support_ways
from acx_jax.errors import UsageError
from acx_jax.randomness import numpy_stream

WAY = 2
DISJOINT, PUBLISHED = "disjoint", "published"
TRIES = 8  # of any support set, before one is drawn among those that leave the queries: the first nearly always does where data are many
AT_ONCE = 2**21  # episodes drawn together, times the segments and the choices of each: bounds the memory


def possible_way(way: int) -> int:
    """Classes of an episode where `way` are asked for: as many as there are, at most (the published flags ask for 5)."""
    return min(way, WAY)


class Groups(NamedTuple):
    """Segments that belong together because they share a video or a source, directly or through others.

    of_segment: int [S], the group of each segment. sizes: int [G, WAY], segments of each class.
    """

    of_segment: np.ndarray
    sizes: np.ndarray


class Table(NamedTuple):
    """What disjoint episodes are drawn from. labels: int [S]; shot: segments a class; queries: of each class; ways: `count_ways`, where they
    are needed."""

    groups: Groups
    labels: np.ndarray
    shot: int
    queries: tuple[int, int]
    ways: Callable[[], list[np.ndarray]]

    def first_of_each(self, rank: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
        """The `numbers` of segments of each class of lowest rank (float [E, S]) in order, class-major, int [E, their sum]."""
        members = [np.flatnonzero(self.labels == c) for c in range(WAY)]
        return np.concatenate([own[lowest(rank[:, own], number)] for own, number in zip(members, numbers)], axis=1)

    def free(self, support: np.ndarray) -> np.ndarray:
        """Which segments share no group with the support [E, WAY * shot]: bool [E, S]."""
        used = np.zeros((len(support), len(self.groups.sizes)), bool)
        used[np.arange(len(support))[:, None], self.groups.of_segment[support]] = True
        return ~used[:, self.groups.of_segment]

    def leaves_queries(self, support: np.ndarray) -> np.ndarray:
        """Which support sets leave enough of each class: bool [E]."""
        free = self.free(support)
        return np.all([free[:, self.labels == c].sum(axis=1) >= self.queries[c] for c in range(WAY)], axis=0)


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


def largest_queries(segments: Sequence[Segment], *, shot: int, queries: tuple[int, int], protocol: str = DISJOINT) -> tuple[int, int]:
    """The queries (normal, abnormal) that some support set leaves of those asked for, as `support_ways.possible_queries` reduces them.

    Raises UsageError that says how many segments there are and which shot would fit, when not even one of each is left.
    """
    found = feasible_queries(segments, shot=shot, queries=queries, protocol=protocol)
    if found[0]:
        return found
    if protocol == PUBLISHED:
        raise UsageError(_too_few_of_each(segments, shot=shot))
    sizes = group_segments(segments).sizes
    fits = [k for k in range(1, shot) if support_ways.abnormal_left(sizes, shot=k, normal=1)[1] > 0]
    have = " and ".join(f"{n} {name} segments in {int((sizes[:, c] > 0).sum())} independent videos or sources"
                        for c, (n, name) in enumerate(zip(sizes.sum(0), LABELS)))
    hint = f"--config.episodes.shot={max(fits)} would fit" if fits else "label more videos: not even 1 shot fits"
    raise UsageError(f"too few segments for config.episodes.shot={shot}: the evaluation videos have {have}, and support and "
                     f"query must not share a video or source; {hint}")


def sample_episodes(segments: Sequence[Segment], *, count: int, shot: int, queries: tuple[int, int], seed: int,
                    protocol: str = DISJOINT) -> Episodes:
    """Draws `count` 2-way episodes: support sets uniformly among those that leave `queries` (normal, abnormal), then queries.

    `queries` must be feasible (`largest_queries`). Episode i depends on (seed, i) alone.
    """
    if protocol == PUBLISHED:
        return _permuted(segments, count=count, shot=shot, queries=queries, seed=seed)
    groups = group_segments(segments)
    ways = cache(lambda: support_ways.count_ways(groups.sizes, shot=shot, queries=queries))
    table = Table(groups, np.array([s.label for s in segments]), shot, queries, ways)
    together = max(1, AT_ONCE // (len(segments) + (shot + 1) ** WAY))
    drawn = [_disjoint(table, [numpy_stream(seed, "episode", i) for i in range(first, min(first + together, count))])
             for first in range(0, count, together)]
    return Episodes(*(np.concatenate(side).astype(np.int32) for side in zip(*drawn)), queries)


def feasible_queries(segments: Sequence[Segment], *, shot: int, queries: tuple[int, int], protocol: str = DISJOINT) -> tuple[int, int]:
    """As `largest_queries`; (0, 0) where not even one query of each class is left."""
    if protocol == PUBLISHED:
        normal, abnormal = (sum(s.label == c for s in segments) - shot for c in range(WAY))
        left = np.where(np.arange(queries[0] + 1) <= normal, abnormal, support_ways.NEVER)
    else:
        left = support_ways.abnormal_left(group_segments(segments).sizes, shot=shot, normal=queries[0])
    return support_ways.possible_queries(left, queries)


def _too_few_of_each(segments: Sequence[Segment], *, shot: int) -> str:
    """What is wrong where any two segments may meet."""
    have = [sum(s.label == c for s in segments) for c in range(WAY)]
    hint = f"--config.episodes.shot={min(have) - 1} would fit" if min(have) > 1 else "label more videos: not even 1 shot fits"
    return (f"too few segments for config.episodes.shot={shot}: the evaluation videos have "
            + " and ".join(f"{n} {name} segments" for n, name in zip(have, LABELS)) + f"; {hint}")


def _permuted(segments: Sequence[Segment], *, count: int, shot: int, queries: tuple[int, int], seed: int) -> Episodes:
    """In each episode a random order of the segments of each class: the first `shot` are its support, the next ones its queries."""
    members = [np.flatnonzero([s.label == c for s in segments]) for c in range(WAY)]

    def sides(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        orders = [rng.permutation(own) for own in members]
        return (np.concatenate([own[:shot] for own in orders]),
                np.concatenate([own[shot:shot + number] for own, number in zip(orders, queries)]))

    drawn = [sides(numpy_stream(seed, "episode", i)) for i in range(count)]
    return Episodes(*(np.array(side, np.int32) for side in zip(*drawn)), queries)


def _disjoint(table: Table, rngs: list[np.random.Generator]) -> tuple[np.ndarray, np.ndarray]:
    """Support and query of one episode for each generator.

    Each segment gets a random rank; the first of each class are the support. Where they leave too few queries others are drawn, `TRIES` times
    in all, and then by counting; either way all support sets that leave enough are equally likely. The first that are free are the queries.
    """
    rank, support = np.zeros((len(rngs), len(table.labels))), np.zeros((len(rngs), WAY * table.shot), int)
    pending = np.arange(len(rngs))
    for _ in range(TRIES):
        rank[pending] = [rngs[i].random(rank.shape[1]) for i in pending]
        support[pending] = table.first_of_each(rank[pending], (table.shot,) * WAY)
        pending = pending[~table.leaves_queries(support[pending])]
        if not pending.size:
            break
    if pending.size:
        rank[pending], support[pending] = _by_counting(table, [rngs[i] for i in pending])
    return support, table.first_of_each(np.where(table.free(support), rank, np.inf), table.queries)


def _by_counting(table: Table, rngs: list[np.random.Generator]) -> tuple[np.ndarray, np.ndarray]:
    """Random ranks [E, S] and support sets [E, WAY * shot] that leave enough queries, however few there are."""
    (of_segment, sizes), shot = table.groups, table.shot
    uniform, rank, order = (np.array([rng.random(n) for rng in rngs]) for n in (len(sizes), len(of_segment), WAY * shot))
    gives = support_ways.draw_gives(sizes, table.ways(), uniform)
    cell = table.labels * len(sizes) + of_segment  # segments of one class and group
    cells, place = np.sort(cell), np.arange(len(cell))
    taken = place - np.searchsorted(cells, cells) < gives.swapaxes(1, 2).reshape(len(rngs), -1)[:, cells]
    support = np.argsort(cell + rank, axis=1)[taken].reshape(len(rngs), WAY, shot)
    return rank, np.take_along_axis(support, order.reshape(support.shape).argsort(axis=-1), axis=-1).reshape(len(rngs), -1)


def lowest(values: np.ndarray, number: int) -> np.ndarray:
    """Where the `number` lowest of values [..., S] lie, in their order: int [..., number]."""
    found = np.argpartition(values, number - 1, axis=-1)[..., :number]
    return np.take_along_axis(found, np.take_along_axis(values, found, axis=-1).argsort(axis=-1), axis=-1)
