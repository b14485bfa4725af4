"""The episodes of an evaluation: drawn, or replayed from a file, and written down for others to take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from acx_jax.contracts import Episodes, StoredSegment, in_words
from acx_jax.data.episode_file import Origin, data_hash, load_episodes, save_episodes
from acx_jax.data.episodes import feasible_queries, possible_way
from acx_jax.data.meta_split import EVALUATE
from acx_jax.data.subsets import Subset
from acx_jax.errors import UsageError
from acx_jax.stages import meta_parts
from acx_jax.stages.evaluate_table import part_name, queries_in_words, shots_in_words, slug
from acx_jax.stages.job import Job

EPISODES = "episodes.npz"


def whole(job: Job, stored: Sequence[StoredSegment]) -> Episodes:
    """The episodes drawn, or those of `episodes.file`; written down for others to take."""
    way = job.config.episodes.way
    if not meta_parts.of_categories(job.config) and possible_way(way) < way:
        job.log.info(f"evaluate: {possible_way(way)} classes an episode instead of {way}: there are no more")
    usable = meta_parts.indices_of(job.config, [s.segment for s in stored], EVALUATE)
    episodes, origin = _replayed(job, stored, usable) if job.config.episodes.file else _drawn(job, stored)
    save_episodes(job.out / EPISODES, episodes, origin)
    _say(job, episodes, origin, usable=len(usable), others=len(stored) - len(usable))
    return episodes


def _replayed(job: Job, stored: Sequence[StoredSegment], usable: np.ndarray) -> tuple[Episodes, Origin]:
    file = job.config.episodes.file
    episodes, origin = load_episodes(Path(file), data=data_hash(stored), segments=[s.segment for s in stored])
    refuse_for_two(job.config, episodes)
    _refuse_trained_on(file, episodes, usable)
    return episodes, origin


def _drawn(job: Job, stored: Sequence[StoredSegment]) -> tuple[Episodes, Origin]:
    asked, segments = job.config.episodes, [s.segment for s in stored]
    wanted, queries = meta_parts.asked_queries(job.config), meta_parts.feasible_queries(job.config, segments, EVALUATE)
    if queries != wanted:
        job.log.info(f"evaluate: {queries_in_words(queries)} instead of {in_words(wanted)}: the data leave no more beside {asked.shot} shots")
    episodes = meta_parts.episodes_of(job.config, segments, EVALUATE, count=asked.count, queries=queries)
    return episodes, Origin(data_hash(stored), job.config.seed, asked.protocol)


def _say(job: Job, episodes: Episodes, origin: Origin, *, usable: int, others: int) -> None:
    asked = job.config.episodes
    job.log.info(f"evaluate: {len(episodes.support)} episodes, {episodes.way}-way {shots_in_words(episodes.shot, asked.augmented)} "
                 f"{in_words(episodes.queries)}-query, {origin.protocol}, from {usable} segments"
                 + (f"; the other {others} are meta-training's or the probe's" if others else "")
                 + (f"; replayed from {asked.file}" if asked.file else ""))


def refuse_for_two(config: ConfigDict, episodes: Episodes) -> None:
    """Raises UsageError where episodes of a file are of categories, and something is asked for that is of two classes."""
    asked = [name for name, value in (("config.meta.steps", config.meta.steps), ("config.episodes.rows", config.episodes.rows)) if value]
    if asked and episodes.categories is not None:
        raise UsageError(f"config.episodes.file {config.episodes.file} has episodes of normal and {episodes.way - 1} categories, and {' and '.join(asked)} "
                         "are of two classes, normal and abnormal: leave one of them out")


def _refuse_trained_on(file: str, episodes: Episodes, usable: np.ndarray) -> None:
    if not np.isin(np.concatenate([episodes.support, episodes.query], axis=1), usable).all():
        raise UsageError(f"config.episodes.file {file} has episodes with segments that meta-training or the probe has seen: set "
                         "--config.meta.steps=0 and --config.probe.share=0, or take episodes of a run with the same config.meta and config.probe")


def of_part(job: Job, part: Subset, stored: Sequence[StoredSegment]) -> Episodes | None:
    """Episodes within one part; None, said aloud, where it allows none."""
    asked, segments = job.config.episodes, [s.segment for s in stored]
    queries = feasible_queries([segments[i] for i in part.indices], shot=asked.shot, queries=meta_parts.asked_queries(job.config),
                               protocol=asked.protocol)
    if not queries[0]:
        job.log.info(f"evaluate: no row for {part_name(part)}: its {len(part.indices)} segments allow no {asked.shot}-shot episode")
        return None
    job.log.info(f"evaluate: {part_name(part)}: {asked.count} episodes, {queries_in_words(queries)}, from {len(part.indices)} segments")
    episodes = meta_parts.episodes_among(job.config, segments, part.indices, count=asked.count, queries=queries, seed=job.config.seed)
    (job.out / "episodes").mkdir(exist_ok=True)
    save_episodes(job.out / "episodes" / f"{slug(part)}.npz", episodes, Origin(data_hash(stored), job.config.seed, asked.protocol))
    return episodes
