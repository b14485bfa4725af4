"""The parts that meta-training and the probe divide the evaluation segments into, as the config asks, and the episodes of each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from acx_jax.contracts import Episodes, Segment
from acx_jax.data.category_episodes import drawable_category_queries, sample_category_episodes
from acx_jax.data.episodes import largest_queries, sample_episodes
from acx_jax.data.meta_split import EVALUATE, TRAIN, VALIDATION, meta_parts
from acx_jax.errors import UsageError
from acx_jax.runtime import devices


def indices_of(config: ConfigDict, segments: Sequence[Segment], part: str) -> np.ndarray:
    """Which segments are of a part, int [n]; all of them are evaluated where nothing is meta-trained and there is no probe."""
    meta = config.meta
    parts = meta_parts(segments, share=meta.share if meta.steps else 0.0, validation=meta.validation, held_out=meta.held_out if meta.steps else (),
                       seed=config.seed + meta.split, probe=config.probe.share)
    return np.flatnonzero(parts == part)


def division(config: ConfigDict) -> dict[str, Any]:
    """The settings that `indices_of` follows, where there are parts."""
    meta = config.meta
    by_meta = {"share": meta.share, "validation": meta.validation, "held_out": list(meta.held_out)} if meta.steps else {}
    return {"parts": by_meta | {"split": meta.split, "probe": config.probe.share}} if meta.steps or config.probe.share else {}


def of_categories(config: ConfigDict) -> bool:
    """Whether the classes of an evaluation episode are normal and categories drawn for it, not normal and abnormal."""
    return config.episodes.classes == "categories"


def asked_queries(config: ConfigDict, part: str = EVALUATE) -> tuple[int, ...]:
    """The queries of each class, normal first, that the episodes of a part are to have; those of meta-training are as many of both."""
    if part != EVALUATE:
        return config.meta.query, config.meta.query
    asked = config.episodes
    return (asked.query, *((asked.query_abnormal or asked.query,) * (asked.way - 1 if of_categories(config) else 1)))


def feasible_queries(config: ConfigDict, segments: Sequence[Segment], part: str) -> tuple[int, ...]:
    """The queries that episodes of a part can have of those asked for. UsageError says which part is too small."""
    picked, asked = indices_of(config, segments, part), config.episodes
    largest = partial(drawable_category_queries, count=asked.count, seed=config.seed) if of_categories(config) else largest_queries
    try:
        return largest([segments[i] for i in picked], shot=asked.shot, queries=asked_queries(config, part), protocol=asked.protocol)
    except UsageError as error:
        if not config.meta.steps and not config.probe.share:
            raise
        of_meta = f"config.meta.share={config.meta.share} and config.meta.validation={config.meta.validation}" if config.meta.steps else ""
        of_probe = f"config.probe.share={config.probe.share}" if config.probe.share else ""
        raise UsageError(f"the {part} part of {' and '.join(filter(None, (of_meta, of_probe)))}, {len(picked)} of {len(segments)} segments: "
                         f"{error}") from None


def episodes_of(config: ConfigDict, segments: Sequence[Segment], part: str, *, count: int, queries: tuple[int, ...]) -> Episodes:
    """`count` episodes of a part, as indices into all of `segments`."""
    seed = config.seed if part == EVALUATE else config.seed + 1 + (TRAIN, VALIDATION).index(part)
    return episodes_among(config, segments, indices_of(config, segments, part), count=count, queries=queries, seed=seed)


def episodes_among(config: ConfigDict, segments: Sequence[Segment], picked: np.ndarray, *, count: int, queries: tuple[int, ...],
                   seed: int) -> Episodes:
    """`count` episodes of the segments `picked`, as indices into all of `segments`."""
    asked = config.episodes
    sample = sample_category_episodes if of_categories(config) else sample_episodes
    drawn = sample([segments[i] for i in picked], count=count, shot=asked.shot, queries=queries, seed=seed, protocol=asked.protocol)
    return drawn._replace(support=picked[drawn.support].astype(np.int32), query=picked[drawn.query].astype(np.int32))


def check_possible(config: ConfigDict, segments: Sequence[Segment]) -> None:
    """Raises UsageError when a part that is needed allows no episode of the asked shots, or the devices cannot share a batch of them."""
    if config.meta.steps and config.meta.batch % devices.count():
        raise UsageError(f"config.meta.batch is {config.meta.batch}, expected a multiple of the {devices.count()} devices")
    for part in (TRAIN, VALIDATION, EVALUATE) if config.meta.steps else (EVALUATE,):
        feasible_queries(config, segments, part)
