"""What stands still: the colour of the ground, and houses and trees beside the roads."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from acx_jax.data.builders.scenes import world
from acx_jax.data.builders.scenes.camera import Camera, ground, project
from acx_jax.data.builders.scenes.world import Junction

_SOILS = np.array([(86, 108, 62), (120, 128, 78), (150, 132, 96), (128, 122, 114), (168, 164, 156), (98, 92, 78), (186, 170, 130)])
_WALLS = np.array([(150, 96, 76), (176, 160, 136), (128, 130, 136), (196, 190, 178), (110, 92, 84), (98, 110, 124)])
_LEAVES = np.array([(62, 92, 46), (84, 104, 52), (112, 108, 48), (132, 92, 48)])


def draw_backdrop(rng: np.random.Generator, junction: Junction, camera: Camera) -> Image.Image:
    """An RGB picture of the canvas without road users."""
    points = ground(camera).astype(np.float32)
    picture = Image.fromarray(np.clip(_ground(rng, junction, points), 0, 255).astype(np.uint8))
    pencil = ImageDraw.Draw(picture)
    for spot in _spots(rng, junction, camera):
        (_tree if rng.random() < 0.6 else _house)(rng, pencil, camera, spot)
    return picture


def _ground(rng: np.random.Generator, junction: Junction, points: np.ndarray) -> np.ndarray:
    soil = _SOILS[rng.integers(len(_SOILS))] * rng.uniform(0.8, 1.15)
    road, pavement = np.full(3, rng.uniform(62, 120)) + rng.normal(0, 5, 3), np.full(3, rng.uniform(125, 185)) + rng.normal(0, 8, 3)
    colour = soil * (1 + 0.14 * _mottle(rng, points, 2.5) + 0.08 * _mottle(rng, points, 0.6))[..., None]
    worn = road * (1 + 0.06 * _mottle(rng, points, 4.0) + 0.05 * _mottle(rng, points, 0.5))[..., None]
    on_road, beside = _masks(junction, points)
    colour = np.where(beside[..., None], pavement * (1 + 0.04 * _mottle(rng, points, 0.8))[..., None], colour)
    colour = np.where(on_road[..., None], worn, colour)
    paint = np.full(3, rng.uniform(170, 225))
    return np.where(_markings(junction, points)[..., None], 0.75 * paint + 0.25 * colour, colour)


def _mottle(rng: np.random.Generator, points: np.ndarray, length: float) -> np.ndarray:
    """A smooth random pattern [H, W] in about [-1, 1] with waves of some `length` metres."""
    waves = world.unit(rng.uniform(0, 2 * np.pi, 5)) * rng.uniform(0.7, 1.5, (5, 1)) * 2 * np.pi / length
    waves, phases = waves.astype(np.float32), rng.uniform(0, 2 * np.pi, 5).astype(np.float32)
    return sum(np.sin(points @ wave + phase) for wave, phase in zip(waves, phases)) * 0.32


def _frame(junction: Junction, arm: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far points lie along an arm and beside its middle line, metres."""
    away = world.unit(junction.angles[arm])
    return points @ away, points @ world.right_of(away)


def _masks(junction: Junction, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the carriageway is, and where it or the pavement along it: bool [H, W] each."""
    road, beside = np.zeros((2, *points.shape[:-1]), bool)
    for arm in range(len(junction.angles)):
        along, across = _frame(junction, arm, points)
        half = world.half_width(junction, arm)
        road |= (along > 0) & (np.abs(across) < half)
        beside |= (along > 0) & (np.abs(across) < half + 3.0)
    centre = np.linalg.norm(points, axis=-1)
    reach = max(world.half_width(junction, arm) for arm in range(len(junction.angles)))
    return road | (centre < reach), beside | (centre < reach + 3.0)


def _markings(junction: Junction, points: np.ndarray) -> np.ndarray:
    """Middle lines, lane lines, stop lines and crossings: bool [H, W]."""
    painted = np.zeros(points.shape[:-1], bool)
    for arm, mouth in enumerate(junction.mouths):
        along, across = _frame(junction, arm, points)
        half, lanes = world.half_width(junction, arm), junction.lanes[junction.axes[arm]]
        far = along - mouth
        inside = np.abs(across) < half - 0.2
        painted |= (far > world.STOP_LINE) & (np.abs(across) < 0.11)
        painted |= inside & (np.abs(far - world.ZEBRA) < 1.2) & (np.floor(across / 0.5) % 2 == 0)
        painted |= inside & (np.abs(far - world.STOP_LINE) < 0.2) & (across * junction.hand < 0)
        dashes = np.abs(np.abs(across) - world.LANE) < 0.09
        painted |= dashes & (lanes > 1) & (far > world.STOP_LINE) & (far % 4 < 2)
    return painted


def _spots(rng: np.random.Generator, junction: Junction, camera: Camera) -> np.ndarray:
    """Places [M, 2] for trees and houses clear of the roads, the furthest from the camera first."""
    places = rng.uniform(-32, 32, (120, 2))
    clear = np.ones(len(places), bool)
    for arm in range(len(junction.angles)):
        along, across = _frame(junction, arm, places)
        clear &= (along < -4) | (np.abs(across) > world.half_width(junction, arm) + 7.0)
    clear &= np.linalg.norm(places, axis=1) > 12
    chosen = places[clear][: rng.integers(6, 26)]
    return chosen[np.argsort(-np.linalg.norm(chosen - camera.position[:2], axis=1))]


def _tree(rng: np.random.Generator, pencil: ImageDraw.ImageDraw, camera: Camera, spot: np.ndarray) -> None:
    colour, crown = _LEAVES[rng.integers(len(_LEAVES))] * rng.uniform(0.8, 1.1), rng.uniform(0.9, 2.0)
    for lift, share in ((0.0, 0.45), (1.6, 0.8), (2.2, 1.0), (2.8, 1.2)):
        blob(pencil, camera, np.array([*spot, lift]), crown * (1.15 - 0.25 * share), tuple(int(c) for c in colour * share))


def blob(pencil: ImageDraw.ImageDraw, camera: Camera, place: np.ndarray, radius: float, colour: tuple[int, ...]) -> None:
    """A disc of `radius` metres that faces the camera at `place` [3]."""
    spot, depth = project(camera, place)
    reach = radius * camera.zoom / max(float(depth), 0.5)
    pencil.ellipse([*(spot - reach), *(spot + reach)], fill=colour)


def _house(rng: np.random.Generator, pencil: ImageDraw.ImageDraw, camera: Camera, spot: np.ndarray) -> None:
    """Low where it stands between the camera and the junction."""
    toward = float((spot - camera.position[:2]) @ camera.axes[2, :2] / np.linalg.norm(camera.axes[2, :2]))
    tall = rng.uniform(3, 9) if toward > np.linalg.norm(camera.position[:2]) else rng.uniform(0.8, 1.5)
    size = np.array([rng.uniform(3, 6), rng.uniform(3, 6), tall])
    solid(pencil, camera, box(np.append(spot, 0.0), size, rng.uniform(0, np.pi)), _WALLS[rng.integers(len(_WALLS))])


def box(place: np.ndarray, size: np.ndarray, heading: float) -> np.ndarray:
    """The eight corners [8, 3] of a box whose bottom's middle is at `place`: bottom anticlockwise, then top."""
    along = np.append(world.unit(heading), 0.0) * size[0] / 2
    left = np.append(-world.right_of(world.unit(heading)), 0.0) * size[1] / 2
    bottom = place + np.stack([along - left, along + left, left - along, -along - left])
    return np.concatenate([bottom, bottom + [0, 0, size[2]]])


FACES = ((0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7), (4, 5, 6, 7))  # front, left, back, right, top
_SHADES = (0.72, 0.62, 0.78, 0.88, 1.0)


def solid(pencil: ImageDraw.ImageDraw, camera: Camera, corners: np.ndarray, colour: np.ndarray) -> None:
    """Draws the faces of a box that the camera sees."""
    spots, _ = project(camera, corners)
    for face, shade in zip(FACES, _SHADES):
        quad = spots[list(face)]
        if facing(quad):
            pencil.polygon([tuple(p) for p in quad], fill=tuple(int(c) for c in colour * shade))


def facing(quads: np.ndarray) -> np.ndarray:
    """Whether faces [..., 4, 2], anticlockwise seen from outside, show their outside (the canvas' y points down): bool [...]."""
    first, second = quads[..., 2, :] - quads[..., 0, :], quads[..., 3, :] - quads[..., 1, :]
    return first[..., 0] * second[..., 1] < first[..., 1] * second[..., 0]
