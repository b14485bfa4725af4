"""Which videos adapt and which evaluate: never both."""

from __future__ import annotations

from collections.abc import Sequence

from acx_jax.contracts import ABNORMAL, NORMAL, Segment
from acx_jax.randomness import numpy_stream

ADAPT, EVALUATE = "adapt", "evaluate"


def assign_splits(segments: Sequence[Segment], *, adapt_share: float, seed: int) -> tuple[Segment, ...]:
    """Gives every segment its split, in the order given; abnormal segments of adaptation videos are left out.

    Where any segment names a split, those decide for their whole videos and all other videos evaluate. Else
    round(adapt_share * videos) videos adapt, by `seed`: of those with a normal segment, first the ones without an
    abnormal segment, then the others; one of them at least stays for evaluation.

    The segments of a video must not name two splits. adapt_share: 0 to 1.
    """
    named = {s.video: s.split for s in segments if s.split}
    chosen = {v for v, split in named.items() if split == ADAPT} if named else _draw(segments, adapt_share, seed)
    split = [s._replace(split=ADAPT if s.video in chosen else EVALUATE) for s in segments]
    return tuple(s for s in split if s.split == EVALUATE or s.label == NORMAL)


def _draw(segments: Sequence[Segment], share: float, seed: int) -> set[str]:
    videos = sorted({s.video for s in segments})
    normal = {s.video for s in segments if s.label == NORMAL}
    abnormal = {s.video for s in segments if s.label == ABNORMAL}
    shuffled = [videos[i] for i in numpy_stream(seed, "adaptation videos").permutation(len(videos))]
    able = sorted((v for v in shuffled if v in normal), key=lambda v: v in abnormal)
    return set(able[: max(0, min(round(share * len(videos)), len(able) - 1))])
