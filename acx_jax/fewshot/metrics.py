"""What is measured in each episode, and its mean with a 95 % interval over episodes."""

from __future__ import annotations

import numpy as np
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

THRESHOLD = 0.5  # a query is abnormal if its probability is above; nothing above any class's counts as normal, as published


def episode_metrics(probability: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Per-episode values, float64 [E] each.

    probability: float [E, Q] of abnormal. labels: int [Q], 0 normal and 1 abnormal, both present, the same in each episode.
    """
    right = (probability > THRESHOLD) == (labels == 1)
    return {
        "accuracy": right.mean(axis=1),
        "auroc": np.array([roc_auc_score(labels, row) for row in probability]),
        "average_precision": np.array([average_precision_score(labels, row) for row in probability]),
        "recall_normal": right[:, labels == 0].mean(axis=1),
        "recall_abnormal": right[:, labels == 1].mean(axis=1),
    }


def half_width_95(values: np.ndarray) -> float:
    """Half the width of the 95 % interval of the mean of values [E], by Student's t; E is at least 2."""
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
