"""What is measured in each episode, and its mean with a 95 % interval over episodes."""

from __future__ import annotations

import numpy as np
from scipy import stats
from sklearn.metrics import average_precision_score, f1_score, matthews_corrcoef, roc_auc_score

THRESHOLD = 0.5  # a query is abnormal if its probability is above; nothing above any class's counts as normal, as published
BINS = 10  # of the calibration error


def episode_metrics(probability: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Per-episode values, float64 [E] each; f1 and mcc (Matthews' correlation) are of the class abnormal, 0 where undefined.

    probability: float [E, Q] of abnormal. labels: int [Q], 0 normal and 1 abnormal, both present, the same in each episode.
    """
    called, abnormal = probability > THRESHOLD, labels == 1
    right = called == abnormal
    return {
        "accuracy": right.mean(axis=1),
        "auroc": np.array([roc_auc_score(labels, row) for row in probability]),
        "average_precision": np.array([average_precision_score(labels, row) for row in probability]),
        "recall_normal": right[:, ~abnormal].mean(axis=1),
        "recall_abnormal": right[:, abnormal].mean(axis=1),
        "f1": np.array([f1_score(labels, row, zero_division=0) for row in called]),
        "mcc": np.array([matthews_corrcoef(labels, row) for row in called]),
        "ece": calibration_error(probability, abnormal),
        "accuracy_calibrated": calibrated_accuracy(probability, abnormal),
    }


def calibration_error(probability: np.ndarray, abnormal: np.ndarray) -> np.ndarray:
    """Expected calibration error [E] of probability [E, Q] in `BINS` equal bins (Naeini et al., 2015): the share of a bin's
    queries times how far their mean probability of abnormal lies from the share of them that is (abnormal: bool [Q])."""
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    members = bins[..., None] == np.arange(BINS)
    gaps = np.einsum("eqb,eq->eb", members, probability - abnormal)
    return np.abs(gaps).sum(axis=1) / probability.shape[1]


def calibrated_accuracy(probability: np.ndarray, abnormal: np.ndarray) -> np.ndarray:
    """Accuracy [E] at a threshold that is fitted instead of `THRESHOLD`: each half of the queries (every other one of each class) is
    judged by the threshold that is best on the other half, never on itself. What it gains over the accuracy is lost to calibration, not
    to ranking. probability: [E, Q]; abnormal: bool [Q]. Where a half is empty, its threshold is `THRESHOLD`.
    """
    half = np.zeros(len(abnormal), int)
    for own in (abnormal, ~abnormal):
        half[own] = np.arange(own.sum()) % 2
    right = np.zeros(probability.shape, bool)
    for judged, other in ((half == 0, half == 1), (half == 1, half == 0)):
        threshold = best_threshold(probability[:, other], abnormal[other])
        right[:, judged] = (probability[:, judged] > threshold[:, None]) == abnormal[judged]
    return right.mean(axis=1)


def best_threshold(probability: np.ndarray, abnormal: np.ndarray) -> np.ndarray:
    """The threshold [E] of highest accuracy on probability [E, Q], half-way between two of the values; nearest to `THRESHOLD` of several."""
    if not abnormal.size:
        return np.full(len(probability), THRESHOLD)
    ends = np.pad(np.sort(probability, axis=1), ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1)))
    between = (ends[:, 1:] + ends[:, :-1]) / 2
    right = ((probability[:, None] > between[..., None]) == abnormal).mean(axis=-1)
    worth = np.where(right == right.max(axis=1, keepdims=True), -np.abs(between - THRESHOLD), -np.inf)
    return np.take_along_axis(between, worth.argmax(axis=1)[:, None], axis=1)[:, 0]


def paired_difference(values: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Mean of values - others over the same episodes, [E] each, and half the width of its 95 % interval."""
    return float((values - others).mean()), half_width_95(values - others)


def half_width_95(values: np.ndarray) -> float:
    """Half the width of the 95 % interval of the mean of values [E], by Student's t; E is at least 2."""
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
