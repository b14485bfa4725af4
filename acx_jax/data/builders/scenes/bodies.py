"""What road users look like: each kind is a few boxes, and perhaps a head."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from acx_jax.data.builders.scenes import world
from acx_jax.data.builders.scenes.backdrop import FACES, facing
from acx_jax.data.builders.scenes.camera import Camera, project
from acx_jax.data.builders.scenes.users import KINDS

_PAINTS = np.array([
    (196, 196, 200), (228, 228, 226), (44, 46, 52), (110, 114, 122), (150, 34, 36), (36, 62, 124),
    (34, 96, 70), (188, 148, 52), (96, 72, 56), (204, 120, 48), (120, 40, 90), (70, 130, 160),
])  # fmt: skip
_GLASS, _TYRE, SKIN = (52, 62, 74), (40, 40, 42), (196, 156, 128)


class Part(NamedTuple):
    """A box of a body: metres from its middle along it, its extent, and its colours."""

    shift: float
    length: float
    width: float
    bottom: float
    top: float
    sides: tuple[int, ...]
    roof: tuple[int, ...]


class Drawn(NamedTuple):
    """One road user of P boxes in T frames, in canvas pixels."""

    parts: tuple[Part, ...]
    faces: np.ndarray  # float [T, P, 5, 4, 2]: front, left, back, right, top
    outside: np.ndarray  # bool [T, P, 5], whether a face shows its outside
    shadow: np.ndarray  # float [T, 4, 2]
    head: np.ndarray  # float [T, 2]
    head_radius: float  # 0 for none
    depth: np.ndarray  # float [T]
    seen: np.ndarray  # bool [T], whether any corner is on the canvas


def draw_parts(rng: np.random.Generator, kind: int, size: np.ndarray) -> tuple[Part, ...]:
    """The boxes of a road user of a kind and a size [3]."""
    length, width, height = (float(n) for n in size)
    paint, other = (tuple(int(c) for c in _PAINTS[rng.integers(len(_PAINTS))] * rng.uniform(0.85, 1.1)) for _ in range(2))
    name = KINDS[kind]
    if name == "pedestrian":
        return (Part(0, 0.3, 0.4, 0, 0.8, other, other), Part(0, 0.35, 0.5, 0.75, height - 0.3, paint, paint))
    if name == "bike":
        return (Part(0, length, 0.14, 0, 0.7, _TYRE, other), Part(-0.1, 0.45, 0.5, 0.7, height - 0.3, paint, paint))
    low = Part(0, length, width, 0.25, 0.5 * height, paint, paint)
    if name == "truck":
        cab, load = 0.24 * length, 0.72 * length
        return (Part((length - cab) / 2, cab, width, 0.3, 0.75 * height, paint, paint),
                Part((load - length) / 2, load, width, 0.5, height, other, other))  # fmt: skip
    if name == "van":
        return (low, Part(-0.06 * length, 0.86 * length, 0.92 * width, 0.5 * height, height, paint, paint))
    return (low, Part(-0.05 * length, 0.52 * length, 0.84 * width, 0.5 * height, height, _GLASS, paint))


def place(
    camera: Camera, parts: tuple[Part, ...], kind: int, size: np.ndarray, position: np.ndarray, heading: np.ndarray, sun: np.ndarray
) -> Drawn:
    """A road user at positions [T, 2] with headings [T]; `sun` [2] is how far a metre of height throws its shadow."""
    boxes = np.stack([_corners(part, position, heading) for part in parts], axis=1)
    corners, _ = project(camera, boxes)
    floor = _corners(Part(0, size[0], size[1], 0, 0, (), ()), position, heading)[:, :4]
    shadow, _ = project(camera, floor + np.append(sun * size[2] * 0.5, 0.0))
    crown = np.concatenate([position, np.full((len(position), 1), size[2] - 0.15)], axis=1)
    head, depth = project(camera, crown)
    radius = 0.19 * camera.zoom / float(np.median(depth)) if KINDS[kind] in ("pedestrian", "bike") else 0.0
    seen = ((corners > 0) & (corners < camera.canvas)).all(axis=-1).any(axis=(1, 2))
    faces = corners[:, :, FACES]
    return Drawn(parts, faces, facing(faces), shadow, head, radius, depth, seen)


def _corners(part: Part, position: np.ndarray, heading: np.ndarray) -> np.ndarray:
    """Corners [T, 8, 3]: bottom anticlockwise from the front right, then top."""
    along = world.unit(heading)[:, None]
    left = -world.right_of(along)
    ahead = part.shift + part.length / 2 * np.array([1, 1, -1, -1])[:, None]
    aside = part.width / 2 * np.array([-1, 1, 1, -1])[:, None]
    flat = position[:, None] + ahead * along + aside * left
    levels = [np.concatenate([flat, np.full((*flat.shape[:2], 1), z)], axis=-1) for z in (part.bottom, part.top)]
    return np.concatenate(levels, axis=1)
