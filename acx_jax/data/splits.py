"""Which videos adapt and which evaluate: never both, unless the published way is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from acx_jax.contracts import ABNORMAL, NORMAL, Segment
from acx_jax.data.episodes import group_segments
from acx_jax.randomness import numpy_stream

ADAPT, EVALUATE = "adapt", "evaluate"


def assign_splits(segments: Sequence[Segment], *, adapt_share: float, seed: int, how: str = "official") -> tuple[Segment, ...]:
    """Gives every segment its split, in the order given; abnormal segments of adaptation videos are left out.

    how="official": where any segment names a split, those decide for their whole videos and all other videos evaluate. Else
    round(adapt_share * videos) videos adapt, by `seed`: of those with a normal segment, first the ones without an
    abnormal segment, then the others; one of them at least stays for evaluation.
    how="source": named splits do not count; whole sources are drawn, by the same rule, until adapt_share of the videos is
    reached. Videos that share a source, directly or through others, have one split.
    how="published": every segment that is not named for adaptation evaluates, and adaptation uses all normal segments, those
    among them too (they are given twice).

    The segments of a video must not name two splits. adapt_share: 0 to 1.
    """
    if how == "published":
        return _shared(segments)
    named = {} if how == "source" else {s.video: s.split for s in segments if s.split}
    draw = _draw_sources if how == "source" else _draw
    chosen = {v for v, split in named.items() if split == ADAPT} if named else draw(segments, adapt_share, seed)
    split = [s._replace(split=ADAPT if s.video in chosen else EVALUATE) for s in segments]
    return tuple(s for s in split if s.split == EVALUATE or s.label == NORMAL)


def _shared(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    adapt = [s._replace(split=ADAPT) for s in segments if s.label == NORMAL]
    return (*adapt, *(s._replace(split=EVALUATE) for s in segments if s.split != ADAPT))


def _draw_sources(segments: Sequence[Segment], share: float, seed: int) -> set[str]:
    """Videos of whole groups, as many groups as bring the number of videos nearest to its share."""
    of_segment = group_segments(segments).of_segment
    groups: list[list[Segment]] = [[] for _ in range(int(of_segment.max(initial=-1)) + 1)]
    for segment, group in zip(segments, of_segment):
        groups[group].append(segment)
    shuffled = [groups[i] for i in numpy_stream(seed, "adaptation sources").permutation(len(groups))]
    able = sorted((g for g in shuffled if any(s.label == NORMAL for s in g)), key=lambda g: any(s.label == ABNORMAL for s in g))
    videos = [{s.video for s in group} for group in able]
    wanted, reached = share * len({s.video for s in segments}), np.cumsum([0, *map(len, videos)])
    count = min(int(np.argmin(np.abs(reached - wanted))), max(0, len(groups) - 1))
    return set().union(*videos[:count])


def _draw(segments: Sequence[Segment], share: float, seed: int) -> set[str]:
    videos = sorted({s.video for s in segments})
    normal = {s.video for s in segments if s.label == NORMAL}
    abnormal = {s.video for s in segments if s.label == ABNORMAL}
    shuffled = [videos[i] for i in numpy_stream(seed, "adaptation videos").permutation(len(videos))]
    able = sorted((v for v in shuffled if v in normal), key=lambda v: v in abnormal)
    return set(able[: max(0, min(round(share * len(videos)), len(able) - 1))])
