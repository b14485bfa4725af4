"""Episodes whose classes are normal and some categories of abnormal segments, drawn afresh for each episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from acx_jax.contracts import NORMAL, Episodes, Segment
from acx_jax.data import support_ways
from acx_jax.data.episodes import AT_ONCE, DISJOINT, PUBLISHED, group_segments, lowest
from acx_jax.errors import UsageError
from acx_jax.randomness import numpy_stream

TRIES = 200  # of an episode, before it counts as impossible
UNNAMED = -1


class Classes(NamedTuple):
    """names: the categories, sorted. of_segment: int [S], 0 for normal, 1 + i for abnormal of names[i], UNNAMED for abnormal of no category."""

    names: tuple[str, ...]
    of_segment: np.ndarray


class Table(NamedTuple):
    """What episodes are drawn from. classes: int [S]; groups: int [S], those that support and queries may not share; eligible: int [C], the
    classes that can stand beside normal; shot: segments a class; queries: of each class, normal first."""

    classes: np.ndarray
    groups: np.ndarray
    eligible: np.ndarray
    shot: int
    queries: tuple[int, ...]


def classes_of(segments: Sequence[Segment]) -> Classes:
    """The classes of segments, each category that an abnormal one names being one."""
    names = tuple(sorted({s.category for s in segments if s.label != NORMAL and s.category}))
    number = {"": UNNAMED} | {name: i + 1 for i, name in enumerate(names)}
    return Classes(names, np.array([0 if s.label == NORMAL else number[s.category] for s in segments], dtype=int))


def largest_category_queries(segments: Sequence[Segment], *, shot: int, queries: tuple[int, ...], protocol: str = DISJOINT) -> tuple[int, ...]:
    """The queries of each class (normal first, all categories alike) that `way - 1` categories can each leave beside normal of those asked for, as
    `support_ways.possible_queries` reduces them; way is the length of `queries`.

    Several categories together may leave fewer, which `drawable_category_queries` finds. Raises UsageError that says how many categories
    would fit, where they are too few.
    """
    names, left = _left(segments, shot=shot, normal=queries[0], protocol=protocol)
    others = len(queries) - 1
    fitting = [name for name, own in zip(names, left) if len(own) > 1 and own[1] > 0]
    if len(fitting) < others:
        raise UsageError(_too_few(names, fitting, way=len(queries), shot=shot))
    normal, each = support_ways.possible_queries(np.sort(left, axis=0)[len(names) - others], queries[:2], classes=others)
    return (normal, *(each,) * others)


def drawable_category_queries(segments: Sequence[Segment], *, count: int, shot: int, queries: tuple[int, ...], seed: int,
                              protocol: str = DISJOINT) -> tuple[int, ...]:
    """`largest_category_queries`, or where so many are too seldom left for `count` episodes, fewer: of the categories first (and of normal if it has
    as many), then of normal. Raises UsageError where not even one of each class can be drawn."""
    asked = largest_category_queries(segments, shot=shot, queries=queries, protocol=protocol)
    while True:
        try:
            sample_category_episodes(segments, count=count, shot=shot, queries=asked, seed=seed, protocol=protocol)
            return asked
        except UsageError:
            normal, each, *_ = asked
            if normal == each == 1:
                raise
        asked = (normal - (normal == each or each == 1), *(max(each - 1, 1),) * (len(asked) - 1))


def sample_category_episodes(segments: Sequence[Segment], *, count: int, shot: int, queries: tuple[int, ...], seed: int,
                             protocol: str = DISJOINT) -> Episodes:
    """Draws `count` episodes of normal and len(queries) - 1 categories, in which support and queries share no video and no source, or with the
    protocol "published" no segment.

    The law: categories are drawn uniformly among those that leave enough queries each alone beside normal, then a support set uniformly
    for each class; where these leave too few queries of a class, all of it is drawn anew. So sets of categories that rarely leave enough
    come up less often than others, and support sets of the same categories are equally likely. Queries are uniform among what is left.
    Episode i depends on (seed, i) alone. Raises UsageError where `TRIES` draws of an episode fail.
    """
    names, of_segment = classes_of(segments)
    left = _left(segments, shot=shot, normal=queries[0], protocol=protocol)[1]
    eligible = np.flatnonzero(left[:, queries[0]] >= queries[1]) + 1
    groups = np.arange(len(segments)) if protocol == PUBLISHED else group_segments(segments).of_segment
    table = Table(of_segment, groups, eligible, shot, queries)
    together = max(1, AT_ONCE // (len(segments) * len(queries)))
    drawn = [_draw(table, [numpy_stream(seed, "episode", i) for i in range(first, min(first + together, count))])
             for first in range(0, count, together)]
    support, query, classes = (np.concatenate(part) for part in zip(*drawn))
    return Episodes(support.astype(np.int32), query.astype(np.int32), queries, np.array(names)[classes[:, 1:] - 1])


def _left(segments: Sequence[Segment], *, shot: int, normal: int, protocol: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The categories, and for each how many of its segments support sets leave beside r normal ones (`abnormal_left`): int [C, normal + 1]."""
    names, of_segment = classes_of(segments)
    number = np.bincount(of_segment[of_segment != UNNAMED], minlength=len(names) + 1) - shot
    if protocol == PUBLISHED:
        enough = np.arange(normal + 1) <= number[0]
        return names, np.array([np.where(enough, own, support_ways.NEVER) for own in number[1:]]).reshape(-1, normal + 1)
    groups = group_segments(segments)
    sizes = np.zeros((len(groups.sizes), len(names) + 1), dtype=int)
    known = of_segment != UNNAMED
    np.add.at(sizes, (groups.of_segment[known], of_segment[known]), 1)
    return names, np.array([support_ways.abnormal_left(sizes[:, [0, i + 1]], shot=shot, normal=normal)
                            for i in range(len(names))]).reshape(-1, normal + 1)


def _too_few(names: Sequence[str], fitting: Sequence[str], *, way: int, shot: int) -> str:
    if not names:
        return ("config.episodes.classes is 'categories', and no abnormal segment to evaluate has one: name them in the column category of "
                "the table, or leave the setting at labels")
    have = f"{len(fitting)} of {len(names)} categories have enough segments in independent videos or sources"
    fewer = ", or fewer shots" if len(fitting) < len(names) else ""
    hint = (f"({', '.join(fitting)}): --config.episodes.way={len(fitting) + 1} would fit{fewer}" if fitting else
            "so that not one would fit: ask for fewer shots, or label more videos")
    return f"too few categories for config.episodes.way={way} and config.episodes.shot={shot}: beside the normal ones, {have} {hint}"


def _draw(table: Table, rngs: list[np.random.Generator]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Support, query and the class of each block, int [E, way], of one episode for each generator."""
    way, number = len(table.queries), len(rngs)
    rank, order = np.zeros((number, len(table.classes))), np.zeros((number, len(table.eligible)))
    classes, support = np.zeros((number, way), int), np.zeros((number, way * table.shot), int)
    pending = np.arange(number)
    for _ in range(TRIES):
        order[pending] = [rngs[i].random(order.shape[1]) for i in pending]
        rank[pending] = [rngs[i].random(rank.shape[1]) for i in pending]
        classes[pending, 1:] = table.eligible[lowest(order[pending], way - 1)]
        support[pending] = lowest(_ranks(table, rank[pending], classes[pending]), table.shot).reshape(len(pending), -1)
        enough = _free(table, support[pending], classes[pending]).sum(axis=-1) >= table.queries
        pending = pending[~enough.all(axis=1)]
        if not pending.size:
            free = _free(table, support, classes)
            first = lowest(np.where(free, rank[:, None], np.inf), max(table.queries))
            return support, np.concatenate([first[:, c, :q] for c, q in enumerate(table.queries)], axis=1), classes
    raise UsageError(f"in {TRIES} draws no episode of normal and {way - 1} categories with config.episodes.shot={table.shot} left "
                     f"{'+'.join(map(str, table.queries))} queries: the categories share too many videos or sources; ask for fewer queries, "
                     "shots or classes (config.episodes.query, shot, way)")


def _ranks(table: Table, rank: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """float [E, way, S]: the ranks of the segments of each block's class, infinite for others."""
    return np.where(table.classes == classes[..., None], rank[:, None], np.inf)


def _free(table: Table, support: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """bool [E, way, S]: which segments are of a block's class and share no group with the support."""
    used = np.zeros((len(support), table.groups.max() + 1), bool)
    used[np.arange(len(support))[:, None], table.groups[support]] = True
    return (table.classes == classes[..., None]) & ~used[:, None, table.groups]
