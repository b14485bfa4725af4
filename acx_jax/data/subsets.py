"""Parts of the evaluated segments that get rows of their own: ego-involved ones, each category, each category's ego-involved ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from acx_jax.contracts import NORMAL, Segment

ALL, EGO, NOT_EGO, CATEGORIES, EGO_CATEGORIES = "all", "ego", "not_ego", "categories", "ego_categories"
ROWS = (EGO, NOT_EGO, CATEGORIES, EGO_CATEGORIES)


class Subset(NamedTuple):
    """A part: its category or "all", its side of ego involvement ("yes", "no") or "all", and the segments that are of it, int [n]."""

    category: str
    ego_involved: str
    indices: np.ndarray

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the segments."""
        return self.category == self.ego_involved == ALL


def subsets(segments: Sequence[Segment], usable: np.ndarray, rows: Sequence[str]) -> list[Subset]:
    """All of `usable` (indices into the segments) first, then the parts that `rows` (some of ROWS) asks for.

    A normal segment is of the category and the side that it names; where no normal segment names any, all of them are of each.
    """
    return [Subset(ALL, ALL, usable), *(Subset(category, ego, _members(segments, usable, category, ego)) for category, ego in _asked(segments, rows))]


def _asked(segments: Sequence[Segment], rows: Sequence[str]) -> Iterator[tuple[str, str]]:
    names = sorted({s.category for s in segments if s.label != NORMAL and s.category})
    for row in ROWS:
        if row in rows:
            ego = {EGO: "yes", NOT_EGO: "no", CATEGORIES: ALL, EGO_CATEGORIES: "yes"}[row]
            yield from ([(name, ego) for name in names] if row in (CATEGORIES, EGO_CATEGORIES) else [(ALL, ego)])


def _members(segments: Sequence[Segment], usable: np.ndarray, category: str, ego: str) -> np.ndarray:
    normal = [segments[i] for i in usable if segments[i].label == NORMAL]
    named = {s.category for s in segments if s.label != NORMAL}
    free = {"category": not any(s.category in named for s in normal if s.category), "ego_involved": not any(s.ego_involved for s in normal)}
    wanted = [(field, value) for field, value in (("category", category), ("ego_involved", ego)) if value != ALL]

    def belongs(segment: Segment) -> bool:
        return all(getattr(segment, field) == value or (segment.label == NORMAL and free[field]) for field, value in wanted)

    return np.array([i for i in usable if belongs(segments[i])], dtype=int)
