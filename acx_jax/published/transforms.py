"""The evaluation transform: from a frame of any size to the square that the encoder sees."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from acx_jax.data.scaling import resize
from acx_jax.data.window_feed import centre_crop
from acx_jax.models.encoders import ENCODERS, normalise
from acx_jax.published.bundle import Bundle, Check
from acx_jax.published.measured import Measured, measured

WIDTH, HEIGHT, RESAMPLE = 340, 256, "nearest"
RECORDED = "eval_transform.npz"


def evaluation_crop(frame: np.ndarray, *, crop: int) -> np.ndarray:
    """uint8 [H, W, 3] -> [crop, crop, 3]: stretched to 340 x 256 by nearest neighbour, then its centre."""
    return centre_crop(resize(frame, short_side=HEIGHT, width=WIDTH, resample=RESAMPLE)[None], crop)[0]


def evaluation_transform(bundle: Bundle) -> Iterator[Measured]:
    """The recorded frames to their crops, byte by byte, and the means of what the encoder gets."""
    arrays = bundle.arrays(RECORDED)
    numbers = sorted(int(name[5:]) for name in arrays if re.fullmatch(r"frame\d+", name))
    crops = {i: evaluation_crop(arrays[f"frame{i}"], crop=len(arrays[f"crop{i}"])) for i in numbers}
    yield measured("crop", ((f"crop{i}", crops[i], arrays[f"crop{i}"]) for i in numbers), tolerance=0)
    means = {i: np.asarray(normalise(ENCODERS["r2plus1d_34"], crops[i]), np.float64).mean((0, 1)) for i in numbers}
    yield measured("mean of the normalised crop", ((f"normalised_mean{i}", means[i], arrays[f"normalised_mean{i}"]) for i in numbers),
                   tolerance=1e-4)


CHECKS: dict[str, Check] = {"eval_transform": Check((RECORDED,), evaluation_transform)}
