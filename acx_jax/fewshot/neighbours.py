"""The verdict of the nearest neighbours: whether features tell classes apart, with nothing fitted."""

from __future__ import annotations

import numpy as np


def neighbour_scores(vectors: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, neighbours: int) -> np.ndarray:
    """How abnormal each segment's nearest neighbours are, float [S] from 0 to 1: the mean label of the `neighbours` vectors of largest cosine.

    vectors: float [S, D]. labels: int [S], 1 for abnormal. groups: int [S]; a segment's neighbours are of other groups, so that
    what lies in one video is no evidence. Where others are fewer all of them count; where there are none the score is 1/2.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosine = np.where(groups[:, None] == groups[None, :], -np.inf, unit @ unit.T)
    nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :neighbours]
    counts = np.isfinite(np.take_along_axis(cosine, nearest, axis=1))
    return np.where(counts.any(axis=1), (labels[nearest] * counts).sum(axis=1) / np.maximum(counts.sum(axis=1), 1), 0.5)
