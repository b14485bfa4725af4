"""Grids against slow per-pixel loops: what is read, from where, in which order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acx_jax.selfsup import geometry
from acx_jax.selfsup.geometry import Grid

pytestmark = pytest.mark.usefixtures("quick_compiler")
SIDE = 40


def picture(side: int = SIDE) -> np.ndarray:
    """A clip [2, side, side, 3] whose colours tell frame, row and column, none of them black."""
    rows, columns = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    return np.stack([np.stack([rows + 1, columns + 1, np.full_like(rows, frame + 1)], -1) for frame in range(2)]).astype(np.uint8)


def read(clip: np.ndarray, place) -> np.ndarray:
    """Output pixel (i, j) is the clip's pixel place(i, j), black outside: the slow `sample`."""
    side = clip.shape[1]
    out = np.zeros_like(clip)
    for i in range(side):
        for j in range(side):
            row, column = place(i, j)
            if 0 <= row < side and 0 <= column < side:
                out[:, i, j] = clip[:, int(row), int(column)]
    return out


def bent_place(i, j, centre, shift, side):
    """The published formula without its truncation: where output pixel (i, j) is read, rows first."""
    near = all(at in range(max(0, c - 3 * s), min(side, c + 3 * s)) for at, c, s in zip((i, j), centre, shift))
    p = np.add(centre, shift)
    h = 0.5 / (3 * (np.hypot(i - p[0], j - p[1]) / np.hypot(*shift)) ** 4 + 1) if near else 0.0
    return [float(np.clip(at - h * s, 0, side - 1)) for at, s in zip((i, j), shift)]


@pytest.mark.parametrize(("centre", "shift"), [((12, 20), (3, 5)), ((30, 8), (6, 2)), ((3, 38), (4, 4))])
def test_a_bend_is_the_published_formula(centre, shift):
    grid = geometry.bend(geometry.identity(SIDE), jnp.array(centre, float), jnp.array(shift, float))
    expected = np.array([[bent_place(i, j, centre, shift, SIDE) for j in range(SIDE)] for i in range(SIDE)])
    np.testing.assert_allclose(np.stack(grid, -1), expected, atol=1e-4)
    assert np.abs(expected - np.stack(geometry.identity(SIDE), -1)).max() > 1


def test_a_bend_moves_pixels_as_recorded(parity):
    """The recorded warp truncates each move to whole pixels; its point is (row, column, rows moved, columns moved)."""
    recorded = np.load(parity / "spatial_warp.npz")
    clip = recorded["x"][0]
    for number in range(4):
        point = recorded[f"point{number}"].astype(float)
        grid = geometry.bend(geometry.identity(224), jnp.asarray(point[:2]), jnp.asarray(point[2:]))
        moves = [np.asarray(own - at) for own, at in zip(geometry.identity(224), grid)]
        whole = Grid(*(np.arange(224.0)[index] - np.trunc(move + 1e-5) for index, move in zip(np.ix_(range(224), range(224)), moves)))
        np.testing.assert_array_equal(geometry.sample(clip, whole), recorded[f"y{number}"][0])


def test_sampling_reads_the_nearest_pixel_and_is_black_outside():
    clip = picture()
    grid = Grid(*(g * 1.3 - 4.23 for g in geometry.identity(SIDE)))
    expected = read(clip, lambda i, j: (np.round(i * 1.3 - 4.23), np.round(j * 1.3 - 4.23)))
    np.testing.assert_array_equal(geometry.sample(clip, grid), expected)
    assert not expected[:, 0, 0].any() and not expected[:, -1, -1].any()


def test_warps_composed_equal_the_picture_warped_one_after_the_other():
    """Up to the nearest pixel: each picture on the way is rounded, the composition only once."""
    clip, draws = picture(), [((12.0, 20.0), (4.0, 5.0)), ((16.0, 14.0), (5.0, 3.0)), ((20.0, 9.0), (3.0, 6.0))]
    grid, warped = geometry.identity(SIDE), clip
    for centre, shift in draws:
        grid = geometry.bend(grid, jnp.array(centre), jnp.array(shift))
    for centre, shift in reversed(draws):
        warped = geometry.sample(warped, geometry.bend(geometry.identity(SIDE), jnp.array(centre), jnp.array(shift)))
    apart = np.abs(np.asarray(geometry.sample(clip, grid)).astype(int) - np.asarray(warped).astype(int))
    assert apart.max() <= 3 and apart.mean() < 0.1
    assert np.abs(np.asarray(warped).astype(int) - clip).max() > 2


def test_local_warps_bend_one_to_three_times_within_the_published_reach():
    plain = geometry.identity(56)
    grids = jax.jit(jax.vmap(lambda key: geometry.local_warps(key, plain)))(jax.random.split(jax.random.key(0), 200))
    moved = np.maximum(plain.rows - grids.rows, plain.columns - grids.columns)
    assert (moved >= -1e-5).all()  # a pixel reads from before itself in both directions
    most = moved.max((1, 2))
    assert most.min() > 0.5 * 0.9 * 10 / 4 * 0.5 and most.max() < 3 * 0.5 * 20 / 4
    assert (np.asarray(grids.rows) >= 0).all() and (np.asarray(grids.columns) <= 55).all()
    assert most.max() > 0.5 * 20 / 4  # more than one bend can do


def test_a_crop_takes_every_place_of_the_frame_alike():
    grids = jax.jit(jax.vmap(lambda key: geometry.crop(key, geometry.identity(4), of=6)))(jax.random.split(jax.random.key(0), 900))
    corners = np.stack([grids.rows[:, 0, 0], grids.columns[:, 0, 0]], -1)
    places, counts = np.unique(corners, axis=0, return_counts=True)
    assert places.tolist() == [[i, j] for i in range(3) for j in range(3)]
    assert counts.min() > 60
    np.testing.assert_array_equal(grids.rows[7] - grids.rows[7, 0, 0], geometry.identity(4).rows)


def test_a_rotation_turns_about_the_centre_of_the_frame():
    clip, key = picture(), jax.random.key(3)
    angle = np.deg2rad(float(jax.random.uniform(key, (), minval=-10.0, maxval=10.0)))
    centre = (SIDE - 1) / 2

    def place(i, j):
        row, column = i - centre, j - centre
        return (np.round(centre + np.cos(angle) * row + np.sin(angle) * column),
                np.round(centre - np.sin(angle) * row + np.cos(angle) * column))

    turned = geometry.sample(clip, geometry.rotate(key, geometry.identity(SIDE), of=SIDE))
    assert (np.asarray(turned) != read(clip, place)).mean() < 1e-3  # a pixel half way may fall to either side
    assert (np.asarray(turned) != clip).mean() > 0.1


def test_angles_fill_ten_degrees_to_either_side():
    grids = jax.jit(jax.vmap(lambda key: geometry.rotate(key, geometry.identity(3), of=3)))(jax.random.split(jax.random.key(0), 400))
    angles = np.rad2deg(np.arctan2(grids.rows[:, 1, 2] - 1, grids.columns[:, 1, 2] - 1))
    assert -10 <= angles.min() < -9 and 9 < angles.max() <= 10
    distances = np.hypot(grids.rows - 1, grids.columns - 1)
    np.testing.assert_allclose(distances, np.broadcast_to(distances[0], distances.shape), atol=1e-5)


def test_rotation_crop_and_warp_compose_in_that_order():
    """What `views.view` does: the frame is turned, a part of it cut out, and that bent."""
    clip, size = picture(), 24
    bent = geometry.bend(geometry.identity(size), jnp.array([8.0, 8.0]), jnp.array([4.0, 3.0]))
    keys = jax.random.split(jax.random.key(1))
    once = geometry.sample(clip, geometry.rotate(keys[0], geometry.crop(keys[1], bent, of=SIDE), of=SIDE))
    turned = geometry.sample(clip, geometry.rotate(keys[0], geometry.identity(SIDE), of=SIDE))
    cut = geometry.sample(turned, geometry.crop(keys[1], geometry.identity(size), of=SIDE))
    apart = np.abs(np.asarray(once).astype(int) - np.asarray(geometry.sample(cut, bent)).astype(int))
    assert (apart.max(-1) <= 1).mean() > 0.98
