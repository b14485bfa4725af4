"""A junction's geometry: its arms, the routes through it, and its signals. Pure functions of a generator."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LANE = 3.4  # width of a lane, metres
UPSTREAM, DOWNSTREAM = 110.0, 110.0  # how far routes reach before and behind the junction, metres
ZEBRA, STOP_LINE = 2.2, 4.6  # from the junction's mouth to the middle of the crossing and to the stop line, metres
CLEARANCE = 3.5  # all red between two greens, seconds


class Junction(NamedTuple):
    """Arms leave the origin at `angles`; arm i belongs to axis `axes[i]`, with `lanes[axis]` lanes a direction."""

    angles: np.ndarray  # float [A], radians
    axes: np.ndarray  # int [A], 0 or 1
    lanes: tuple[int, int]
    mouths: np.ndarray  # float [A], distance from the origin at which an arm's stretch begins, metres
    hand: float  # 1 where people drive on the right, -1 where on the left
    sources: tuple[int, ...]  # arms that traffic comes from
    greens: tuple[float, float]  # length of each axis's green, seconds


class Route(NamedTuple):
    """A way to drive or walk: points 1 m apart."""

    points: np.ndarray  # float [P, 2], metres
    stop: float  # arc length of the stop line or kerb, metres; infinite where nothing is to be waited for
    bend: tuple[float, float]  # arc lengths between which it turns, metres; empty interval on a straight route
    axis: int  # whose signal counts
    entry: tuple[int, int]  # arm and lane it comes from
    walked: bool  # by pedestrians, who cross while the axis is red


def unit(angle: float | np.ndarray) -> np.ndarray:
    """Directions: float [..., 2] for angles [...]."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def right_of(direction: np.ndarray) -> np.ndarray:
    """The directions [..., 2] turned by 90 degrees clockwise."""
    return np.stack([direction[..., 1], -direction[..., 0]], axis=-1)


def dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Scalar products of vectors [..., 2]; for so short ones faster than a sum."""
    return first[..., 0] * second[..., 0] + first[..., 1] * second[..., 1]


def draw_junction(rng: np.random.Generator) -> Junction:
    """A crossing, a T or a straight stretch with a pedestrian crossing, at a random angle, of random width."""
    shape = rng.choice(["cross", "tee", "straight"], p=[0.5, 0.3, 0.2])
    skew = np.pi / 2 + rng.uniform(-0.35, 0.35)
    first = rng.uniform(0, 2 * np.pi)
    kept = {"cross": [0, 1, 2, 3], "tee": [0, 1, 2], "straight": [0, 2]}[shape]
    angles = (first + np.array([0, skew, np.pi, np.pi + skew]))[kept]
    axes = np.array([0, 1, 0, 1])[kept]
    lanes = [(1, 1), (2, 1), (1, 2)][rng.integers(3)] if shape != "straight" else (int(rng.integers(1, 3)), 0)
    sources = tuple(arm for arm in range(len(kept)) if arm != 2 or rng.random() > 0.3)
    greens = (float(rng.uniform(8, 14)), float(rng.uniform(4, 8)))
    return Junction(angles, axes, lanes, _mouths(axes, lanes, skew), float(rng.choice([-1, 1])), sources, greens)


def _mouths(axes: np.ndarray, lanes: tuple[int, int], skew: float) -> np.ndarray:
    widths = np.array(lanes) * LANE
    reach = (widths[1 - axes] + widths[axes] * abs(np.cos(skew))) / np.sin(skew)
    return reach + 1.5


def half_width(junction: Junction, arm: int) -> float:
    """From the middle line to the kerb of an arm, metres."""
    return junction.lanes[junction.axes[arm]] * LANE


def green(junction: Junction, axis: int, time: float) -> bool:
    """Whether the axis may go at `time`, seconds into the cycle that begins with axis 0's green."""
    first, second = junction.greens
    moment = time % (first + second + 2 * CLEARANCE)
    return moment < first if axis == 0 else 0 <= moment - first - CLEARANCE < second


def driving_routes(junction: Junction) -> list[Route]:
    """All routes that never meet another one during the same green."""
    arms = range(len(junction.angles))
    pairs = [(i, j) for i in junction.sources for j in arms if i != j and _allowed(junction, i, j)]
    return [_drive(junction, i, j, lane) for i, j in pairs for lane in _lanes(junction, i, j)]


def _turn(junction: Junction, arm_in: int, arm_out: int) -> float:
    """Change of heading from one arm to another, radians; positive towards the kerb side."""
    change = junction.angles[arm_out] - junction.angles[arm_in] - np.pi
    return -junction.hand * float((change + np.pi) % (2 * np.pi) - np.pi)


def _allowed(junction: Junction, arm_in: int, arm_out: int) -> bool:
    """Turns across the oncoming lane only where nobody comes from there."""
    if _turn(junction, arm_in, arm_out) > -0.1:
        return True
    oncoming = [a for a in junction.sources if a != arm_in and junction.axes[a] == junction.axes[arm_in]]
    return not oncoming


def _lanes(junction: Junction, arm_in: int, arm_out: int) -> list[tuple[int, int]]:
    """Pairs of lane in and lane out; lane 0 is at the middle line."""
    count_in, count_out = (junction.lanes[junction.axes[arm]] for arm in (arm_in, arm_out))
    turn = _turn(junction, arm_in, arm_out)
    if abs(turn) < 0.1:
        return [(lane, lane) for lane in range(count_in)]
    return [(count_in - 1, count_out - 1)] if turn > 0 else [(0, 0)]


def _drive(junction: Junction, arm_in: int, arm_out: int, lane: tuple[int, int]) -> Route:
    away_in, away_out = unit(junction.angles[arm_in]), unit(junction.angles[arm_out])
    side_in = right_of(-away_in) * junction.hand * (lane[0] + 0.5) * LANE
    side_out = right_of(away_out) * junction.hand * (lane[1] + 0.5) * LANE
    mouth_in, mouth_out = junction.mouths[arm_in], junction.mouths[arm_out]
    entry, leave = away_in * mouth_in + side_in, away_out * mouth_out + side_out
    turns = abs(_turn(junction, arm_in, arm_out)) > 0.1
    middle = _bezier(entry, _meeting(entry, away_in, leave, away_out), leave) if turns else np.stack([entry, leave])
    points = _resample(np.concatenate([[entry + away_in * UPSTREAM], middle, [leave + away_out * DOWNSTREAM]]))
    bend = (UPSTREAM, len(points) - DOWNSTREAM) if turns else (0.0, 0.0)
    return Route(points, UPSTREAM - STOP_LINE, bend, int(junction.axes[arm_in]), (arm_in, lane[0]), False)


def _meeting(start: np.ndarray, along: np.ndarray, other: np.ndarray, other_along: np.ndarray) -> np.ndarray:
    """Where two lines cross."""
    factor, _ = np.linalg.solve(np.stack([along, -other_along], axis=1), other - start)
    return start + factor * along


def _bezier(start: np.ndarray, control: np.ndarray, end: np.ndarray) -> np.ndarray:
    t = np.linspace(0, 1, 12)[:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end


def _resample(points: np.ndarray) -> np.ndarray:
    """The same polyline with points 1 m apart: float [P, 2]."""
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    marks = np.arange(0, lengths[-1], 1.0)
    return np.stack([np.interp(marks, lengths, points[:, axis]) for axis in (0, 1)], axis=1)


def walking_routes(junction: Junction) -> list[Route]:
    """Over each arm's crossing, and along the pavements from each arm to the next, all in both directions."""
    order = np.argsort(-(junction.angles % (2 * np.pi)))  # clockwise
    corners = [_pavement(junction, int(a), int(b)) for a, b in zip(order, np.roll(order, -1))]
    crossings = [_crossing(junction, arm) for arm in range(len(junction.angles))]
    return [turned for route in [*crossings, *corners] for turned in (route, route._replace(points=route.points[::-1]))]


def _crossing(junction: Junction, arm: int) -> Route:
    away, half = unit(junction.angles[arm]), half_width(junction, arm)
    middle, side = away * (junction.mouths[arm] + ZEBRA), right_of(away) * (half + 25.0)
    points = _resample(np.stack([middle + side, middle - side]))
    return Route(points, 24.2, (0.0, 0.0), int(junction.axes[arm]), (arm, -1), True)


def _pavement(junction: Junction, arm: int, clockwise: int) -> Route:
    ends = []
    for index, side in ((arm, 1), (clockwise, -1)):
        away = unit(junction.angles[index])
        shift = side * right_of(away) * (half_width(junction, index) + 1.6)
        ends.append([away * (junction.mouths[index] + reach) + shift for reach in (1.0, 60.0)])
    (near, far), (near_other, far_other) = ends
    return Route(_resample(np.stack([far, near, near_other, far_other])), np.inf, (0.0, 0.0), 0, (arm, -1), True)
