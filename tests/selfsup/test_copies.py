"""Augmented copies against Pillow, and what they share."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from acx_jax.selfsup import colour, copies

pytestmark = pytest.mark.usefixtures("quick_compiler")
SIDE, FRAMES, LARGEST = 24, 2, (36, 56)
SIZES = ((36, 56), (36, 40), (32, 30))  # of frames within LARGEST: wide, nearly square, and padded on both sides
KEYS = jax.random.split(jax.random.key(0), 40)
make, turn = jax.jit(partial(copies.augmented, side=SIDE)), jax.jit(copies.rotated)
coloured = jax.jit(partial(colour.jitter, ranges=((0.8, 1.2), (0.8, 1.2), (0.8, 1.2), (-0.2, 0.2))))


def clip_of(size, frames: int = FRAMES, seed: int = 0) -> np.ndarray:
    """A smooth picture that moves, black below and right of `size`."""
    rows, columns, time = np.meshgrid(*map(np.arange, (*size, frames)), indexing="ij")
    phases = np.random.default_rng(seed).uniform(0, 6, 3)
    waves = [np.sin(rows / 5 + phase) + np.cos(columns / (4 + i) + time / 2 + phase) for i, phase in enumerate(phases)]
    clip = np.zeros((frames, *LARGEST, 3), np.uint8)
    clip[:, :size[0], :size[1]] = (127.5 + 60 * np.stack(waves, -1)).transpose(2, 0, 1, 3).round()
    return clip


def slow_rectangle(key, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width as torchvision's loop has them."""
    area_key, aspect_key, place_key = jax.random.split(key, 3)
    areas, logs = jax.random.uniform(area_key, (10,), minval=0.5, maxval=1.0), jax.random.uniform(aspect_key, (10,), minval=np.log(3 / 4), maxval=np.log(4 / 3))
    for area, log in zip(np.asarray(areas) * height * width, np.asarray(logs)):
        w, h = round(float(np.sqrt(area * np.exp(log)))), round(float(np.sqrt(area / np.exp(log))))
        if 0 < w <= width and 0 < h <= height:
            top, left = np.asarray(jax.random.randint(place_key, (2,), 0, jnp.array([height - h + 1, width - w + 1])))
            return int(top), int(left), h, w
    h, w = (height, round(height * 4 / 3)) if width / height > 4 / 3 else (round(width / (3 / 4)), width) if width / height < 3 / 4 else (height, width)
    return (height - h) // 2, (width - w) // 2, h, w


def slow_copy(key, clip: np.ndarray, size) -> np.ndarray:
    """Pillow's turn, crop and resize, frame by frame."""
    turn_key, degrees_key, crop_key, flip_key, whether_key, colour_key = jax.random.split(key, 6)
    degrees = int(jax.random.randint(degrees_key, (), -5, 5)) * bool(jax.random.bernoulli(turn_key))
    turned = [Image.fromarray(frame[:size[0], :size[1]]).rotate(degrees, expand=True) for frame in clip]
    top, left, height, width = slow_rectangle(crop_key, turned[0].height, turned[0].width)
    cut = [frame.crop((left, top, left + width, top + height)).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for frame in turned]
    picture = np.stack([np.asarray(frame, np.float32) for frame in cut]) / 255
    picture = picture[:, :, ::-1] if jax.random.bernoulli(flip_key) else picture
    return np.asarray(coloured(colour_key, picture)) if jax.random.bernoulli(whether_key) else picture


@pytest.mark.parametrize("size", SIZES[::2])
def test_a_copy_is_pillows(size):
    clip = clip_of(size)
    for key in KEYS[:8]:
        made, expected = np.asarray(make(key, clip, jnp.array(size))), slow_copy(key, clip, size)
        assert made.shape == (FRAMES, SIDE, SIDE, 3) and made.dtype == np.float32 and made.min() >= 0 and made.max() <= 1
        away = np.abs(made - expected)
        assert np.median(away) < 0.004 and (away > 0.03).mean() < 0.02, (away.mean(), away.max())  # Pillow rounds, and turns in fixed point


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("degrees", range(*copies.DEGREES))
def test_a_turn_takes_pillows_canvas_and_pixels(size, degrees):
    clip = clip_of(size)
    canvas, used = turn(clip, jnp.array(size), degrees)
    expected = np.asarray(Image.fromarray(clip[0, :size[0], :size[1]]).rotate(degrees, expand=True))
    assert tuple(used) == expected.shape[:2]
    assert (np.asarray(canvas[0, :used[0], :used[1]]) == expected).all(axis=-1).mean() > 0.995
    assert canvas.shape == (FRAMES, 43, 62, 3) and not canvas[:, used[0]:].any() and not canvas[:, :, used[1]:].any()


@pytest.mark.parametrize("box", [(0, 0, 36, 56), (3, 5, 20, 31), (10, 2, 24, 24), (1, 1, 9, 12)])
def test_a_resize_is_pillows_larger_or_smaller(box):
    top, left, height, width = box
    clip = clip_of(SIZES[0])
    made = copies.resized(clip / np.float32(255), jnp.array(box[:2]), jnp.array(box[2:]), side=SIDE)
    expected = Image.fromarray(clip[1]).crop((left, top, left + width, top + height)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(255 * made[1], np.asarray(expected), atol=1.1)


def test_one_draw_serves_all_frames_and_all_clips_of_a_key_under_vmap():
    still = np.repeat(clip_of(SIZES[1])[:1], FRAMES, axis=0)
    keys, sizes = KEYS[jnp.array([3, 3, 4])], jnp.array([SIZES[1]] * 3)
    made = jax.jit(jax.vmap(partial(copies.augmented, side=SIDE)))(keys, jnp.array([still] * 3), sizes)
    np.testing.assert_array_equal(made[0], np.broadcast_to(made[0, :1], made[0].shape))
    np.testing.assert_array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    np.testing.assert_allclose(made[2], make(KEYS[4], still, sizes[2]), atol=1e-5)


def test_draws_are_as_often_and_as_wide_as_published():
    """A picture whose red rises with its columns, green with its rows: what the copies show tells how they were made."""
    size = (36, 44)
    clip = np.zeros((1, *LARGEST, 3), np.uint8)
    clip[0, :size[0], :size[1]] = np.stack([*np.meshgrid(100 + np.arange(44), 100 + np.arange(36)), np.full(size, 120)], -1)
    many = jax.random.split(jax.random.key(1), 400)
    made = 255 * np.asarray(jax.jit(jax.vmap(lambda key: copies.augmented(key, jnp.asarray(clip), jnp.array(size), side=SIDE)))(many))[:, 0]
    middle = made[:, SIDE // 4:-SIDE // 4, SIDE // 4:-SIDE // 4]
    plain = np.abs(middle[..., 2] - 120).max(axis=(1, 2)) < 0.5
    across, down = np.diff(middle[plain][..., 0], axis=2).mean(axis=(1, 2)), np.diff(middle[plain][..., 1], axis=1).mean(axis=(1, 2))
    tilted = np.ptp(middle[plain][..., 1], axis=2).max(axis=1) > 0.05
    assert 0.4 < plain.mean() < 0.6 and 0.37 < (across < 0).mean() < 0.63 and 0.2 < tilted.mean() < 0.45  # the smallest angles move no pixel of the middle
    area = np.abs(across * down * SIDE**2 / (size[0] * size[1]))[~tilted]
    assert 0.45 < area.min() < 0.6 and 0.85 < area.max() < 1.1  # a turn makes the canvas larger
