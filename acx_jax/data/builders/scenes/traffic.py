"""How road users move when nothing happens. One step is a pure function of the motion before it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from acx_jax.data.builders.scenes import world
from acx_jax.data.builders.scenes.users import Users

DT = 0.1  # seconds a frame
ON_ROUTE, STEERED, SLIDING = 0, 1, 2
AHEAD = np.arange(0.0, 24.0, 2.0)  # where a driver looks along the route, metres
COMFORT = 3.2  # braking, m/s^2


class Roads(NamedTuple):
    """Routes as arrays, padded with their last point, and the signals."""

    points: np.ndarray  # float [R, P, 2]
    tangents: np.ndarray  # float [R, P, 2], unit
    stop: np.ndarray  # float [R]
    bend: np.ndarray  # float [R, 2]
    axis: np.ndarray  # int [R]
    walked: np.ndarray  # bool [R]
    junction: world.Junction


class Motion(NamedTuple):
    """Where everybody is: N road users at one moment."""

    time: float  # seconds into the signals' cycle
    along: np.ndarray  # float [N], arc length on the route
    side: np.ndarray  # float [N], metres to the right of the route
    position: np.ndarray  # float [N, 2]
    heading: np.ndarray  # float [N]
    velocity: np.ndarray  # float [N, 2], m/s
    spin: np.ndarray  # float [N], rad/s
    mode: np.ndarray  # int [N], ON_ROUTE, STEERED or SLIDING


def make_roads(junction: world.Junction, routes: list[world.Route]) -> Roads:
    """The routes as arrays."""
    longest = max(len(route.points) for route in routes)
    points = np.stack([np.pad(r.points, ((0, longest - len(r.points)), (0, 0)), mode="edge") for r in routes])
    tangents = np.stack([_tangents(r.points, longest) for r in routes])
    columns = {name: np.array([getattr(r, name) for r in routes]) for name in ("stop", "bend", "axis", "walked")}
    return Roads(points, tangents, junction=junction, **columns)


def _tangents(points: np.ndarray, length: int) -> np.ndarray:
    steps = np.gradient(points, axis=0)
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    return np.pad(steps, ((0, length - len(steps)), (0, 0)), mode="edge")


def on_route(roads: Roads, users: Users, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points and unit tangents, each [N, ..., 2], at arc lengths [N, ...] of everybody's own route."""
    place = np.clip(along, 0, roads.points.shape[1] - 1.001)
    index = place.astype(int)
    route = users.route.reshape(-1, *[1] * (along.ndim - 1))
    start, end = roads.points[route, index], roads.points[route, index + 1]
    return start + (end - start) * (place - index)[..., None], roads.tangents[route, index]


def start(roads: Roads, users: Users, along: np.ndarray, time: float) -> Motion:
    """Everybody on the route, at the speed wished for; walkers beyond their kerb are on their way across."""
    point, tangent = on_route(roads, users, along)
    heading = np.arctan2(tangent[:, 1], tangent[:, 0])
    zeros = np.zeros(len(along))
    position = point + users.side[:, None] * world.right_of(tangent)
    return Motion(time, along, users.side.copy(), position, heading, tangent * users.speed[:, None], zeros, zeros.astype(int))


def speeds(motion: Motion) -> np.ndarray:
    """Speeds [N], m/s."""
    return np.linalg.norm(motion.velocity, axis=1)


def gaps(roads: Roads, users: Users, motion: Motion) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For everybody the next one in the way: free distance [N] (infinite if none), its speed along the route [N], its index [N]."""
    drivers = ~roads.walked[users.route] & (users.speed > 0)
    near = _in_front(motion) & drivers[:, None]
    who, other = np.nonzero(near)
    point, tangent = on_route(roads, users, motion.along[:, None] + AHEAD)
    point = point + motion.side[:, None, None] * world.right_of(tangent)
    distance = np.full(near.shape, np.inf)
    distance[who, other] = _free(users.size[who], users.size[other], point[who], tangent[who], _discs(users, motion)[other])
    first = distance.argmin(axis=1)
    pace = np.einsum("nc,nc->n", motion.velocity[first], tangent[:, 0])
    return distance.min(axis=1), pace, first


def _in_front(motion: Motion) -> np.ndarray:
    """Whether j is close to i and roughly before it: bool [N, N]. Spares the exact question for most pairs."""
    offset = motion.position - motion.position[:, None]
    axis = world.unit(motion.heading)[:, None]
    forward, across = world.dot(offset, axis), np.abs(world.dot(offset, world.right_of(axis)))
    return (forward > 0) & (forward < AHEAD[-1] + 4) & (across < 3 + 0.6 * forward)


def _discs(users: Users, motion: Motion) -> np.ndarray:
    """Three points along each body: [N, 3, 2]."""
    reach = users.size[:, 0, None, None] * np.array([-0.38, 0, 0.38])[:, None]
    return motion.position[:, None] + reach * world.unit(motion.heading)[:, None]


def _free(size: np.ndarray, other: np.ndarray, point: np.ndarray, tangent: np.ndarray, discs: np.ndarray) -> np.ndarray:
    """Free distance [M] of M pairs from looks ahead at `point` and `tangent` [M, K, 2] to `discs` [M, 3, 2]."""
    offset = discs[:, None] - point[:, :, None]  # [M, K, 3, 2]
    forward = world.dot(offset, tangent[:, :, None])
    across = world.dot(offset, world.right_of(tangent)[:, :, None])
    room = (size[:, 1] + other[:, 1]) / 2 + 0.35
    hit = (np.abs(forward) <= 1.0) & (np.abs(across) < room[:, None, None])
    nearest = np.where(hit, AHEAD[:, None] + forward, np.inf).min(axis=(1, 2))
    return nearest - size[:, 0] / 2 - other[:, 1] / 2 - 0.2


def wish(roads: Roads, users: Users, motion: Motion, gap: np.ndarray, pace: np.ndarray) -> np.ndarray:
    """Acceleration [N], m/s^2, of the intelligent driver model, with bends and signals.

    a (1 - (v / v0)^4 - (s* / s)^2), s* = s0 + v T + v dv / (2 sqrt(a b)).

    References: Treiber, Hennecke, Helbing, Congested traffic states in empirical observations, 2000.
    """
    speed = speeds(motion)
    first, last = roads.bend[users.route].T
    to_bend = np.where(motion.along < last, np.maximum(first - motion.along, 0), np.inf)
    limit = np.minimum(np.maximum(users.speed, 0.1), np.sqrt(4.5**2 + 2 * 1.6 * to_bend))
    gap, pace = _signals(roads, users, motion, speed, gap, pace)
    wished = 1.8 + 0.9 * speed + speed * (speed - pace) / (2 * np.sqrt(2.0 * 2.5))
    free = 1 - (speed / limit) ** 4
    return 2.0 * (free - (np.maximum(wished, 0) / np.maximum(gap, 0.3)) ** 2)


def _signals(
    roads: Roads, users: Users, motion: Motion, speed: np.ndarray, gap: np.ndarray, pace: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A red light, or crossing traffic still in the junction, is a standing obstacle to those who can still brake for it."""
    axis, walked = roads.axis[users.route], roads.walked[users.route]
    greens = np.array([world.green(roads.junction, a, motion.time) for a in (0, 1)])[axis]
    within = (np.linalg.norm(motion.position, axis=1) < roads.junction.mouths.max() + world.STOP_LINE) & ~walked & (users.speed > 0)
    crossed = np.array([(within & (axis != a)).any() for a in (0, 1)])[axis]
    stops = np.where(walked, greens, ~greens | crossed)
    left = roads.stop[users.route] - motion.along - np.where(walked, 0.0, users.size[:, 0] / 2)
    nearer = stops & (left > speed**2 / (2 * COMFORT) - 0.5) & (left > -0.5) & (left < gap)
    return np.where(nearer, np.maximum(left, 0.05) + 1.2, gap), np.where(nearer, 0.0, pace)


def drive(roads: Roads, users: Users, motion: Motion) -> Motion:
    """One step of ordinary traffic: nobody brakes harder than is comfortable."""
    gap, pace, _ = gaps(roads, users, motion)
    acceleration = wish(roads, users, motion, gap, pace)
    return advance(roads, users, motion, np.clip(acceleration, -COMFORT, 2.0), users.side)


def advance(roads: Roads, users: Users, motion: Motion, acceleration: np.ndarray, side: np.ndarray) -> Motion:
    """Moves everybody along the route by one step; `side` [N] is where each wants to be beside it, reached at 3 m/s at most."""
    speed = np.maximum(speeds(motion) + acceleration * DT, 0.0) * (users.speed > 0)
    along = motion.along + speed * DT
    shift = np.clip(side - motion.side, -3.0 * DT, 3.0 * DT) * np.minimum(speed / 3.0, 1.0)
    point, tangent = on_route(roads, users, along)
    position = point + (motion.side + shift)[:, None] * world.right_of(tangent)
    aim = tangent * np.maximum(speed, 1.0)[:, None] + world.right_of(tangent) * (shift / DT)[:, None]
    turn = (np.arctan2(aim[:, 1], aim[:, 0]) - motion.heading + np.pi) % (2 * np.pi) - np.pi
    heading = motion.heading + np.clip(turn, -2.5 * DT, 2.5 * DT) * np.minimum(speed, 1.0)
    moved = motion._replace(position=position, heading=heading, velocity=tangent * speed[:, None])
    return moved._replace(time=motion.time + DT, along=along, side=motion.side + shift)
