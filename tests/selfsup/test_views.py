"""Colours against slow loops, and what a whole view holds."""

import colorsys
from functools import partial

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acx_jax.selfsup import colour
from acx_jax.selfsup.views import ViewOptions
from acx_jax.selfsup.views import view as view_of

pytestmark = pytest.mark.usefixtures("quick_compiler")
CLIP = np.random.default_rng(0).random((3, 4, 5, 3)).astype(np.float32)
BYTES = np.random.default_rng(1).integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)


def view(key, clip, warp, *, size: int, batch_seed: int = 0, **changes):
    options = ViewOptions(size, "random", "all", "sample")._replace(**changes)
    return view_of(key, clip, warp, jax.random.key(batch_seed), options=options)


def luma(pixel):
    return 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]


def slow_brightness(clip, factor):
    return factor * clip


def slow_contrast(clip, factor):
    means = [np.mean([luma(pixel) for pixel in frame.reshape(-1, 3)]) for frame in clip]
    return np.stack([factor * frame + (1 - factor) * mean for frame, mean in zip(clip, means)])


def slow_saturation(clip, factor):
    return np.array([factor * pixel + (1 - factor) * luma(pixel) for pixel in clip.reshape(-1, 3)]).reshape(clip.shape)


def slow_hue(clip, factor):
    def turn(pixel):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((hue + factor) % 1, saturation, value)

    return np.array([turn(pixel) for pixel in clip.reshape(-1, 3)]).reshape(clip.shape)


FAST = (colour.brightness, colour.contrast, colour.saturation, dm_pix.adjust_hue)
SLOW = (slow_brightness, slow_contrast, slow_saturation, slow_hue)


@pytest.mark.parametrize("factor", [-0.4, 0.5, 1.0, 1.3])
@pytest.mark.parametrize(("fast", "slow"), list(zip(FAST, SLOW)), ids=lambda f: f.__name__)
def test_colours_equal_a_loop_over_pixels(fast, slow, factor):
    np.testing.assert_allclose(fast(jnp.asarray(CLIP), factor), slow(CLIP, factor), atol=1e-5)


def test_grey_and_black_have_no_hue_to_turn():
    grey = jnp.full((1, 2, 2, 3), 0.5).at[0, 0, 0].set(0.0)
    np.testing.assert_allclose(dm_pix.adjust_hue(grey, 0.3), grey, atol=1e-6)


def test_jitter_applies_all_four_in_the_drawn_order():
    for seed in range(3):
        key = jax.random.key(seed)
        order_key, *keys = jax.random.split(key, 5)
        ranges = ((0.5, 1.5), (0.5, 1.5), (0.75, 1.25), (-0.5, 0.5))
        factors = [float(jax.random.uniform(k, (), minval=low, maxval=high)) for k, (low, high) in zip(keys, ranges)]
        expected = CLIP
        for which in np.asarray(jax.random.permutation(order_key, 4)):
            expected = np.clip(SLOW[which](expected, factors[which]), 0, 1)
        np.testing.assert_allclose(jitter(key, CLIP), expected, atol=1e-4)


jitter = jax.jit(colour.jitter)
draw = jax.jit(partial(view, size=14))


@pytest.mark.parametrize("warp", [False, True])
def test_a_view_is_in_range_and_of_the_asked_size(warp):
    for seed in range(5):
        result = draw(jax.random.key(seed), BYTES, warp)
        assert result.shape == (3, 14, 14, 3) and result.dtype == jnp.float32
        assert np.isfinite(result).all() and result.min() >= 0 and result.max() <= 1


@pytest.mark.parametrize("warp", [False, True])
def test_one_draw_serves_all_frames(warp):
    still = np.repeat(BYTES[:1], 3, axis=0)
    result = draw(jax.random.key(2), still, warp)
    np.testing.assert_array_equal(result, np.broadcast_to(result[:1], result.shape))


def test_the_key_decides_and_the_warp_bends_nothing_but_places():
    plain, again, other = (draw(jax.random.key(seed), BYTES, False) for seed in (0, 0, 1))
    np.testing.assert_array_equal(plain, again)
    assert not np.array_equal(plain, other)
    bent = draw(jax.random.key(0), BYTES, True)
    assert 0.05 < (np.asarray(bent) != plain).any((0, 3)).mean() < 1  # far from the centres every pixel is where it was


def test_vmap_gives_each_sample_its_own_draw():
    keys, warps = jax.random.split(jax.random.key(5), 4), jnp.array([True, False, True, False])
    together = jax.jit(jax.vmap(lambda key, warp: view(key, jnp.asarray(BYTES), warp, size=14)))(keys, warps)
    np.testing.assert_allclose(together, [draw(key, BYTES, warp) for key, warp in zip(keys, warps)], atol=1e-5)


def test_jit_equals_eager():
    np.testing.assert_allclose(view(jax.random.key(1), BYTES, jnp.array(True), size=14), draw(jax.random.key(1), BYTES, True), atol=1e-5)


def test_the_size_of_the_frame_leaves_nothing_to_crop():
    assert jax.jit(partial(view, size=20))(jax.random.key(0), BYTES, True).shape == (3, 20, 20, 3)
