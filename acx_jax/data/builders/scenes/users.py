"""Who uses the road in a clip: kinds, sizes, wishes and where each begins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from acx_jax.data.builders.scenes import world

KINDS = ("car", "van", "truck", "bike", "pedestrian", "parked")
_SIZES = {  # length, width, height in metres
    "car": (4.3, 1.8, 1.45), "van": (5.4, 2.0, 2.3), "truck": (8.2, 2.4, 3.1),
    "bike": (1.8, 0.6, 1.7), "pedestrian": (0.5, 0.5, 1.75), "parked": (4.3, 1.8, 1.45),
}  # fmt: skip


class Users(NamedTuple):
    """What stays the same about each of N road users."""

    kind: np.ndarray  # int [N], index into KINDS
    route: np.ndarray  # int [N]
    size: np.ndarray  # float [N, 3]: length, width, height, metres
    speed: np.ndarray  # float [N], wished for, m/s
    side: np.ndarray  # float [N], wished-for distance to the right of the route, metres


def draw_users(rng: np.random.Generator, junction: world.Junction, routes: list[world.Route]) -> tuple[Users, np.ndarray]:
    """Road users and their arc lengths at the start [N]: queues upstream in every lane, walkers, parked cars."""
    rows = [*_drivers(rng, junction, routes), *_walkers(rng, routes), *_parked(rng, junction, routes)]
    kinds = np.array([KINDS.index(row[0]) for row in rows])
    scale = rng.uniform(0.92, 1.08, (len(rows), 1))
    sizes = np.array([_SIZES[row[0]] for row in rows]) * scale
    columns = [np.array([row[i] for row in rows]) for i in (1, 2, 3, 4)]
    return Users(kinds, columns[0], sizes, columns[1], columns[2]), columns[3]


def _drivers(rng: np.random.Generator, junction: world.Junction, routes: list[world.Route]) -> list[tuple]:
    rows, pace = [], rng.uniform(7.0, 9.5)
    for entry in sorted({route.entry for route in routes if not route.walked}):
        choices = [i for i, route in enumerate(routes) if route.entry == entry and not route.walked]
        outer = entry[1] == junction.lanes[junction.axes[entry[0]]] - 1
        place = world.UPSTREAM - world.STOP_LINE - rng.uniform(18, 30)
        while place > 0:
            kind = rng.choice(["car", "van", "truck", "bike"], p=[0.62, 0.14, 0.1, 0.14])
            if kind == "bike" and not (outer and len(choices) == 1):
                kind = "car"
            speed = rng.uniform(4.0, 5.5) if kind == "bike" else pace * rng.uniform(0.85, 1.15)
            side = junction.hand * (1.55 if kind == "bike" else rng.uniform(-0.2, 0.15))
            rows.append((kind, int(rng.choice(choices)), speed, side, place))
            place -= _SIZES[kind][0] + rng.uniform(5.0, 14.0)
    return rows


def _walkers(rng: np.random.Generator, routes: list[world.Route]) -> list[tuple]:
    walks = [i for i, route in enumerate(routes) if route.walked]
    rows = []
    for _ in range(int(rng.integers(6, 14))):
        route = int(rng.choice(walks))
        reach = min(routes[route].stop - 1.0, len(routes[route].points) - 20.0)
        rows.append(("pedestrian", route, rng.uniform(1.0, 1.7), rng.uniform(-0.7, 0.7), rng.uniform(0, reach)))
    return rows


def _parked(rng: np.random.Generator, junction: world.Junction, routes: list[world.Route]) -> list[tuple]:
    rows = []
    for index, route in enumerate(routes):
        arm, lane = route.entry
        outer = not route.walked and lane == junction.lanes[junction.axes[arm]] - 1
        if outer and route.bend == (0.0, 0.0) and rng.random() < 0.4:
            side = junction.hand * (world.LANE / 2 + rng.uniform(1.1, 1.3))
            rows += [("parked", index, 0.0, side, route.stop - 3.0 - 6.5 * i) for i in range(int(rng.integers(1, 3)))]
    return rows
