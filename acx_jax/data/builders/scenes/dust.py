"""Small things in the air: exhaust, leaves and gusts of dust at any time; debris and tyre smoke where vehicles meet or slide.

All take their colours from one palette, so that no colour tells an event.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from acx_jax.data.builders.scenes import traffic
from acx_jax.data.builders.scenes.script import Clip

_COLOURS = np.array([(150, 148, 142), (128, 120, 104), (92, 96, 60), (112, 78, 52), (70, 68, 66), (176, 172, 164)])


class Particles(NamedTuple):
    """M particles, each seen from frame `born` for `life` frames."""

    born: np.ndarray  # int [M]
    life: np.ndarray  # int [M], frames
    place: np.ndarray  # float [M, 3], metres, where it begins
    velocity: np.ndarray  # float [M, 3], m/s
    radius: np.ndarray  # float [M], metres
    growth: np.ndarray  # float [M], metres a second
    colour: np.ndarray  # int [M, 4], red, green, blue, opacity


def draw_particles(rng: np.random.Generator, clip: Clip) -> Particles:
    """All particles of a clip."""
    clouds = [*_gusts(rng, clip), *_exhausts(rng, clip), *_smoke(rng, clip), *_debris(rng, clip)]
    return Particles(*(np.concatenate(columns) for columns in zip(*clouds)))


def at(particles: Particles, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Those in the air in a frame: places float [K, 3] and radii [K], metres, and colours int [K, 4]."""
    age = frame - particles.born
    live = (age >= 0) & (age < particles.life)
    now = Particles(*(column[live] for column in particles))
    seconds = (age[live] * traffic.DT)[:, None]
    place = now.place + now.velocity * seconds * np.exp(-0.5 * seconds) - [0, 0, 2.0] * seconds**2
    place[:, 2] = np.maximum(place[:, 2], 0.1)
    fade = np.where(now.growth > 0, 1 - age[live] / now.life, 1.0)
    colour = np.concatenate([now.colour[:, :3], (now.colour[:, 3] * fade)[:, None].astype(int)], axis=1)
    return place, now.radius + now.growth * seconds[:, 0], colour


def _cloud(
    rng: np.random.Generator, count: int, frame: int, place: np.ndarray,
    *, speed: float, lift: float, radius: float, growth: float, alpha: int,
) -> Particles:  # fmt: skip
    """Particles [count] that fly apart from about `place` [2] at up to `speed` and rise at up to `lift`, m/s."""
    around = rng.uniform(0, 2 * np.pi, count)
    flat = np.stack([np.cos(around), np.sin(around)], 1) * rng.uniform(0, speed, (count, 1))
    velocity = np.concatenate([flat, rng.uniform(0, lift, (count, 1))], axis=1)
    start = np.append(place, 0.4) + rng.normal(0, 0.25, (count, 3)) * [1, 1, 0]
    colour = np.concatenate([_COLOURS[rng.integers(len(_COLOURS), size=count)], np.full((count, 1), alpha)], axis=1)
    sizes, growths = radius * rng.uniform(0.6, 1.4, count), np.full(count, growth)
    return Particles(np.full(count, frame), rng.integers(6, 22, count), start, velocity, sizes, growths, colour)


def _gusts(rng: np.random.Generator, clip: Clip) -> list[Particles]:
    """Leaves and dust carried by the wind, at random moments and places."""
    wind, clouds = np.append(rng.normal(0, 2.5, 2), 0.0), []
    for frame in np.flatnonzero(rng.random(len(clip.motions)) < 0.12):
        puff = _cloud(rng, 5, int(frame), rng.uniform(-13, 13, 2), speed=1.5, lift=1.0, radius=0.2, growth=0.0, alpha=220)
        cloud = _cloud(rng, 2, int(frame), rng.uniform(-13, 13, 2), speed=0.8, lift=0.3, radius=0.5, growth=0.6, alpha=70)
        clouds += [puff._replace(velocity=puff.velocity + wind), cloud._replace(velocity=cloud.velocity + wind)]
    return clouds


def _exhausts(rng: np.random.Generator, clip: Clip) -> list[Particles]:
    chosen = np.flatnonzero((clip.users.size[:, 1] > 1.0) & (clip.users.speed > 0) & (rng.random(len(clip.users.kind)) < 0.25))
    puffs = []
    for frame, motion in enumerate(clip.motions):
        for user in chosen[rng.random(len(chosen)) < 0.2]:
            back = np.array([np.cos(motion.heading[user]), np.sin(motion.heading[user])]) * clip.users.size[user, 0] / 2
            puffs.append(_cloud(rng, 1, frame, motion.position[user] - back, speed=0.6, lift=0.6, radius=0.3, growth=0.7, alpha=70))
    return puffs


def _smoke(rng: np.random.Generator, clip: Clip) -> list[Particles]:
    """From under vehicles that slide fast."""
    puffs = []
    for frame, motion in enumerate(clip.motions):
        sliding = (motion.mode != traffic.ON_ROUTE) & (traffic.speeds(motion) + np.abs(motion.spin) > 3)
        for user in np.flatnonzero(sliding):
            puffs.append(_cloud(rng, 1, frame, motion.position[user], speed=1.2, lift=0.5, radius=0.4, growth=0.7, alpha=70))
    return puffs


def _debris(rng: np.random.Generator, clip: Clip) -> list[Particles]:
    return [
        _cloud(rng, int(min(4 + 2 * hit.speed, 18)), frame, hit.place, speed=5.0, lift=3.0, radius=0.18, growth=0.0, alpha=230)
        for frame, hit in clip.impacts
    ]
