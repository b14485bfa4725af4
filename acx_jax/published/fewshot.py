"""The published few-shot evaluation on recorded episodes: training is chaotic, so means over episodes and seeds are compared."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import jax
import numpy as np
from scipy.special import logit

from acx_jax.contracts import ContextFeatures
from acx_jax.fewshot.episodes import class_labels, score_episodes
from acx_jax.fewshot.mcp import mcp
from acx_jax.fewshot.metrics import episode_metrics
from acx_jax.fewshot.ragged import ragged
from acx_jax.models.context_perception import ContextHead
from acx_jax.published.bundle import Arrays, Bundle, Check
from acx_jax.published.measured import Measured, measured
from acx_jax.runtime import devices

FILE, WAY = "episodes.npz", 2
SEEDS, EPOCHS, BATCH, LEARNING_RATE = 8, 301, 4, 0.01
CERTAIN = 1e-12  # below any float32's distance from 1
ACCURACY, AUROC = 0.04, 0.02  # absolute, of the means: single seeds of the published code lie 0.05 apart


def recorded_episodes(bundle: Bundle) -> Iterator[Measured]:
    """Mean accuracy and mean AUROC of an episode over `SEEDS` seeds beside those of the recorded seeds."""
    arrays = _class_major(bundle.arrays(FILE))
    ours = np.concatenate(list(_probabilities(arrays)))
    recorded = arrays["score"].reshape(-1, arrays["score"].shape[-1])
    labels = class_labels(WAY, recorded.shape[1] // WAY)
    values, theirs = (episode_metrics(_margins(score), labels) for score in (ours, recorded))
    yield measured(f"mean accuracy, {SEEDS} seeds", [("accuracy", values["accuracy"].mean(), arrays["accuracy"].mean())],
                   tolerance=0, absolute=ACCURACY)
    yield measured(f"mean AUROC, {SEEDS} seeds", [("score", values["auroc"].mean(), theirs["auroc"].mean())],
                   tolerance=0, absolute=AUROC)
    yield measured("recall of abnormal", [("score", values["recall_abnormal"].mean(), theirs["recall_abnormal"].mean())], tolerance=None)


def _class_major(arrays: Arrays) -> Arrays:
    """The same episodes with their columns class after class, which the record need not have."""
    support, query = (np.argsort(arrays["labels"][arrays[side]], axis=1, kind="stable") for side in ("support", "query"))
    return Arrays(arrays.path, arrays | {
        "support": np.take_along_axis(arrays["support"], support, axis=1), "query": np.take_along_axis(arrays["query"], query, axis=1),
        "score": np.take_along_axis(arrays["score"], query[None], axis=2)})


def _probabilities(arrays: Arrays) -> Iterator[np.ndarray]:
    """Probability of abnormal of every query [E, Q], a seed after the other."""
    offsets = np.array([0, *accumulate(arrays["counts"].tolist())])
    features = ContextFeatures(arrays["features"].astype(np.float32), offsets)
    learner = mcp(ContextHead(WAY), features=features.vectors.shape[1], epochs=EPOCHS, batch=BATCH, learning_rate=LEARNING_RATE)
    score = score_episodes(learner, way=WAY, nodes=int(arrays["counts"].max()), together=1 if devices.on_cpu() else None)
    number, segments = len(arrays["support"]), devices.replicate(ragged(features))
    rows = np.minimum(np.arange(devices.round_up(number)), number - 1)
    drawn = [arrays[name][rows].astype(np.int32) for name in ("support", "query")]
    program = None
    for seed in range(SEEDS):
        keys = jax.random.split(jax.random.key(seed), len(rows))
        arguments = (segments, *devices.split((*drawn, keys)))
        program = program or devices.map_small(score, *arguments)
        yield np.asarray(jax.nn.softmax(devices.join(program(*arguments))))[:number, :, 1]


def _margins(probability: np.ndarray) -> np.ndarray:
    """Margins as far as float32 probabilities, which were recorded, tell them; finite."""
    return logit(np.clip(probability.astype(float), CERTAIN, 1 - CERTAIN))


CHECKS = {"episodes": Check((FILE,), recorded_episodes)}
