"""Geometric views: where each output pixel is read from, so that several cost one nearest-neighbour gather."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

CENTRES = (60 / 224, 140 / 224)  # published ranges of the local warp, as shares of the side
SHIFTS = (10 / 224, 20 / 224)
MOST_WARPS = 3
LARGEST_SWAPPED = 256  # pixels: beyond, the whole numbers of `swapped_bend` do not fit
CONTROLS = 4  # control points of the thin plate along each side
LARGEST_DISPLACEMENT = 0.05  # of a control point, as a share of the side
AREAS = (0.2, 1.0)  # of the resized crop, as shares of the frame
ASPECTS = (3 / 4, 4 / 3)
ATTEMPTS = 10


class Grid(NamedTuple):
    """rows, columns: float32 [S, S], the input position of each output pixel."""

    rows: jax.Array
    columns: jax.Array


def identity(size: int) -> Grid:
    """Every pixel from its own place in a frame of `size` x `size`."""
    line = jnp.arange(size, dtype=jnp.float32)
    return Grid(*jnp.meshgrid(line, line, indexing="ij"))


def crop(key: jax.Array, grid: Grid, *, of: int) -> Grid:
    """Moves the output's square uniformly at random within a frame of `of` x `of`."""
    shift = jax.random.randint(key, (2,), 0, of - grid.rows.shape[0] + 1)
    return Grid(grid.rows + shift[0], grid.columns + shift[1])


def resized_crop(key: jax.Array, grid: Grid, *, of: int) -> Grid:
    """The `rectangle` of AREAS of the frame of `of` x `of` in place of the output's square."""
    first, sides = rectangle(key, jnp.array([of, of]), areas=AREAS)
    return Grid(*((line + 0.5) * (side / len(line)) - 0.5 + start for line, side, start in zip(grid, sides, first)))


def rectangle(key: jax.Array, frame: jax.Array, *, areas: tuple[float, float]) -> tuple[jax.Array, jax.Array]:
    """A rectangle at a random place of a frame: its first row and column, and its height and width, each int32 [2].

    frame: int32 [2], height and width. The area is uniform in `areas`, shares of the frame's, the logarithm of width / height in ASPECTS. As
    torchvision's: the first of ATTEMPTS draws, rounded to whole pixels, that fits into the frame; without one the largest in its middle whose aspect is allowed.
    """
    area_key, aspect_key, place_key = jax.random.split(key, 3)
    area = frame[0] * frame[1] * jax.random.uniform(area_key, (ATTEMPTS,), minval=areas[0], maxval=areas[1])
    aspect = jnp.exp(jax.random.uniform(aspect_key, (ATTEMPTS,), minval=np.log(ASPECTS[0]), maxval=np.log(ASPECTS[1])))
    drawn = jnp.round(jnp.sqrt(area[:, None] * jnp.stack([1 / aspect, aspect], -1))).astype(int)
    fits = jnp.all((drawn > 0) & (drawn <= frame), axis=-1)
    largest = jnp.minimum(frame, jnp.round(frame[::-1] * jnp.array([1 / ASPECTS[0], ASPECTS[1]])).astype(int))
    sides = jnp.where(jnp.any(fits), drawn[jnp.argmax(fits)], largest)
    place = jax.random.randint(place_key, (2,), 0, frame - sides + 1)
    return jnp.where(jnp.any(fits), place, (frame - sides) // 2), sides


def flip(key: jax.Array, grid: Grid, *, probability: float) -> Grid:
    """Left and right of the output exchanged with that probability, before anything is read, which costs less than of the picture."""
    turned = jax.random.bernoulli(key, probability)
    return Grid(*(jnp.where(turned, line[:, ::-1], line) for line in grid))


def squeeze(grid: Grid, *, of: int) -> Grid:
    """The whole frame of `of` x `of` in place of a part of it, so that there is nothing left to crop (published)."""
    scale = of / grid.rows.shape[0]
    return Grid(*((line + 0.5) * scale - 0.5 for line in grid))


def rotate(key: jax.Array, grid: Grid, *, of: int, degrees: float = 10.0) -> Grid:
    """Turns the frame of `of` x `of` about its centre by a uniform angle in [-degrees, degrees]."""
    angle = jnp.deg2rad(jax.random.uniform(key, (), minval=-degrees, maxval=degrees))
    centre = (of - 1) / 2
    rows, columns = grid.rows - centre, grid.columns - centre
    return Grid(centre + jnp.cos(angle) * rows + jnp.sin(angle) * columns,
                centre - jnp.sin(angle) * rows + jnp.cos(angle) * columns)


def local_warps(key: jax.Array, grid: Grid) -> Grid:
    """One to three local shifts of the picture: the scene is bent, the motion in it stays (arXiv 2112.06320, section 3.2).

    The centres and shifts are uniform in CENTRES and SHIFTS, and each warp is `bend`.
    """
    count_key, warp_key = jax.random.split(key)
    count = jax.random.randint(count_key, (), 1, MOST_WARPS + 1)
    side = grid.rows.shape[0]
    for i, one in enumerate(jax.random.split(warp_key, MOST_WARPS)):
        centre_key, shift_key = jax.random.split(one)
        centre = side * jax.random.uniform(centre_key, (2,), minval=CENTRES[0], maxval=CENTRES[1])
        shift = side * jax.random.uniform(shift_key, (2,), minval=SHIFTS[0], maxval=SHIFTS[1])
        warped = bend(grid, centre, shift)
        grid = Grid(*(jnp.where(i < count, new, old) for new, old in zip(warped, grid)))
    return grid


def bend(grid: Grid, centre: jax.Array, shift: jax.Array) -> Grid:
    """One local shift: a pixel at distance d of p = centre + shift reads h shift away, h = 0.5 / (3 (d / |shift|)^4 + 1).

    Beyond three shifts of the centre nothing moves. centre, shift: float [2], rows and columns.
    """
    away = Grid(grid.rows - centre[0], grid.columns - centre[1])
    ratio = ((away.rows - shift[0]) ** 2 + (away.columns - shift[1]) ** 2) / jnp.sum(shift**2)
    near = (away.rows >= -3 * shift[0]) & (away.rows < 3 * shift[0])
    near &= (away.columns >= -3 * shift[1]) & (away.columns < 3 * shift[1])
    reach = jnp.where(near, 0.5 / (3 * ratio**2 + 1), 0.0)
    inside = grid.rows.shape[0] - 1.0
    return Grid(jnp.clip(grid.rows - reach * shift[0], 0, inside), jnp.clip(grid.columns - reach * shift[1], 0, inside))


def thin_plate(key: jax.Array, grid: Grid) -> Grid:
    """A smooth warp of the whole picture: `spline` with uniform displacements up to LARGEST_DISPLACEMENT of the side; stays inside."""
    side = grid.rows.shape[0]
    most = LARGEST_DISPLACEMENT * side
    moves = jax.random.uniform(key, (CONTROLS**2, 2), minval=-most, maxval=most)
    return Grid(*(jnp.clip(line, 0, side - 1.0) for line in spline(grid, moves)))


def spline(grid: Grid, moves: jax.Array) -> Grid:
    """Adds the thin-plate spline through the control points' moves (Bookstein, 1989), which is linear in them.

    grid: that of `identity`, moved at most. moves: float [CONTROLS^2, 2], rows and columns in pixels, of the points of an even lattice
    from corner to corner of the output, row by row.
    """
    side = grid.rows.shape[0]
    rows, columns = jnp.matmul(_thin_plates(side), moves, precision="highest").T.reshape(2, side, side)
    return Grid(grid.rows + rows, grid.columns + columns)


@lru_cache(maxsize=4)
def _thin_plates(side: int) -> np.ndarray:
    """What each control point's unit move does to each pixel: float32 [side^2, CONTROLS^2]."""
    def lattice(count: int) -> np.ndarray:
        return np.stack(np.meshgrid(*[np.linspace(0, 1, count)] * 2, indexing="ij"), -1).reshape(-1, 2)

    def terms(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        squared = np.sum((places[:, None] - controls) ** 2, axis=-1)
        return squared * np.log(np.where(squared > 0, squared, 1)), np.column_stack([np.ones(len(places)), places])

    controls = lattice(CONTROLS)
    bends, plane = terms(controls)
    system = np.block([[bends, plane], [plane.T, np.zeros((3, 3))]])
    values = np.hstack(terms(lattice(side)))
    return np.linalg.solve(system, values.T)[:len(controls)].T.astype(np.float32)  # the system is symmetric


def swapped_warps(key: jax.Array, grid: Grid) -> Grid:
    """The published local warps: one to three of `swapped_bend`, centres in [60, 140) and shifts in [10, 20) pixels of 224.

    Both are scaled to the grid's side. One key for a whole batch bends every clip of it alike, as published.
    """
    count_key, warp_key = jax.random.split(key)
    count = jax.random.randint(count_key, (), 1, MOST_WARPS + 1)
    side = grid.rows.shape[0]
    centres, shifts = ([round(share * side) for share in ends] for ends in (CENTRES, SHIFTS))
    for i, one in enumerate(jax.random.split(warp_key, MOST_WARPS)):
        centre_key, shift_key = jax.random.split(one)
        centre = jax.random.randint(centre_key, (2,), *centres)
        shift = jax.random.randint(shift_key, (2,), max(shifts[0], 1), max(shifts[1], 2))
        warped = swapped_bend(grid, jnp.concatenate([centre, shift]))
        grid = Grid(*(jnp.where(i < count, new, old) for new, old in zip(warped, grid)))
    return grid


def swapped_bend(grid: Grid, point: jax.Array) -> Grid:
    """The published form of `bend`, bit for bit: whole pixels, and x, dx along the rows. point: int32 [4] = (x, y, dx, dy).

    The reach 0.5 dx / (3 (d / |s|)^4 + 1) is cut to a whole number; as integers, so that no rounding moves a pixel. For that a
    side may have at most LARGEST_SWAPPED pixels; grid holds whole numbers.
    """
    side = grid.rows.shape[0]
    rows, columns = grid.rows.astype(jnp.int32), grid.columns.astype(jnp.int32)
    x, y, dx, dy = point
    near = (rows >= x - 3 * dx) & (rows < x + 3 * dx) & (columns >= y - 3 * dy) & (columns < y + 3 * dy)
    shift = dx**2 + dy**2
    away = jnp.minimum((rows - x - dx) ** 2 + (columns - y - dy) ** 2, 16 * shift)  # no further within `near`
    below = 2 * (3 * away**2 + shift**2)
    moved = (jnp.clip(rows - dx * shift**2 // below, 0, side - 1), jnp.clip(columns - dy * shift**2 // below, 0, side - 1))
    return Grid(*(jnp.where(near, new, old).astype(jnp.float32) for new, old in zip(moved, (rows, columns))))


def sample(clip: jax.Array, grid: Grid) -> jax.Array:
    """Reads the nearest pixels; black outside. clip [T, H, W, C] -> [T, S, S, C]."""
    rows, columns = jnp.round(grid.rows).astype(int), jnp.round(grid.columns).astype(int)
    height, width = clip.shape[1:3]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    flat = clip.reshape(clip.shape[0], height * width, clip.shape[3])
    index = jnp.clip(rows, 0, height - 1) * width + jnp.clip(columns, 0, width - 1)
    return jnp.where(inside[None, :, :, None], flat[:, index], 0)
