"""Thin plates, resized crops, flips, blurs, greys and slower clips against slow references; off, they change nothing."""

from functools import partial

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator
from scipy.ndimage import correlate1d

from acx_jax.selfsup import colour, geometry, motion
from acx_jax.selfsup.views import ViewOptions, view

pytestmark = pytest.mark.usefixtures("quick_compiler")
SIDE = 13  # control points lie on pixels 0, 4, 8, 12
PLAIN = geometry.identity(SIDE)
CLIP = np.random.default_rng(0).random((4, 24, 24, 3)).astype(np.float32)
KEYS = jax.random.split(jax.random.key(0), 300)
OFF = ViewOptions(16, "random", "all", "sample")
ALL = ViewOptions(16, "resized", "all", "thin_plate", flip=0.5, blur=0.5, grey=0.5, temporal_jitter=0.5)


def test_a_thin_plate_is_scipys_and_passes_through_its_control_points():
    moves = np.random.default_rng(1).uniform(-2, 2, (2, 16, 2)).astype(np.float32)
    grids = np.stack(jax.vmap(lambda m: geometry.spline(PLAIN, m))(moves), -1)
    controls = np.stack(np.meshgrid(*[np.arange(0, SIDE, 4.0)] * 2, indexing="ij"), -1).reshape(-1, 2)
    places = np.stack(PLAIN, -1)
    for grid, move in zip(grids, moves):
        expected = RBFInterpolator(controls, move, kernel="thin_plate_spline")(places.reshape(-1, 2)).reshape(SIDE, SIDE, 2)
        np.testing.assert_allclose(grid - places, expected, atol=1e-4)
        np.testing.assert_allclose((grid - places)[::4, ::4].reshape(-1, 2), move, atol=1e-5)


def test_a_thin_plate_without_moves_is_the_identity_and_draws_stay_inside():
    np.testing.assert_array_equal(geometry.spline(PLAIN, jnp.zeros((16, 2))), PLAIN)
    grids = np.stack(jax.vmap(lambda key: geometry.thin_plate(key, PLAIN))(KEYS), -1)
    assert grids.min() >= 0 and grids.max() <= SIDE - 1
    moved = np.abs(grids - np.stack(PLAIN, -1))[:, 4:9:4, 4:9:4].max((0, 1, 2))  # at inner control points, which nothing clips
    assert (moved > 0.9 * 0.05 * SIDE).all() and (moved <= 0.05 * SIDE + 1e-4).all()


def slow_rectangle(key, of):
    """Height, width, top and left: a loop over the attempts."""
    area_key, aspect_key, place_key = jax.random.split(key, 3)
    areas = np.asarray(jax.random.uniform(area_key, (10,), minval=0.2, maxval=1.0)) * of**2
    logs = np.asarray(jax.random.uniform(aspect_key, (10,), minval=np.log(3 / 4), maxval=np.log(4 / 3)))
    for area, log in zip(areas, logs):
        width, height = round(float(np.sqrt(area * np.exp(log)))), round(float(np.sqrt(area / np.exp(log))))
        if 0 < width <= of and 0 < height <= of:
            break
    else:
        height = width = of
    return height, width, *np.asarray(jax.random.randint(place_key, (2,), 0, of - np.array([height, width]) + 1))


def test_a_resized_crop_is_the_first_attempt_that_fits_and_stays_in_the_frame():
    plain, of = geometry.identity(8), 30
    grids = jax.jit(jax.vmap(lambda key: geometry.resized_crop(key, plain, of=of)))(KEYS)
    for i in range(10):
        height, width, top, left = slow_rectangle(KEYS[i], of)
        np.testing.assert_allclose(grids.rows[i, :, 0], [top + (j + 0.5) * height / 8 - 0.5 for j in range(8)], atol=1e-4)
        np.testing.assert_allclose(grids.columns[i, 0], [left + (j + 0.5) * width / 8 - 0.5 for j in range(8)], atol=1e-4)
    height, width = 8 * (grids.rows[:, 1, 0] - grids.rows[:, 0, 0]), 8 * (grids.columns[:, 0, 1] - grids.columns[:, 0, 0])
    share, aspect = height * width / of**2, width / height
    assert 0.18 < share.min() < 0.25 and 0.9 < share.max() <= 1.0001 and 0.7 < aspect.min() < 0.8 and 1.25 < aspect.max() < 1.42
    for line, extent in ((grids.rows[:, :, 0], height), (grids.columns[:, 0], width)):
        assert (line[:, 0] - extent / 16 >= -0.5 - 1e-3).all() and (line[:, -1] + extent / 16 <= of - 0.5 + 1e-3).all()


def test_a_flip_of_the_grid_is_one_of_the_picture_and_two_are_none():
    clip = jnp.asarray(CLIP)
    always, never = (partial(geometry.flip, KEYS[0], probability=p) for p in (1.0, 0.0))
    plain = geometry.identity(24)
    np.testing.assert_array_equal(geometry.sample(clip, always(plain)), dm_pix.flip_left_right(clip))
    np.testing.assert_array_equal(geometry.sample(clip, always(plain)), CLIP[:, :, ::-1])
    np.testing.assert_array_equal(always(always(plain)), plain)
    np.testing.assert_array_equal(never(plain), plain)
    flipped = jax.vmap(lambda key: geometry.flip(key, plain, probability=0.3))(KEYS).columns[:, 0, 0] > 0
    assert 0.2 < flipped.mean() < 0.4


def test_a_blur_is_scipys_with_the_drawn_deviation():
    blurred = jax.jit(jax.vmap(lambda key: colour.blur(key, CLIP, probability=1.0)))(KEYS[:4])
    for key, result in zip(KEYS, blurred):
        sigma = float(jax.random.uniform(jax.random.split(key)[1], (), minval=0.1, maxval=2.0))
        weights = np.exp(-np.arange(-1, 2) ** 2 / (2 * sigma**2))
        expected = CLIP
        for axis in (1, 2):
            expected = correlate1d(expected, weights / weights.sum(), axis=axis, mode="nearest")
        np.testing.assert_allclose(result, expected, atol=1e-5)
    np.testing.assert_array_equal(colour.blur(KEYS[0], jnp.asarray(CLIP), probability=0.0), CLIP)


def test_grey_has_the_luma_in_all_channels():
    grey, same = (jax.vmap(lambda key, p=p: colour.grey(key, jnp.asarray(CLIP), probability=p))(KEYS[:2]) for p in (1.0, 0.0))
    luma = 0.2989 * CLIP[..., 0] + 0.587 * CLIP[..., 1] + 0.114 * CLIP[..., 2]
    np.testing.assert_allclose(grey, np.broadcast_to(luma[..., None], grey.shape), atol=1e-5)
    np.testing.assert_array_equal(same, np.stack([CLIP] * 2))


def test_a_slower_clip_reads_the_nearest_frames_in_order():
    frames = jnp.arange(8)
    drawn = np.asarray(jax.vmap(lambda key: motion.slower(key, frames, most=0.5))(KEYS))
    for key, result in zip(KEYS[:20], drawn):
        speed_key, start_key = jax.random.split(key)
        slow = float(jax.random.uniform(speed_key, (), maxval=0.5))
        start = float(jax.random.uniform(start_key, ())) * 7 * slow
        np.testing.assert_array_equal(result, [round(start + (1 - slow) * t) for t in range(8)])
    steps = np.diff(drawn)
    assert steps.min() == 0 and steps.max() == 1 and drawn.min() == 0 and drawn.max() == 7
    assert 3 <= (drawn[:, -1] - drawn[:, 0]).min() <= 4 and drawn[:, 0].max() >= 3
    np.testing.assert_array_equal(motion.slower(KEYS[0], frames, most=0.0), frames)


def drawn_views(options):
    clip = jnp.asarray(CLIP * 255, jnp.uint8)
    return jax.jit(jax.vmap(lambda key: view(key, clip, jnp.array(True), KEYS[0], options=options)))


def test_everything_at_once_is_in_range_and_of_the_asked_size():
    result = drawn_views(ALL)(KEYS[:6])
    assert result.shape == (6, 4, 16, 16, 3) and result.dtype == jnp.float32
    assert np.isfinite(result).all() and result.min() >= 0 and result.max() <= 1
    grey = np.ptp(np.asarray(result), axis=-1).max((1, 2, 3)) < 1e-6
    assert 0 < grey.sum() < 6


def test_what_is_not_drawn_leaves_the_rest_as_it_was():
    """The new draws take keys of their own: at a probability that never comes true the views are those without."""
    never = OFF._replace(flip=1e-30, blur=1e-30, grey=1e-30, temporal_jitter=1e-6)
    np.testing.assert_allclose(drawn_views(never)(KEYS[:4]), drawn_views(OFF)(KEYS[:4]), atol=1e-6)
    key, others = KEYS[0], jax.random.split(KEYS[0], 4)
    data = [jax.random.key_data(k).tolist() for k in (*others, *(jax.random.fold_in(key, n) for n in range(4, 8)))]
    assert len(set(map(tuple, data))) == 8
