"""What is measured in each episode, and its mean with a 95 % interval over episodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats
from scipy.special import expit, logsumexp

THRESHOLD = 0.5  # a query is abnormal if its probability is above; nothing above any class's counts as normal, as published
BINS = 10  # of the calibration error


def episode_metrics(margin: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Per-episode values, float64 [E] each; balanced_accuracy is the mean of both recalls, which does not depend on how many queries
    each class has; f1 and mcc (Matthews' correlation) are of the class abnormal, 0 where undefined.

    margin: float [E, Q], how far the logit of abnormal lies above that of normal. Rankings and fitted thresholds are of it: in
    float32, the probability of every margin above 17 is 1. labels: int [Q], 0 normal and others abnormal, both present, the
    same in each episode.
    """
    probability, abnormal = expit(margin), labels > 0
    called = probability > THRESHOLD
    right = called == abnormal
    return {
        "accuracy": right.mean(axis=1),
        "balanced_accuracy": (right[:, ~abnormal].mean(axis=1) + right[:, abnormal].mean(axis=1)) / 2,
        "auroc": auroc(margin, abnormal),
        "average_precision": average_precision(margin, abnormal),
        "recall_normal": right[:, ~abnormal].mean(axis=1),
        "recall_abnormal": right[:, abnormal].mean(axis=1),
        **_of_calls(called, abnormal),
        "ece": calibration_error(probability, abnormal),
        "accuracy_calibrated": calibrated_accuracy(margin, abnormal),
    }


def margins_of(scores: np.ndarray) -> np.ndarray:
    """Float [E, Q]: how far the logit of abnormal lies above that of normal. scores: that itself, or logits [E, Q, way], class 0 being normal;
    the logit of abnormal is then that of any of the others, the logarithm of the sum of their exponentials."""
    if scores.ndim == 2:
        return scores
    logits = scores.astype(float)
    return logsumexp(logits[..., 1:], axis=-1) - logits[..., 0]


def class_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """The measures of `episode_metrics` on `margins_of(scores)`, and where there are more than two classes, accuracy and balanced_accuracy of
    telling all of them apart, those of normal against abnormal being accuracy_binary and balanced_accuracy_binary.

    labels: int [Q], the class of each query, all present. The class of highest logit is called, the first of several.
    """
    binary = episode_metrics(margins_of(scores), labels)
    if scores.ndim == 2:
        return binary
    right = scores.argmax(axis=-1) == labels
    recalls = np.mean([right[:, labels == c].mean(axis=1) for c in range(scores.shape[-1])], axis=0)
    own = {"accuracy": right.mean(axis=1), "balanced_accuracy": recalls}
    return binary | own | {f"{name}_binary": binary[name] for name in own}


def recalls_by_category(scores: np.ndarray, queries: Sequence[int], categories: np.ndarray) -> dict[str, float]:
    """The share of all queries of each category, over episodes, that is called that class of its episode.

    scores: as of `margins_of`. queries: how many of each class, normal first. categories: str [E, way - 1], those of the other classes.
    """
    called = scores.argmax(axis=-1) if scores.ndim == 3 else scores > 0
    right = (called == np.repeat(np.arange(len(queries)), queries))[:, queries[0]:]
    names = np.repeat(categories, queries[1:], axis=1)
    return {str(name): float(right[names == name].mean()) for name in np.unique(names)}


def chance_accuracy(queries: Sequence[int]) -> float:
    """The accuracy of calling every query the class that has most of them; queries: how many there are of each class."""
    return max(queries) / sum(queries)


def chance_precision(queries: Sequence[int]) -> float:
    """Mean average precision of a random order of an episode's queries (how many of each class, normal first); above the share of abnormal
    ones where they are few.

    With n abnormal of N queries it is (H + (n - 1) / (N - 1) (N - H)) / N, where H is the N-th harmonic number.
    """
    abnormal, total = sum(queries[1:]), sum(queries)
    harmonic = sum(1 / k for k in range(1, total + 1))
    return (harmonic + (abnormal - 1) / (total - 1) * (total - harmonic)) / total


def auroc(score: np.ndarray, abnormal: np.ndarray) -> np.ndarray:
    """Area under the ROC curve [E] of score [E, Q]: the share of pairs of both classes in order, ties counting half (Mann and Whitney's U).

    abnormal: bool [Q], both present.
    """
    ranks, own = stats.rankdata(score, axis=1), abnormal.sum()
    return (ranks[:, abnormal].sum(axis=1) - own * (own + 1) / 2) / (own * (~abnormal).sum())


def average_precision(score: np.ndarray, abnormal: np.ndarray) -> np.ndarray:
    """Average precision [E] of score [E, Q]: the mean over abnormal queries of the share of abnormal ones among all that score as high."""
    among_all = stats.rankdata(-score, method="max", axis=1)[:, abnormal]
    among_own = stats.rankdata(-score[:, abnormal], method="max", axis=1)
    return (among_own / among_all).mean(axis=1)


def _of_calls(called: np.ndarray, abnormal: np.ndarray) -> dict[str, np.ndarray]:
    """F1 and Matthews' correlation [E] of what was called abnormal, bool [E, Q]; abnormal: bool [Q]."""
    hits, false = called[:, abnormal].sum(axis=1), called[:, ~abnormal].sum(axis=1)
    missed, rest = abnormal.sum() - hits, (~abnormal).sum() - false
    spread = np.sqrt((hits + false) * (rest + missed) * float(abnormal.sum()) * float((~abnormal).sum()))
    return {"f1": 2 * hits / (2 * hits + false + missed), "mcc": (hits * rest - false * missed) / np.where(spread, spread, 1)}


def calibration_error(probability: np.ndarray, abnormal: np.ndarray) -> np.ndarray:
    """Expected calibration error [E] of probability [E, Q] in `BINS` equal bins (Naeini et al., 2015): the share of a bin's
    queries times how far their mean probability of abnormal lies from the share of them that is (abnormal: bool [Q])."""
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    members = bins[..., None] == np.arange(BINS)
    gaps = np.einsum("eqb,eq->eb", members, probability - abnormal)
    return np.abs(gaps).sum(axis=1) / probability.shape[1]


def calibrated_accuracy(margin: np.ndarray, abnormal: np.ndarray) -> np.ndarray:
    """Accuracy [E] at a threshold that is fitted instead of `THRESHOLD`: each half of the queries (every other one of each class) is
    judged by the threshold that is best on the other half, never on itself. What it gains over the accuracy is lost to calibration, not
    to ranking. margin: [E, Q]; abnormal: bool [Q]. Where a half lacks a class, as one of two halves does where a class has one query, its
    threshold is a margin of 0.
    """
    half = np.zeros(len(abnormal), int)
    for own in (abnormal, ~abnormal):
        half[own] = np.arange(own.sum()) % 2
    right = np.zeros(margin.shape, bool)
    for judged, other in ((half == 0, half == 1), (half == 1, half == 0)):
        fitted = 0 < abnormal[other].sum() < other.sum()
        threshold = best_threshold(margin[:, other], abnormal[other]) if fitted else np.zeros(len(margin))
        right[:, judged] = (margin[:, judged] > threshold[:, None]) == abnormal[judged]
    return right.mean(axis=1)


def best_threshold(margin: np.ndarray, abnormal: np.ndarray) -> np.ndarray:
    """The threshold [E] of highest accuracy on finite margins [E, Q]: half-way between two of the values, or infinite, which calls all queries
    the same; nearest to 0 of several."""
    order = np.argsort(margin, axis=1)
    ends = np.pad(np.take_along_axis(margin, order, axis=1).astype(float), ((0, 0), (1, 1)), constant_values=(-np.inf, np.inf))
    between = (ends[:, 1:] + ends[:, :-1]) / 2
    gained = np.pad(np.cumsum(1 - 2 * abnormal[order], axis=1), ((0, 0), (1, 0)))  # over calling all of them abnormal
    right = np.where(ends[:, 1:] > ends[:, :-1], gained, -abnormal.size)  # nothing lies between two equal values
    worth = np.where(right == right.max(axis=1, keepdims=True), 1 / (1 + np.abs(between)), -1)
    return np.take_along_axis(between, worth.argmax(axis=1)[:, None], axis=1)[:, 0]


def paired_difference(values: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Mean of values - others over the same episodes, [E] each, and half the width of its 95 % interval."""
    return float((values - others).mean()), half_width_95(values - others)


def half_width_95(values: np.ndarray) -> float:
    """Half the width of the 95 % interval of the mean of values [E], by Student's t; E is at least 2."""
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
