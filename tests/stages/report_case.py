"""A workdir as the stages before the report leave it, with scores made up so that they carry a signal."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logit
from sklearn.metrics import roc_auc_score

from acx_jax.contracts import Coverage, Episodes, Segment, Skipped, StoredSegment
from acx_jax.data.episode_file import Origin, save_episodes

DATA = "0123456789abcdef"  # the hash that the results hold
STRENGTHS = {
    ("pretrained", "mcp"): 1.1, ("adapted", "mcp"): 1.9, ("pretrained", "proto"): 0.6, ("adapted", "proto"): 0.62,
    ("pretrained", "linear"): 0.7, ("adapted", "linear"): 0.9, ("none", "length"): 0.0,
}


class Case(NamedTuple):
    """What the prepare stage would give, and what is written into the other stages' folders."""

    segments: tuple[StoredSegment, ...]
    coverage: Coverage
    episodes: Episodes
    scores: dict[tuple[str, str], np.ndarray]
    rows: list[dict[str, Any]]
    losses: list[dict[str, float]]


def make_case(*, strengths=None, videos: int = 24, shot: int = 2, query: int = 5, query_abnormal: int = 0, count: int = 20, skipped: int = 2,
              steps: int = 12, name: str = "clip {}.mp4") -> Case:
    """Two segments a video, normal and abnormal; every fourth video is for adaptation."""
    random = np.random.default_rng(0)
    segments = _segments(videos, name)
    evaluated = [stored for stored in segments if stored.segment.split == "evaluate"]
    episodes = _episodes(random, evaluated, shot, (query, query_abnormal or query), count)
    scores = {key: _scores(random, episodes, strength) for key, strength in (strengths or STRENGTHS).items()}
    rows = [_row(key, of, episodes) for key, of in scores.items()]
    left_out = tuple(Skipped(f"broken {i}.mp4", "holds no video stream") for i in range(skipped))
    coverage = Coverage(videos + skipped, videos, 2 * (videos + skipped), 2 * videos, left_out, ("1 segment was cut to 124 frames",))
    losses = [{"step": i + 1, "loss": 5 * math.exp(-i / 8) + 1, "positive_probability": 1 - math.exp(-i / 8)} for i in range(steps)]
    return Case(segments, coverage, episodes, scores, rows, losses)


def write_case(case: Case, workdir: Path, protocol: str = "disjoint") -> None:
    """Writes everything but the prepare stage's folder."""
    (workdir / "evaluate" / "scores").mkdir(parents=True)
    for (features, learner), scores in case.scores.items():
        np.save(workdir / "evaluate" / "scores" / f"{features}-{learner}.npy", logit(scores))
    (workdir / "evaluate" / "results.json").write_text(json.dumps(case.rows))
    save_episodes(workdir / "evaluate" / "episodes.npz", case.episodes, Origin("0" * 16, 0, protocol))
    (workdir / "config.json").write_text(json.dumps({"overrides": {"data.root": "/home/someone/my videos", "adapt.steps": "12"}}))
    if case.losses:
        (workdir / "adapt").mkdir()
        (workdir / "adapt" / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in case.losses))
    (workdir / "embed").mkdir()
    (workdir / "embed" / "summary.json").write_text(json.dumps({"windows": 1234}))


def _segments(videos: int, name: str) -> tuple[StoredSegment, ...]:
    made, records = [], {"adapt": 0, "evaluate": 0}
    for video in range(videos):
        split = "adapt" if video % 4 == 0 else "evaluate"
        for label in (0, 1):
            of = 1 + video % 3
            segment = Segment(name.format(video), 40 * label, 40 * label + 39 - video % 7, label, ("", "collision")[label], split=split)
            made.append(StoredSegment(segment, 40 - video % 7, records[split], of))
            records[split] += of
    return tuple(made)


def _episodes(random, evaluated: list[StoredSegment], shot: int, queries: tuple[int, int], count: int) -> Episodes:
    by_class = [[i for i, stored in enumerate(evaluated) if stored.segment.label == label] for label in (0, 1)]
    draws = [[random.permutation(of)[: shot + query] for of, query in zip(by_class, queries)] for _ in range(count)]
    support, query = ([np.concatenate([own[side] for own in drawn]) for drawn in draws] for side in (slice(shot), slice(shot, None)))
    return Episodes(np.array(support, np.int32), np.array(query, np.int32), queries)


def _scores(random, episodes: Episodes, strength: float) -> np.ndarray:
    """Each segment has a difficulty of its own, so that some are recognised well in every episode."""
    signs = np.repeat([-1, 1], episodes.queries)
    difficulty = random.normal(size=episodes.query.max() + 1)[episodes.query]
    noise = random.normal(size=episodes.query.shape)
    return (1 / (1 + np.exp(-1.5 * (strength * signs + difficulty * 0.8 + 0.5 * noise)))).astype(np.float32)


def _row(key: tuple[str, str], scores: np.ndarray, episodes: Episodes) -> dict[str, Any]:
    truth = np.repeat([0, 1], episodes.queries)
    right = ((scores > 0.5) == truth)
    accuracy = right.mean(axis=1)
    auroc = float(np.mean([roc_auc_score(truth, one) for one in scores]))
    return {
        "learner": key[1], "features": key[0], "category": "all", "ego_involved": "all", "way": 2, "shot": episodes.shot, "data": DATA,
        "query": episodes.queries[0], "query_abnormal": episodes.queries[1], "episodes": len(scores), "accuracy": float(accuracy.mean()),
        "accuracy_ci95": float(1.96 * accuracy.std(ddof=1) / np.sqrt(len(scores))), "auroc": auroc, "average_precision": auroc,
        "balanced_accuracy": float((right[:, truth == 0].mean() + right[:, truth == 1].mean()) / 2), "balanced_accuracy_ci95": 0.01,
        "recall_normal": float(right[:, truth == 0].mean()), "recall_abnormal": float(right[:, truth == 1].mean()),
    }
