"""Whitening: a linear map of vectors, learnt from those of ordinary clips, that scales down the directions in which these vary most.

The map is the symmetric one (ZCA) of a covariance that is shrunk towards a multiple of the identity, as Ledoit and Wolf do (A well-conditioned
estimator for large-dimensional covariance matrices, J. Multivariate Analysis 88, 2004), here with a weight that is given. The mean is not taken away,
since heads without a bias need one, but drawn in to the size of the deviations: far larger, it drowns them in heads that are fitted by gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BLOCK = 1024  # vectors in memory at once
ALIKE = 1e-12  # of the mean squared norm: a variance below is rounding


class Moments(NamedTuple):
    """Of n vectors: their mean, float64 [P], and sample covariance, float64 [P, P]."""

    count: int
    mean: np.ndarray
    covariance: np.ndarray


class Whitening(NamedTuple):
    """x -> (x - away) @ by; away float64 [P], a share of the mean, by float64 [P, P] and symmetric."""

    away: np.ndarray
    by: np.ndarray


def moments(vectors: np.ndarray, *, block: int = BLOCK) -> Moments:
    """vectors: float [n, P], n at least 2, which may be memory-mapped: it is gone through twice, `block` rows at a time."""
    count, size = vectors.shape
    mean, squares = np.zeros(size), np.zeros((size, size))
    for rows in _blocks(vectors, block):
        mean += rows.sum(axis=0) / count
    for rows in _blocks(vectors, block):
        rows -= mean  # before they are multiplied: squares of large means would cost the digits of small variances
        squares += rows.T @ rows
    return Moments(count, mean, squares / (count - 1))


def shrunk(covariance: np.ndarray, weight: float) -> np.ndarray:
    """weight * C + (1 - weight) * (trace(C) / P) * I of the covariance C, [P, P]."""
    size = len(covariance)
    return weight * covariance + (1 - weight) * np.trace(covariance) / size * np.eye(size)


def whitening(vectors: np.ndarray, weight: float, *, block: int = BLOCK) -> Whitening:
    """The map for `apply_map`: the shrunk covariance to the power of -1/2, times what leaves the mean squared distance of `vectors` from their mean
    as it is; the image of the mean is then as long as the root of that, or shorter where it would be so anyway.

    vectors: float [n, P]. weight: of their covariance, 0 (`by` is the identity) to below 1. Raises ValueError when there are fewer than 2
    vectors, or nothing varies among them.
    """
    if len(vectors) < 2:
        raise ValueError(f"{len(vectors)} vectors have no covariance: at least 2 are needed")
    count, mean, covariance = moments(vectors, block=block)
    distance = np.trace(covariance) * (count - 1) / count
    if not distance > ALIKE * (distance + mean @ mean):
        raise ValueError(f"all {count} vectors are the same")
    by = _root(covariance, weight)
    kept = min(1.0, np.sqrt(distance) / max(np.linalg.norm(mean @ by), np.finfo(float).tiny))
    return Whitening((1 - kept) * mean, by)


def _root(covariance: np.ndarray, weight: float) -> np.ndarray:
    """The shrunk covariance to the power of -1/2, scaled to keep the trace of the covariance."""
    values, directions = np.linalg.eigh(shrunk(covariance, weight))
    root = (directions / np.sqrt(values)) @ directions.T
    scale = np.sqrt(np.trace(covariance) / np.einsum("ij,jk,ki->", root, covariance, root, optimize=True))
    return scale * (root + root.T) / 2


def apply_map(vectors: np.ndarray, to: Whitening, *, block: int = BLOCK) -> Iterator[np.ndarray]:
    """Yields (vectors - away) @ by, float32, `block` rows at a time. vectors: float [n, P]."""
    return (((rows - to.away) @ to.by).astype(np.float32) for rows in _blocks(vectors, block))


def _blocks(vectors: np.ndarray, block: int) -> Iterator[np.ndarray]:
    return (np.array(vectors[start:start + block], np.float64) for start in range(0, len(vectors), block))
