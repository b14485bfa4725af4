"""I3D with its real weights on real frames."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import jax
import numpy as np

from acx_jax.data import decode
from acx_jax.models.encoders import ENCODERS, folded, normalise
from acx_jax.models.i3d import I3D, LOGITS
from acx_jax.models.pretrained import load_i3d_kinetics400
from acx_jax.models.torch_files import WeightsError
from acx_jax.published.bundle import Arrays, Bundle, Check, Lacking
from acx_jax.published.measured import Measured, measured

VIDEO = "v_CricketShot_g04_c01_rgb.gif"
RECORDED = "i3d_kinetics400.npz"
CLIPS = {"cricket16": (slice(0, 16), 1), "cricket8": (slice(20, 28), 1), "cricket8_112": (slice(0, 8), 2)}  # frames, pixels apart
OUTPUTS = 1e-4


def cricket_clips(bundle: Bundle, name: str) -> np.ndarray:
    """The frames of a recorded clip, float32 [1, T, H, W, 3] in [-1, 1]."""
    frames, step = CLIPS[name]
    pixels = np.stack(list(decode.frames(bundle.path / VIDEO)))[frames, ::step, ::step]
    return np.asarray(normalise(ENCODERS["i3d"], pixels[None]))


def i3d(bundle: Bundle) -> Iterator[Measured]:
    """Features of every recorded clip, and the classes of the long one."""
    arrays = bundle.arrays(RECORDED)
    try:
        variables = load_i3d_kinetics400(classifier=True)
    except WeightsError as error:
        raise Lacking(str(error)) from None
    for name in [name for name in CLIPS if f"{name}.mixed_5c_pooled" in arrays]:
        yield from compare_clip(variables, cricket_clips(bundle, name), arrays, name)


def compare_clip(variables: dict, clips: np.ndarray, arrays: Arrays, name: str) -> Iterator[Measured]:
    """Shapes and means of stages, pooled features and, where they are recorded, class scores of one clip."""
    classified = f"{name}.logits" in arrays
    outputs, features = forward(LOGITS if classified else None, variables, clips)
    for key in [key for key in arrays if re.fullmatch(rf"{name}\.mixed_\d\w_(shape|mean)", key)]:
        stage, of = key.partition(".")[2].rsplit("_", 1)
        x = features[f"after_{stage.capitalize()}"][0]
        ours = x.shape if of == "shape" else x.mean((0, 1, 2, 3))
        yield measured(key, [(key, ours, arrays[key])], tolerance=0 if of == "shape" else OUTPUTS)
    pooled = f"{name}.mixed_5c_pooled"
    yield measured(pooled, [(pooled, features["after_pool"][0][0], arrays[pooled])], tolerance=OUTPUTS)
    if classified:
        yield measured(f"{name}.logits", [("logits", outputs[0], arrays[f"{name}.logits"])], tolerance=OUTPUTS)


@partial(jax.jit, static_argnums=0)
def forward(stage: str | None, variables: dict, clips: jax.Array) -> tuple[jax.Array, dict]:
    """What I3D gives for a stage (None: pooled features) and the features after every stage on the way; norms are folded."""
    classes = variables["params"][LOGITS]["bias"].shape[-1]
    outputs, kept = I3D(classes, folded=True).apply(folded(ENCODERS["i3d"], variables), clips, train=False, stage=stage, mutable=["intermediates"])
    return outputs, kept["intermediates"]


CHECKS: dict[str, Check] = {"i3d_kinetics400": Check((RECORDED, VIDEO), i3d)}
