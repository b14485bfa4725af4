"""What goes wrong: four kinds of event as manoeuvres of one driver, and how everybody else reacts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from acx_jax.data.builders.scenes import impact, traffic, world
from acx_jax.data.builders.scenes.traffic import DT, Motion, Roads
from acx_jax.data.builders.scenes.users import KINDS, Users

EVENTS = ("collision", "wrong_way", "sudden_stop", "leaving_road")
EMERGENCY = 9.0  # braking, m/s^2
REACH = 4.0  # how far from the middle of the picture an event begins at most, metres


class Event(NamedTuple):
    """One driver's manoeuvre: it steers along `path` (or after the victim) until its grip is lost."""

    kind: str
    actor: int
    victim: int  # pursued by the actor; the actor itself where nobody is
    path: np.ndarray  # float [K, 2], metres, about 2 m apart
    speed: float  # m/s, taken on at `force`
    force: float  # m/s^2
    turn: float  # fastest turn, rad/s
    grip: float  # seconds until it slides
    spin: float  # rad/s when it begins to slide
    alert: np.ndarray  # float [N], seconds until the others see it
    skid: np.ndarray  # float [N], rad/s with which each begins to slide when it has to swerve; 0 for those who keep their grip


def openings(users: Users, motion: Motion, focus: np.ndarray) -> np.ndarray:
    """Drivers [M] that an event could begin with now: under way near `focus` [2], one behind them, another one close."""
    pace, away = traffic.speeds(motion), np.linalg.norm(motion.position - focus, axis=1)
    body = np.isin(users.kind, [KINDS.index(kind) for kind in ("car", "van", "truck", "parked")])
    driving = body & (users.speed > 0)
    apart = np.linalg.norm(motion.position[:, None] - motion.position, axis=-1)
    same = (users.route[:, None] == users.route) & (motion.along[:, None] > motion.along)
    followed = (same & (apart < 20) & driving).any(axis=1)
    company = ((apart < 14) & (apart > 3) & body).sum(axis=1) >= 2
    return np.flatnonzero(driving & (pace > 4.5) & (away < REACH) & followed & company)


def draw_event(rng: np.random.Generator, kind: str, roads: Roads, users: Users, motion: Motion, focus: np.ndarray) -> Event:
    """An event of the kind, begun by one of the drivers that `openings` finds (at least one)."""
    actor = int(rng.choice(openings(users, motion, focus)))
    count = len(users.kind)
    skid = rng.uniform(3.0, 6.0, count) * rng.choice([-1, 0, 1], count, p=[0.42, 0.16, 0.42]) * (users.size[:, 1] > 1)
    side = int(rng.choice([-1, 1]))
    make = {"collision": _collision, "wrong_way": _wrong_way, "sudden_stop": _sudden_stop, "leaving_road": _leaving}[kind]
    return make(roads, users, motion, actor, side, focus)._replace(kind=kind, alert=rng.uniform(0.3, 1.2, count), skid=skid)


def _manoeuvre(actor: int, path: np.ndarray) -> Event:
    """One that keeps its grip; the rest is filled in by the kinds of event."""
    return Event("", actor, actor, path, 9.0, 6.0, 2.5, np.inf, 0.0, np.zeros(0), np.zeros(0))


def _collision(roads: Roads, users: Users, motion: Motion, actor: int, side: int, focus: np.ndarray) -> Event:
    """It swerves into the nearest other one, preferably in front of it."""
    offset = motion.position - motion.position[actor]
    apart = np.linalg.norm(offset, axis=1)
    ahead = offset @ world.unit(motion.heading[actor]) / np.maximum(apart, 1e-6)
    score = apart + 20.0 * (ahead < 0.3) + 0.5 * np.linalg.norm(motion.position - focus, axis=1)
    score[(users.size[:, 1] < 1.0) | (apart < 3.5)] = np.inf
    return _manoeuvre(actor, motion.position[actor][None])._replace(victim=int(score.argmin()), speed=10.0, force=12.0, turn=5.0)


def _wrong_way(roads: Roads, users: Users, motion: Motion, actor: int, side: int, focus: np.ndarray) -> Event:
    """It turns round on the spot and comes back along its own lane, or goes on along the oncoming one."""
    back = side > 0
    marks = motion.along[actor] + np.arange(4.0, 60.0, 2.0) * (-1 if back else 1)
    point, tangent = traffic.on_route(roads, users._replace(route=users.route[actor : actor + 1]), marks[None])
    over = 0.0 if back else -roads.junction.hand * world.LANE
    path = point[0] + over * world.right_of(tangent[0])
    return _manoeuvre(actor, path)._replace(speed=6.0, turn=3.6)


def _sudden_stop(roads: Roads, users: Users, motion: Motion, actor: int, side: int, focus: np.ndarray) -> Event:
    """It brakes as hard as it can, and fishtails."""
    heading = motion.heading[actor] + side * 0.25
    path = motion.position[actor] + np.arange(2.0, 30.0, 2.0)[:, None] * world.unit(heading)
    return _manoeuvre(actor, path)._replace(speed=0.0, force=8.0, turn=1.0, grip=0.4, spin=-side * 3.0)


def _leaving(roads: Roads, users: Users, motion: Motion, actor: int, side: int, focus: np.ndarray) -> Event:
    """It veers off across the kerb and spins."""
    side = -int(roads.junction.hand)
    path = motion.position[actor] + np.arange(2.0, 30.0, 2.0)[:, None] * world.unit(motion.heading[actor] + side * 0.9)
    return _manoeuvre(actor, path)._replace(speed=6.5, turn=3.5, grip=0.5, spin=side * 5.5)


def step(roads: Roads, users: Users, motion: Motion, event: Event, elapsed: float) -> tuple[Motion, list[impact.Impact]]:
    """One step of traffic, `elapsed` seconds after the event began, and who ran into whom."""
    routed, swerving = _react(roads, users, motion, event, elapsed)
    actor = np.arange(len(users.kind)) == event.actor
    mode = np.where(actor & (motion.mode == traffic.ON_ROUTE), traffic.STEERED, motion.mode)
    lost = actor & (mode == traffic.STEERED) & (elapsed >= event.grip)
    mode = np.where(lost, traffic.SLIDING, mode)
    skidding = swerving & (mode == traffic.ON_ROUTE) & (event.skid != 0) & (traffic.speeds(motion) > 2)
    mode = np.where(skidding, traffic.SLIDING, mode)
    loose = motion._replace(mode=mode, spin=np.where(lost, event.spin, np.where(skidding, event.skid, motion.spin)))
    loose = _steer(impact.slide(loose), event)
    return impact.collide(users, _merge(routed._replace(mode=mode), loose))


def _merge(routed: Motion, loose: Motion) -> Motion:
    """Those on their route from `routed`, the others from `loose`."""
    free = routed.mode != traffic.ON_ROUTE
    columns = {name: (getattr(routed, name), getattr(loose, name)) for name in ("position", "heading", "velocity", "spin")}
    return routed._replace(**{k: np.where(free if a.ndim == 1 else free[:, None], b, a) for k, (a, b) in columns.items()})


def _react(roads: Roads, users: Users, motion: Motion, event: Event, elapsed: float) -> tuple[Motion, np.ndarray]:
    """Everybody on the route: late to see it, then braking hard; and who swerves, bool [N]."""
    gap, pace, other = traffic.gaps(roads, users, motion)
    aware = elapsed > event.alert
    strange = (motion.mode[other] != traffic.ON_ROUTE) & np.isfinite(gap)
    wished = np.clip(traffic.wish(roads, users, motion, gap, pace), -EMERGENCY, 2.0)
    apart = np.linalg.norm(motion.position - motion.position[event.actor], axis=1)
    shocked = aware & (apart < 16) & (elapsed < event.alert + 0.9)
    wished = np.where(shocked, np.minimum(wished, -6.0), wished)
    acceleration = np.where(strange & ~aware, 0.0, wished)
    offset = motion.position[other] - motion.position
    away = -np.sign((offset * world.right_of(world.unit(motion.heading))).sum(-1) + 1e-9)
    swerve = aware & (strange & (gap < 14) | (apart < 10))
    side = np.where(swerve, motion.side + away, np.where(aware, motion.side, users.side))
    return traffic.advance(roads, users, motion, acceleration, side), swerve


def _steer(motion: Motion, event: Event) -> Motion:
    """The actor's own driving while it has grip; everybody else as before."""
    i = event.actor
    if motion.mode[i] != traffic.STEERED:
        return motion
    chased = event.victim != i
    ahead = min(int(np.linalg.norm(event.path - motion.position[i], axis=1).argmin()) + 1, len(event.path) - 1)
    aim = (motion.position[event.victim] if chased else event.path[ahead]) - motion.position[i]
    error = (np.arctan2(aim[1], aim[0]) - motion.heading[i] + np.pi) % (2 * np.pi) - np.pi
    spin = float(np.clip(6.0 * error, -event.turn, event.turn))
    pace = traffic.speeds(motion)[i]
    pace += float(np.clip(event.speed - pace, -event.force * DT, event.force * DT))
    heading = motion.heading.copy()
    heading[i] += spin * DT
    position, velocity, spins = motion.position.copy(), motion.velocity.copy(), motion.spin.copy()
    velocity[i], spins[i] = pace * world.unit(heading[i]), spin
    position[i] += velocity[i] * DT
    return motion._replace(position=position, heading=heading, velocity=velocity, spin=spins)
