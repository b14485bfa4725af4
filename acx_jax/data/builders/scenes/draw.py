"""A clip's pictures: backdrop, road users from far to near, particles, then shaking, light and noise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from acx_jax.data.builders.scenes import bodies, dust, traffic
from acx_jax.data.builders.scenes.backdrop import draw_backdrop
from acx_jax.data.builders.scenes.bodies import Drawn
from acx_jax.data.builders.scenes.camera import SCALE, Camera, draw_camera, draw_light, draw_shake, project
from acx_jax.data.builders.scenes.script import Clip

_SHADES = (0.78, 0.66, 0.78, 0.9)  # brightness of front, left, back and right
_BACK, _TOP = 2, 4
_BRAKING = 1.5  # m/s^2 from which the brake lights are lit


def pictures(rng: np.random.Generator, clip: Clip, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The clip's frames, uint8 [H, W, 3], for a size of (W, H) pixels."""
    camera = draw_camera(rng, clip.focus, size)
    backdrop = draw_backdrop(rng, clip.roads.junction, camera)
    users, particles = _users(rng, clip, camera), dust.draw_particles(rng, clip)
    shake, light = draw_shake(rng, _tremor(clip), size), draw_light(rng, len(clip.motions))
    braking = _braking(clip)
    grain = rng.normal(0, rng.uniform(1, 3), (size[1] + 16, size[0] + 16, 1)).astype(np.float32)
    for frame in range(len(clip.motions)):
        canvas = backdrop.copy()
        _draw_users(canvas, users, frame, braking[frame])
        _draw_particles(canvas, camera, particles, frame)
        view = _shaken(canvas, size, shake.shift[frame], shake.roll[frame])
        top, left = rng.integers(0, 17, 2)
        noise = grain[top : top + size[1], left : left + size[0]]
        yield np.clip(np.asarray(view) * light[frame].astype(np.float32) + noise, 0, 255).astype(np.uint8)


def _users(rng: np.random.Generator, clip: Clip, camera: Camera) -> list[Drawn]:
    positions = np.stack([motion.position for motion in clip.motions], axis=1)
    headings = np.stack([motion.heading for motion in clip.motions], axis=1)
    sun = rng.uniform(-0.7, 0.7, 2)
    users = []
    for kind, size, position, heading in zip(clip.users.kind, clip.users.size, positions, headings):
        parts = bodies.draw_parts(rng, int(kind), size)
        users.append(bodies.place(camera, parts, int(kind), size, position, heading, sun))
    return users


def _braking(clip: Clip) -> np.ndarray:
    """Whose brake lights are lit: bool [T, N]."""
    pace = np.stack([traffic.speeds(motion) for motion in clip.motions])
    slower = -np.diff(pace, axis=0, prepend=pace[:1]) / traffic.DT > _BRAKING
    return (slower | (pace < 0.3)) & (clip.users.speed > 0)


def _tremor(clip: Clip) -> np.ndarray:
    """How the road trembles, float [T] in [0, 1]: from vehicles close by that are thrown about harder than anyone drives."""
    velocity = np.stack([motion.velocity for motion in clip.motions])
    spin = np.abs(np.stack([motion.spin for motion in clip.motions]))
    near = np.linalg.norm(np.stack([motion.position for motion in clip.motions]) - clip.focus, axis=2) < 15
    thrown = np.linalg.norm(np.diff(velocity, axis=0, prepend=velocity[:1]), axis=2) / traffic.DT
    return np.minimum((near * (np.maximum(thrown - 6.0, 0) / 10 + 0.15 * spin)).sum(axis=1), 1.0)


def _draw_users(canvas: Image.Image, users: list[Drawn], frame: int, braking: np.ndarray) -> None:
    pencil = ImageDraw.Draw(canvas, "RGBA")
    seen = [i for i, user in enumerate(users) if user.seen[frame]]
    for i in seen:
        pencil.polygon(users[i].shadow[frame].ravel().tolist(), fill=(0, 0, 0, 80))
    for i in sorted(seen, key=lambda i: -users[i].depth[frame]):
        _draw_user(pencil, users[i], frame, bool(braking[i]))


def _draw_user(pencil: ImageDraw.ImageDraw, user: Drawn, frame: int, braking: bool) -> None:
    faces = user.faces[frame].reshape(len(user.parts), -1, 8).tolist()
    for part, outlines, outside in zip(user.parts, faces, user.outside[frame]):
        for face in np.flatnonzero(outside):
            colour, shade = (part.roof, 1.0) if face == _TOP else (part.sides, _SHADES[face])
            pencil.polygon(outlines[face], fill=tuple(int(c * shade) for c in colour))
        if part is user.parts[0] and outside[_BACK] and not user.head_radius:
            _brake_lights(pencil, user.faces[frame, 0, _BACK], braking)
    if user.head_radius:
        pencil.ellipse([*(user.head[frame] - user.head_radius), *(user.head[frame] + user.head_radius)], fill=bodies.SKIN)


def _brake_lights(pencil: ImageDraw.ImageDraw, back: np.ndarray, lit: bool) -> None:
    """Two lamps on the back face [4, 2]."""
    for bottom, top in ((back[0], back[3]), (back[1], back[2])):
        inner = bottom * 0.4 + top * 0.6 + 0.13 * (back.mean(axis=0) - bottom)
        reach = 0.09 * float(np.linalg.norm(back[1] - back[0]))
        pencil.ellipse([*(inner - reach), *(inner + reach)], fill=(255, 50, 40) if lit else (120, 30, 28))


def _draw_particles(canvas: Image.Image, camera: Camera, particles: dust.Particles, frame: int) -> None:
    pencil = ImageDraw.Draw(canvas, "RGBA")
    spots, radius, colour = dust.at(particles, frame)
    places, depth = project(camera, spots)
    reach = (radius * camera.zoom / np.maximum(depth, 0.5))[:, None]
    for corners, fill in zip(np.concatenate([places - reach, places + reach], axis=1).tolist(), colour.tolist()):
        pencil.ellipse(corners, fill=tuple(fill))


def _shaken(canvas: Image.Image, size: tuple[int, int], shift: np.ndarray, roll: float) -> Image.Image:
    """The frame that the camera takes of a canvas SCALE times as fine, displaced and turned about its middle."""
    cos, sin = SCALE * np.cos(roll), SCALE * np.sin(roll)
    x, y = np.array(canvas.size) / 2 + shift
    across, down = size[0] / 2, size[1] / 2
    matrix = (cos, -sin, x - cos * across + sin * down, sin, cos, y - sin * across - cos * down)
    return canvas.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
