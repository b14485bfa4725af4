"""Few-shot evaluation: every learner on the same episodes, before and after adaptation."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from acx_jax.contracts import ABNORMAL, NORMAL, ContextFeatures, Episodes
from acx_jax.data import prepared
from acx_jax.data.episode_file import data_hash, digest_of, load_episodes
from acx_jax.data.meta_split import EVALUATE
from acx_jax.data.subsets import Subset, subsets
from acx_jax.fewshot.episodes import class_labels
from acx_jax.fewshot.learner import Learner
from acx_jax.fewshot.metrics import chance_accuracy, chance_precision, class_metrics, half_width_95, paired_difference, recalls_by_category
from acx_jax.runtime.files import write_array, write_json
from acx_jax.stages import evaluate_episodes, meta_parts, meta_train, support
from acx_jax.stages.evaluate_table import part_name, slug, table
from acx_jax.stages.job import Job
from acx_jax.stages.learners import LENGTH, check_dimension, code_of, make_learner, seen_by
from acx_jax.stages.meta_train import LEARNT, RANDOM
from acx_jax.stages.scoring import Scorer

NO_FEATURES = "none"  # of the length baseline, which looks at none
Measured = tuple[dict[str, Any], dict[str, np.ndarray]]  # a row, and its `class_metrics`
COMPARED = ("accuracy", "balanced_accuracy", "auroc")  # between every two rows
SPREAD = {"std": np.std, "min": np.min, "max": np.max}  # over episodes, as the published table has them


class Drawn(NamedTuple):
    """Episodes of a part, and what learners of features see of them: with augmented sequences in the support, if so asked."""

    part: Subset
    episodes: Episodes
    fitted: Episodes


def settings(config: ConfigDict) -> dict[str, Any]:
    """What of the config this stage depends on."""
    episodes = config.episodes.to_dict()
    labels = config.episodes.classes == "labels"
    for name in ("chunk", "reported", "augmented", *(("way", "classes") if labels else ())):  # they change no number, but augmented, added below
        episodes.pop(name)
    if episodes["query_abnormal"] in (0, episodes["query"]):  # equal counts are what older runs had
        episodes.pop("query_abnormal")
    episodes |= support.settings(config.episodes.augmented)
    used = {"seed": config.seed, "episodes": episodes, "learners": config.learners.to_dict(), "scores": "margins"}
    if config.episodes.file:
        drawn = {"rows": ()} | support.settings(config.episodes.augmented)
        of_parts = episodes if episodes["rows"] else drawn  # their episodes are drawn, whatever the others are
        used["episodes"] = of_parts | {"file": digest_of(Path(config.episodes.file))}
    used |= {"meta": config.meta.to_dict()} if config.meta.steps else {}
    used |= meta_parts.division(config) if config.probe.share else {}
    code = code_of(config)
    return used | {"learner_code": code} if code else used


def check_possible(config: ConfigDict, workdir: Path) -> None:
    """Raises UsageError when the prepared segments are too few for the asked shots, or not those of the episodes to replay."""
    stored = [s for s in prepared.load(workdir / "prepare")[0] if s.segment.split == "evaluate"]
    segments = [s.segment for s in stored]
    if config.episodes.file:
        evaluate_episodes.refuse_for_two(config, load_episodes(Path(config.episodes.file), data=data_hash(stored), segments=segments)[0])
    if config.meta.steps or not config.episodes.file:
        meta_parts.check_possible(config, segments)


def run(job: Job) -> None:
    """Writes `episodes.npz`, `scores/<features>-<learner>.npy` (`Scorer.scores`), `results.json` and `comparisons.json`."""
    stored, coverage = prepared.load(job.workdir / "prepare")
    stored = [s for s in stored if s.segment.split == "evaluate"]
    segments = [s.segment for s in stored]
    parts = subsets(segments, meta_parts.indices_of(job.config, segments, EVALUATE), job.config.episodes.rows)
    features = support.load_sets(job)
    for of_set in features.values():
        check_dimension(job.config, of_set.vectors.shape[1])
    tried = [(parts[0], evaluate_episodes.whole(job, stored)), *((part, evaluate_episodes.of_part(job, part, stored)) for part in parts[1:])]
    drawn = [(part, episodes) for part, episodes in tried if episodes is not None]
    given = next(iter(features.values()))
    measured = _rows(job, [Drawn(part, episodes, support.fitted_on(job, episodes, given, segments=len(segments))) for part, episodes in drawn], features)
    rows = [row for of_part in measured for row, _ in of_part]
    of_data = {"data": data_hash(stored), "videos_used": coverage.videos_used, "videos_listed": coverage.videos_listed}
    write_json(job.out / "results.json", [row | of_data for row in rows])
    write_json(job.out / "comparisons.json", _comparisons(measured[0]))
    for line in table(rows, reported=job.config.episodes.reported):
        job.log.info(line)
    job.log.info(f"on {coverage.videos_used} of {coverage.videos_listed} listed videos, data hash {of_data['data']}")


def _rows(job: Job, drawn: list[Drawn], features: dict[str, ContextFeatures]) -> list[list[Measured]]:
    """For each part one row a learner and set of features, and the baseline of length, each with what was measured in each episode.

    A learner goes through all parts before the next, so that what is compiled for it serves them all.
    """
    names = (*job.config.learners.names, *((LEARNT, RANDOM) if job.config.meta.steps else ()))
    asked = [(name, learner) for name in features for learner in names] + [(NO_FEATURES, LENGTH)]
    rows = [_rows_of(job, name, learner, features.get(name, next(iter(features.values()))), drawn) for name, learner in asked]
    return [list(of_part) for of_part in zip(*rows)]


def _rows_of(job: Job, features_name: str, learner_name: str, features: ContextFeatures, drawn: list[Drawn]) -> list[Measured]:
    """One learner's row of each part."""
    label = learner_name if features_name == NO_FEATURES else f"{learner_name} on {features_name} features"
    way = drawn[0][1].way  # parts of their own are of two classes, as all segments then are
    scorer = cache(lambda: Scorer(*_learner(job, features_name, learner_name, features, way), seed=job.config.seed, chunk=job.config.episodes.chunk,
                                  label=label, log=job.log))
    return [_row(job, one, features_name, learner_name, scorer) for one in drawn]


def _row(job: Job, drawn: Drawn, features_name: str, learner_name: str, scorer: Callable[[], Scorer]) -> Measured:
    (part, episodes, fitted), of_length = drawn, features_name == NO_FEATURES
    folder = job.out / "scores" / ("" if part.is_whole else slug(part))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{features_name}-{learner_name}.npy"
    if not path.exists():  # an interrupted run of the same fingerprint left what it had finished
        write_array(path, scorer().scores(episodes if of_length else fitted, of_part="" if part.is_whole else f", {part_name(part)}"))
    scores = np.load(path)
    values = class_metrics(scores, class_labels(episodes.way, episodes.queries))
    means = {name: round(float(value.mean()), 6) for name, value in values.items()}
    intervals = {f"{name}_ci95": round(half_width_95(value), 6) for name, value in values.items()}
    spread = {f"accuracy_{name}": round(float(of(values["accuracy"])), 6) for name, of in SPREAD.items()}
    row = {"learner": learner_name, "features": features_name, "category": part.category, "ego_involved": part.ego_involved, "way": episodes.way,
           "shot": episodes.shot, "augmented": 0 if of_length else job.config.episodes.augmented, "query": episodes.queries[NORMAL],
           "query_abnormal": episodes.queries[ABNORMAL], "episodes": len(episodes.support),
           "accuracy_chance": round(chance_accuracy(episodes.queries), 6),
           "average_precision_chance": round(chance_precision(episodes.queries), 6), **means, **intervals, **spread}
    if episodes.categories is not None:
        recalls = recalls_by_category(scores, episodes.queries, episodes.categories)
        row["recall_by_category"] = {name: round(value, 6) for name, value in recalls.items()}
    return row, values


def _learner(job: Job, features_name: str, name: str, features: ContextFeatures, way: int) -> tuple[Learner, ContextFeatures]:
    """A learner by name and what it sees of the features."""
    config, dimension = job.config, features.vectors.shape[1]
    if name in (LEARNT, RANDOM):
        learner = meta_train.learners_of(config, job.workdir, features_name, features=dimension)[name]
        return learner, seen_by(config.meta.learner, config, features)
    return make_learner(name, config, features=dimension, way=way), seen_by(name, config, features)


def _comparisons(rows: list[Measured]) -> list[dict[str, Any]]:
    """Every two rows on the same episodes: the mean difference of their measures of COMPARED, each with a 95 % interval."""
    named = [(f"{row['features']}-{row['learner']}", values) for row, values in rows]
    found = []
    for (one, a), (other, b) in combinations(named, 2):
        entry: dict[str, Any] = {"row": one, "other": other}
        for metric in COMPARED:
            difference, half = paired_difference(a[metric], b[metric])
            entry |= {metric: round(difference, 6), f"{metric}_ci95": round(half, 6)}
        found.append(entry)
    return found
