"""Vehicles without grip: sliding, and impulses where two of them meet. Pure functions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from acx_jax.data.builders.scenes import world
from acx_jax.data.builders.scenes.traffic import DT, ON_ROUTE, SLIDING, Motion
from acx_jax.data.builders.scenes.users import Users

FRICTION = 4.0  # deceleration of a sliding vehicle, m/s^2
SPIN_DECAY = 3.0  # seconds
BOUNCE = 0.35  # coefficient of restitution
TWIST = 2.0  # how much more a hit turns a vehicle than a free body: the picture is small


class Impact(NamedTuple):
    """Where two vehicles met, [2] metres, and how fast, m/s."""

    place: np.ndarray
    speed: float


def slide(motion: Motion) -> Motion:
    """One step of everybody whose mode is SLIDING."""
    free = motion.mode == SLIDING
    pace = np.linalg.norm(motion.velocity, axis=1)
    slower = np.maximum(pace - FRICTION * DT, 0) / np.maximum(pace, 1e-9)
    velocity = np.where(free[:, None], motion.velocity * slower[:, None], motion.velocity)
    spin = np.where(free, motion.spin * np.exp(-DT / SPIN_DECAY), motion.spin)
    spin = np.where(free & (pace < 0.2), spin * 0.95, spin)
    position = motion.position + np.where(free[:, None], velocity * DT, 0)
    return motion._replace(velocity=velocity, spin=spin, position=position, heading=motion.heading + np.where(free, spin * DT, 0))


def corners(size: np.ndarray, position: np.ndarray, heading: np.ndarray) -> np.ndarray:
    """The four corners [..., 4, 2] of bodies of size [..., 3] on the ground, anticlockwise."""
    axis = world.unit(heading)[..., None, :]
    signs = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) / 2
    along, across = signs[:, :1] * size[..., None, :1], signs[:, 1:] * size[..., None, 1:2]
    return position[..., None, :] + along * axis + across * world.right_of(axis)


def overlap(first: np.ndarray, second: np.ndarray) -> tuple[float, np.ndarray]:
    """How deep two rectangles [4, 2] lie in each other, metres (negative if apart), and the unit normal from first to second."""
    edges = np.concatenate([np.diff(first[:3], axis=0), np.diff(second[:3], axis=0)])
    normals = world.right_of(edges) / np.linalg.norm(edges, axis=1, keepdims=True)
    one, two = first @ normals.T, second @ normals.T
    depth = np.minimum(one.max(0) - two.min(0), two.max(0) - one.min(0))
    best = int(depth.argmin())
    towards = (second.mean(0) - first.mean(0)) @ normals[best]
    return float(depth[best]), normals[best] * (1 if towards >= 0 else -1)


def collide(users: Users, motion: Motion) -> tuple[Motion, list[Impact]]:
    """Pushes apart vehicles that overlap, one of which at least is off its route; both slide from then on."""
    bodies = users.size[:, 1] > 1.0
    apart = np.linalg.norm(motion.position[:, None] - motion.position, axis=-1)
    reach = np.linalg.norm(users.size[:, :2], axis=1) / 2
    off = motion.mode != ON_ROUTE
    near = (apart < reach[:, None] + reach) & bodies[:, None] & bodies & (off[:, None] | off)
    impacts = []
    for i, j in np.argwhere(np.triu(near, 1)):
        motion, hit = _meet(users, motion, int(i), int(j))
        impacts += hit
    return motion, impacts


def _meet(users: Users, motion: Motion, i: int, j: int) -> tuple[Motion, list[Impact]]:
    boxes = corners(users.size[[i, j]], motion.position[[i, j]], motion.heading[[i, j]])
    depth, normal = overlap(boxes[0], boxes[1])
    if depth <= 0:
        return motion, []
    mass = users.size[[i, j]].prod(axis=1)
    place = _contact(boxes, normal)
    closing = float((motion.velocity[i] - motion.velocity[j]) @ normal)
    push = max(closing, 0.0) * (1 + BOUNCE) / (1 / mass).sum()
    position, velocity, spin, mode = (x.copy() for x in (motion.position, motion.velocity, motion.spin, motion.mode))
    for k, sign, share in ((i, -1, mass[1]), (j, 1, mass[0])):
        arm = place - position[k]
        inertia = users.size[k].prod() * (users.size[k, :2] ** 2).sum() / 12
        velocity[k] += sign * push * normal / users.size[k].prod()
        spin[k] += TWIST * sign * push * (arm[0] * normal[1] - arm[1] * normal[0]) / inertia
        position[k] += sign * normal * depth * share / mass.sum()
        mode[k] = SLIDING
    moved = motion._replace(position=position, velocity=velocity, spin=np.clip(spin, -7, 7), mode=mode)
    return moved, [Impact(place, closing)] if closing > 1.0 else []


def _contact(boxes: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """The corner [2] of either box that lies deepest in the other."""
    middle = boxes.mean(axis=1)
    first = boxes[0][(boxes[0] @ normal).argmax()]
    second = boxes[1][(boxes[1] @ normal).argmin()]
    inner = [point for point, other in ((first, middle[1]), (second, middle[0])) if np.abs(point - other).max() < 6]
    return min(inner or [middle.mean(axis=0)], key=lambda point: float(np.linalg.norm(point - middle.mean(axis=0))))
