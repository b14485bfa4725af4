"""Which evaluation segments meta-training and the probe of the adaptation may see: whole groups of videos and sources, none of them in an
evaluation episode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from acx_jax.contracts import ABNORMAL, Segment
from acx_jax.data.episodes import group_segments
from acx_jax.errors import UsageError
from acx_jax.randomness import numpy_stream

TRAIN, VALIDATION, PROBE, EVALUATE, UNUSED = "train", "validation", "probe", "evaluate", ""


def meta_parts(segments: Sequence[Segment], *, share: float, validation: float, held_out: Sequence[str], seed: int,
               probe: float = 0.0) -> np.ndarray:
    """The part of each segment, str [S]: TRAIN, VALIDATION, PROBE, EVALUATE or UNUSED.

    Of the groups that share no video and no source with others, those with and those without an abnormal segment apart,
    round(share * groups) go to meta-training, round(validation * those) of these choose when it stops, round(probe * groups) others are the
    probe's, and all the rest evaluate. Abnormal segments of a category in `held_out` are only evaluated, those of any other are then
    not evaluated. Raises UsageError for a category that no segment has.
    """
    _check_categories(segments, held_out)
    groups = group_segments(segments)
    with_abnormal = groups.sizes[:, ABNORMAL] > 0
    names = np.full(len(with_abnormal), EVALUATE, dtype=object)
    for kind in (True, False):
        drawn = numpy_stream(seed, "meta groups", int(kind)).permutation(np.flatnonzero(with_abnormal == kind))
        seen = round(share * len(drawn))
        names[drawn[:seen]] = TRAIN
        names[drawn[: round(validation * seen)]] = VALIDATION
        names[drawn[len(drawn) - round(probe * len(drawn)):]] = PROBE
    parts = names[groups.of_segment]
    if held_out:
        kept = np.array([s.category in held_out for s in segments])
        abnormal = np.array([s.label == ABNORMAL for s in segments])
        parts = np.where(abnormal & (kept != (parts == EVALUATE)), UNUSED, parts)
    return parts.astype(str)


def _check_categories(segments: Sequence[Segment], held_out: Sequence[str]) -> None:
    have = sorted({s.category for s in segments if s.label == ABNORMAL and s.category})
    for name in held_out:
        if name not in have:
            raise UsageError(f"config.meta.held_out names {name!r}, which no abnormal segment is: "
                             + (f"expected some of {', '.join(have)}" if have else "the segments here have no categories"))
