"""What the report is drawn from: the outputs of the other stages, read back."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from acx_jax.contracts import ABNORMAL, Coverage, Episodes, StoredSegment
from acx_jax.data import prepared
from acx_jax.data.episode_file import read_episodes
from acx_jax.errors import UsageError, WorkError
from acx_jax.fewshot.episodes import class_labels
from acx_jax.fewshot.metrics import chance_accuracy, margins_of
from acx_jax.stages.embed import SETS

Row = dict[str, Any]  # one row of evaluate/results.json
Scored = tuple[str, str]  # (features, learner)

MEASURES = ("accuracy", "accuracy_ci95", "balanced_accuracy", "balanced_accuracy_ci95", "auroc", "average_precision", "recall_normal", "recall_abnormal")


class Training(NamedTuple):
    """What the stages tell of their training, nothing of that which did not happen.

    losses: a line a step of the adaptation. probes: a line a probe of it. probe: what adapt/summary.json says of the probes. meta: lines of
    meta-training by the features that it saw, or under "" where it trained the encoder.
    """

    losses: tuple[Row, ...] = ()
    probes: tuple[Row, ...] = ()
    probe: Row | None = None
    meta: tuple[tuple[str, tuple[Row, ...]], ...] = ()


class Findings(NamedTuple):
    """Everything the report shows.

    rows: the rows over all segments. split_rows: those of one category or one side of ego_involved. margins: float [E,
    Q], how far the logit of abnormal lies above that of normal, by (features, learner). segments: the stored segments of both
    splits; `episodes` index those of the split "evaluate". comparisons: those of evaluate/comparisons.json. whitened: what embed/summary.json says
    of the whitening, None where there was none.
    """

    rows: tuple[Row, ...]
    split_rows: tuple[Row, ...]
    episodes: Episodes
    protocol: str
    margins: dict[Scored, np.ndarray]
    segments: tuple[StoredSegment, ...]
    coverage: Coverage
    training: Training
    comparisons: tuple[Row, ...]
    windows: int | None
    overrides: dict[str, str]
    whitened: Row | None = None

    @property
    def chance(self) -> float:
        return chance_accuracy(self.episodes.queries)

    @property
    def unequal(self) -> bool:
        """Whether classes have not as many queries, so that accuracy is mostly of the one that has most."""
        return len(set(self.episodes.queries)) > 1

    @property
    def data(self) -> str:
        """The hash of the evaluated data, as the results have it; "" in those of older runs."""
        return next((row["data"] for row in self.rows if row.get("data")), "")

    @property
    def evaluated(self) -> tuple[StoredSegment, ...]:
        return tuple(stored for stored in self.segments if stored.segment.split == "evaluate")


def load(workdir: Path) -> Findings:
    """Reads what the stages before wrote. Raises UsageError if there are no results yet."""
    evaluate = workdir / "evaluate"
    rows = [_with_numbers(row) for row in _read_results(evaluate / "results.json")]
    segments, coverage = prepared.load(workdir / "prepare")
    embedded = _read_json(workdir / "embed" / "summary.json", {})
    return Findings(
        rows=tuple(row for row in rows if _is_whole(row)),
        split_rows=tuple(row for row in rows if not _is_whole(row)),
        **_read_episodes(evaluate / "episodes.npz"),
        margins=_read_margins(evaluate / "scores", rows),
        segments=segments,
        coverage=coverage,
        training=load_training(workdir),
        comparisons=tuple(_read_json(evaluate / "comparisons.json", ())),
        windows=embedded.get("windows"),
        overrides=read_overrides(workdir),
        whitened=embedded.get("whitened"),
    )


def load_training(workdir: Path) -> Training:
    """What adaptation and meta-training left."""
    adapt, meta = workdir / "adapt", workdir / "meta_train"
    logs = [(name, _read_lines(meta / name / "log.jsonl")) for name in ("", *SETS)]
    return Training(_read_lines(adapt / "log.jsonl"), _read_lines(adapt / "probes.jsonl"), _read_json(adapt / "summary.json", {}).get("probe"),
                    tuple((name, lines) for name, lines in logs if lines))


def read_overrides(workdir: Path) -> dict[str, str]:
    """The settings that were given on the command line."""
    return _read_json(workdir / "config.json", {}).get("overrides", {})


def true_classes(episodes: Episodes) -> np.ndarray:
    """int [Q]: NORMAL or ABNORMAL, of each query column; every category is abnormal."""
    return np.minimum(class_labels(episodes.way, episodes.queries), ABNORMAL)


def _read_results(path: Path) -> list[Row]:
    rows = _read_json(path, [])
    if not rows:
        raise UsageError(f"{path} is missing or empty: run --stage=evaluate first")
    return rows


def _with_numbers(row: Row) -> Row:
    """JSON may hold null where a measure is undefined; here it is NaN."""
    return row | {key: math.nan if row.get(key) is None else float(row[key]) for key in MEASURES}


def _is_whole(row: Row) -> bool:
    return row["category"] == "all" and row["ego_involved"] == "all"


def _read_episodes(path: Path) -> dict[str, Any]:
    episodes, origin = read_episodes(path)
    return {"episodes": episodes, "protocol": origin.protocol}


def _read_margins(folder: Path, rows: list[Row]) -> dict[Scored, np.ndarray]:
    names = {(row["features"], row["learner"]) for row in rows if _is_whole(row)}
    paths = {name: folder / f"{name[0]}-{name[1]}.npy" for name in sorted(names)}
    return {name: margins_of(np.load(path, allow_pickle=False)) for name, path in paths.items() if path.exists()}


def _read_json(path: Path, missing: Any) -> Any:
    return _parsed(path, path.read_text(encoding="utf-8")) if path.exists() else missing


def _read_lines(path: Path) -> tuple[Row, ...]:
    if not path.exists():
        return ()
    return tuple(_parsed(path, line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def _parsed(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise WorkError(f"report: {path} is damaged ({error}): delete the folder of the stage that wrote it and run the same command again, which then "
                        "does that stage anew") from None
