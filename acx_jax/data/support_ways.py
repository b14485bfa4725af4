"""Support sets where few leave enough queries: counted by group, so that they can be drawn uniformly all the same."""

from __future__ import annotations

from math import comb

import numpy as np

NEVER = -(10**9)  # as a number of segments left: in no way


def abnormal_left(sizes: np.ndarray, *, shot: int, normal: int) -> np.ndarray:
    """int [normal + 1]: the most abnormal segments that support sets of `shot` a class leave beside r normal ones, by r; below 0 where there
    is no such support set. sizes: int [G, 2], the segments of both classes in each group.

    most[i, j, r]: the same where i normal and j abnormal ones were given, each counted up to its last index. A group that gives leaves
    none, so it gives all it has: what is then too much is not taken.
    """
    most = np.full((shot + 1, shot + 1, normal + 1), NEVER)
    most[0, 0, 0] = 0
    for own, abnormal in sizes:
        gives = _raised(_raised(most, own, axis=0), abnormal, axis=1)
        most = np.maximum(gives, _raised(most, own, axis=2) + abnormal)
    return np.maximum.accumulate(most[shot, shot, ::-1])[::-1]


def possible_queries(left: np.ndarray, queries: tuple[int, int], *, classes: int = 1) -> tuple[int, int]:
    """The queries (normal, abnormal) that can be had of those asked for; (0, 0) where it is not one of each. left: as of `abnormal_left`.

    Asked for as many of both, they stay as many. Otherwise it is the pair with most queries in all, and of those the one with most abnormal
    ones, which are rare. classes: how many classes of abnormal segments have that many each.
    """
    normal, abnormal = np.arange(len(left)), np.minimum(left, queries[1])
    if queries[0] == queries[1]:
        each = max(0, int(np.minimum(normal, abnormal).max()))
        return each, each
    total = np.where(np.minimum(normal, abnormal) > 0, normal + classes * abnormal, 0)
    most = int(total.argmax())  # the first, of fewest normal ones
    return (most, int(abnormal[most])) if total[most] else (0, 0)


def _raised(table: np.ndarray, by: int, *, axis: int) -> np.ndarray:
    """The table moved up along an axis; of what meets at its last index the largest stays."""
    table = np.moveaxis(table, axis, 0)
    last = len(table) - 1
    cut, moved = max(last - by, 0), np.full_like(table, NEVER)
    moved[by:last] = table[:cut]
    moved[last] = table[cut:].max(axis=0)
    return np.moveaxis(moved, 0, axis)


def count_ways(sizes: np.ndarray, *, shot: int, queries: tuple[int, int]) -> list[np.ndarray]:
    """ways[g][i, j, r, s]: in how many ways groups g, g+1, ... give i normal and j abnormal support segments and those that give none
    leave at least r normal and s abnormal ones, up to the numbers of `queries`.

    Scaled by a constant a group, which no draw depends on, so that large counts stay finite.
    """
    ways = [np.zeros((shot + 1, shot + 1, queries[0] + 1, queries[1] + 1))]
    ways[0][0, 0, 0, 0] = 1.0
    for size in sizes[::-1]:
        total = sum(_with_group(ways[-1], size, give) for give in _options(size, shot).tolist())
        ways.append(total / total.max())
    return ways[::-1]


def draw_gives(sizes: np.ndarray, ways: list[np.ndarray], uniform: np.ndarray) -> np.ndarray:
    """How many segments of each class each group gives, int [E, G, 2], in proportion to the ways to complete an episode.

    ways: of `count_ways`; uniform: float [E, G] in [0, 1), what each choice follows.
    """
    shot, *queries = (last - 1 for last in ways[0].shape[1:])
    rows, needed = np.arange(len(uniform)), np.full((len(uniform), 2), shot)
    short, gives = np.tile(queries, (len(uniform), 1)), np.zeros((*uniform.shape, 2), int)
    for g, size in enumerate(sizes):
        options = _options(size, shot)
        left = needed[:, None] - options
        still = np.maximum(short[:, None] - np.where(options.any(axis=1)[:, None], 0, size), 0)
        worth = ways[g + 1][(*np.moveaxis(np.maximum(left, 0), -1, 0), *np.moveaxis(still, -1, 0))] * (left >= 0).all(axis=-1)
        sums = (worth * [comb(size[0], i) * comb(size[1], j) for i, j in options.tolist()]).cumsum(axis=1)
        pick = (sums <= uniform[:, g, None] * sums[:, -1:]).sum(axis=1)
        gives[:, g], needed, short = options[pick], left[rows, pick], still[rows, pick]
    return gives


def _options(size: np.ndarray, shot: int) -> np.ndarray:
    """(normal, abnormal) numbers of support segments that a group of this size can give, int [O, 2]; none of both first."""
    return np.stack(np.meshgrid(*(np.arange(min(n, shot) + 1) for n in size), indexing="ij"), axis=-1).reshape(-1, 2)


def _with_group(rest: np.ndarray, size: np.ndarray, give: list[int]) -> np.ndarray:
    """Ways in which one more group gives so many and the groups behind it do the rest."""
    i, j = give
    if not i and not j:
        return rest[:, :, np.maximum(np.arange(rest.shape[2]) - size[0], 0)][..., np.maximum(np.arange(rest.shape[3]) - size[1], 0)]
    out = np.zeros_like(rest)
    out[i:, j:] = rest[: len(rest) - i, : rest.shape[1] - j] * (comb(size[0], i) * comb(size[1], j))
    return out
