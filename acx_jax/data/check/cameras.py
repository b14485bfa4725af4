"""Videos of one camera, though nothing says so: the same corners in the same places, or all shifted alike.

Corners (the smaller eigenvalue of the structure tensor; Shi, Tomasi, 1994) are described by histograms of the gradients' directions
around them (as in Lowe, 2004, upright and of one size). Two frames show the same place, or the same overlay of one camera, where many of
their mutual best matches agree on one displacement; chance matches do not agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

MOST = 200  # videos compared with each other: the work grows with the square of them
ENOUGH = 14  # matches of one displacement: different cameras had at most 5 in real footage, 11 in small rendered scenes
_POINTS, _RATIO, _TOLERANCE, _EDGE = 400, 0.85, 6, 10
_DIRECTIONS = 8
_GRID = np.array([(y, x) for y in (-7.5, -2.5, 2.5, 7.5) for x in (-7.5, -2.5, 2.5, 7.5)])


class Described(NamedTuple):
    """The corners of one frame: places int [n, 2] (row, column), descriptors float32 [n, 128] of length 1."""

    places: np.ndarray
    descriptors: np.ndarray


class Shared(NamedTuple):
    """Two videos of one camera, by index, and how many corners agree on one displacement."""

    one: int
    other: int
    matches: int


def describe(look: np.ndarray) -> Described:
    """The strongest corners of a grey frame, uint8 [H, W]."""
    image = look.astype(np.float32)
    places = _corners(image)
    return Described(places, _histograms(ndimage.gaussian_filter(image, 1.0), places))


def shared_cameras(looks: Sequence[np.ndarray], sources: Sequence[str], *, advance: Callable[[int], None] = lambda n: None) -> list[Shared]:
    """Pairs of videos of different `sources` that show one camera's view.

    looks: a video's grey frames, uint8 [n, H, W] each. advance(1) is called after each video.
    """
    described, found = [[describe(look) for look in video] for video in looks], []
    for i, video in enumerate(described):
        for j in range(i):
            if sources[i] != sources[j]:
                matches = max((agreeing(a, b) for a, b in zip(described[j], video)), default=0)
                found += [Shared(j, i, matches)] if matches >= ENOUGH else []
        advance(1)
    return found


def agreeing(one: Described, other: Described) -> int:
    """The most mutual best matches that agree on one displacement, to within 6 pixels."""
    if min(len(one.places), len(other.places)) < 2:
        return 0
    alike = one.descriptors @ other.descriptors.T
    rows, back = np.arange(len(alike)), alike.argmax(axis=0)
    best = alike.argmax(axis=1)
    first = alike[rows, best]
    alike[rows, best] = -1
    second = alike.max(axis=1)
    clear = (1 - first) < _RATIO**2 * (1 - second)  # of squared distances, which are 2 - 2 x likeness
    kept = clear & (back[best] == rows)
    moves = other.places[best[kept]] - one.places[kept]
    if not len(moves):
        return 0
    return int((np.abs(moves[:, None] - moves) <= _TOLERANCE).all(axis=-1).sum(axis=1).max())


def _corners(image: np.ndarray) -> np.ndarray:
    gy, gx = ndimage.sobel(image, 0), ndimage.sobel(image, 1)
    xx, yy, xy = (ndimage.gaussian_filter(product, 1.5) for product in (gx * gx, gy * gy, gx * gy))
    strength = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    peaks = (strength == ndimage.maximum_filter(strength, 7)) & (strength > 1)
    inside = np.zeros_like(peaks)
    inside[_EDGE:-_EDGE, _EDGE:-_EDGE] = True
    places = np.argwhere(peaks & inside)
    return places[np.argsort(-strength[tuple(places.T)], kind="stable")[:_POINTS]]


def _histograms(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """4 x 4 histograms of 8 directions around each place, of length 1, no entry above 0.2 before."""
    gy, gx = ndimage.sobel(image, 0), ndimage.sobel(image, 1)
    turn = np.arctan2(gy, gx) % (2 * np.pi) * (_DIRECTIONS / (2 * np.pi))
    low, share, size = turn.astype(int) % _DIRECTIONS, turn % 1, np.hypot(gx, gy)
    maps = np.stack([ndimage.gaussian_filter(size * ((low == d) * (1 - share) + ((low + 1) % _DIRECTIONS == d) * share), 2.0)
                     for d in range(_DIRECTIONS)])
    at = np.rint(places[:, None] + _GRID).astype(int)
    rows, columns = at[..., 0].clip(0, image.shape[0] - 1), at[..., 1].clip(0, image.shape[1] - 1)
    values = _unit(maps[:, rows, columns].transpose(1, 2, 0).reshape(len(places), len(_GRID) * _DIRECTIONS))
    return _unit(values.clip(0, 0.2)).astype(np.float32)


def _unit(values: np.ndarray) -> np.ndarray:
    return values / (np.linalg.norm(values, axis=1, keepdims=True) + 1e-6)
