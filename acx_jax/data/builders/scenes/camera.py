"""Where the camera stands, how it shakes, and how light changes. Pure functions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from acx_jax.data.builders.scenes import world

MARGIN = 0.1  # of the frame's size, drawn beyond each edge so that shaking shows no border
SCALE = 2  # canvas pixels a frame pixel


class Camera(NamedTuple):
    """A pinhole camera that looks at `focus` on the ground."""

    position: np.ndarray  # float [3], metres
    axes: np.ndarray  # float [3, 3], rows: right, down, forward
    zoom: float  # canvas pixels times metres a metre
    canvas: tuple[int, int]  # width, height, pixels


class Shake(NamedTuple):
    """The picture's displacement in every frame."""

    shift: np.ndarray  # float [T, 2], canvas pixels
    roll: np.ndarray  # float [T], radians


def draw_camera(rng: np.random.Generator, focus: np.ndarray, size: tuple[int, int]) -> Camera:
    """From any side, looking down by 38 to 65 degrees, 15 to 19 metres across the middle of a frame of `size` pixels."""
    around, pitch, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.66, 1.13), rng.uniform(32, 50)
    ahead = np.append(np.cos(pitch) * world.unit(around), -np.sin(pitch))
    right = np.append(world.right_of(world.unit(around)), 0.0)
    axes = np.stack([right, np.cross(ahead, right), ahead])
    canvas = tuple(int(round(n * (1 + 2 * MARGIN))) * SCALE for n in size)
    zoom = SCALE * size[0] / rng.uniform(15, 19) * distance
    return Camera(np.append(focus, 0.0) - ahead * distance, axes, zoom, canvas)


def project(camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Canvas positions [..., 2] and depths [...] of points [..., 3]; what lies behind the camera is put far outside."""
    right, down, depth = np.moveaxis((points - camera.position) @ camera.axes.T, -1, 0)
    ratio = camera.zoom / np.maximum(depth, 0.5)
    middle = np.array(camera.canvas) / 2
    return np.stack([right * ratio, down * ratio], axis=-1) + middle, depth


def ground(camera: Camera) -> np.ndarray:
    """The ground's points seen by every canvas pixel: float [H, W, 2], metres."""
    width, height = camera.canvas
    across, down = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    rays = np.stack([across, down, np.full_like(across, camera.zoom)], axis=-1) @ camera.axes
    return camera.position[:2] + rays[..., :2] * (-camera.position[2] / np.minimum(rays[..., 2], -1e-3))[..., None]


def draw_shake(rng: np.random.Generator, tremor: np.ndarray, size: tuple[int, int]) -> Shake:
    """A slow sway, a fine tremble, gusts of wind at any time, and the road's tremor, float [T] in [0, 1]."""
    frames, reach = len(tremor), SCALE * MARGIN * min(size)
    shift = np.stack([_sway(rng, frames, reach * 0.2) for _ in range(2)], axis=1)
    shift += rng.normal(0, reach * rng.uniform(0.005, 0.02), (frames, 2))
    rough = tremor.copy()
    for frame in np.flatnonzero(rng.random(frames) < 0.025):
        rough[frame : frame + 10] += rng.uniform(0.2, 0.8) * np.exp(-np.arange(len(rough[frame : frame + 10])) / 4.0)
    rough = np.minimum(rough, 1.0)
    shift += rough[:, None] * rng.normal(0, reach * 0.37, (frames, 2))
    roll = _sway(rng, frames, 0.006) + rough * rng.normal(0, 0.025, frames)
    return Shake(np.clip(shift, -0.65 * reach, 0.65 * reach), np.clip(roll, -0.04, 0.04))


def draw_light(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Gains of red, green and blue in every frame, float [T, 3]: a tint, a level, and clouds that pass."""
    tint = rng.uniform(0.9, 1.1, 3) * rng.uniform(0.75, 1.35)
    return tint * (1 + _sway(rng, frames, rng.uniform(0.02, 0.1)) + rng.normal(0, 0.006, frames))[:, None]


def _sway(rng: np.random.Generator, frames: int, reach: float) -> np.ndarray:
    """Two slow waves with random phases: float [T] within +-reach."""
    periods, phases = rng.uniform(18, 90, 2), rng.uniform(0, 2 * np.pi, 2)
    return reach * np.sin(2 * np.pi * np.arange(frames)[:, None] / periods + phases).mean(axis=1)
