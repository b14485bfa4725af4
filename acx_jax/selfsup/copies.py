"""Augmented copies of a segment, as published: turned, cropped, flipped and coloured by one draw for all frames of all its clips."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from acx_jax.selfsup import colour, geometry

DEGREES = (-5, 5)  # of a turn: whole numbers, the second left out
AREAS = (0.5, 1.0)
COLOURS: colour.Ranges = ((0.8, 1.2), (0.8, 1.2), (0.8, 1.2), (-0.2, 0.2))
PROBABILITY = 0.5  # of the turn, of the flip, and of the colours


def augmented(key: jax.Array, clip: jax.Array, frame: jax.Array, *, side: int) -> jax.Array:
    """A clip as the draw of `key` makes it; clips of one segment get one key.

    clip: uint8 [T, H, W, 3], black below and right of its frame. frame: int32 [2], height and width of what is not padding. Returns float32
    [T, side, side, 3] in [0, 1].
    """
    turn_key, degrees_key, crop_key, flip_key, whether_key, colour_key = jax.random.split(key, 6)
    turned, degrees = jax.random.bernoulli(turn_key, PROBABILITY), jax.random.randint(degrees_key, (), *DEGREES)
    canvas, size = rotated(clip, frame, jnp.where(turned, degrees, 0))
    picture = resized(canvas.astype(jnp.float32) / 255, *geometry.rectangle(crop_key, size, areas=AREAS), side=side)
    picture = jnp.where(jax.random.bernoulli(flip_key, PROBABILITY), picture[:, :, ::-1], picture)
    coloured = colour.jitter(colour_key, picture, ranges=COLOURS)
    return jnp.where(jax.random.bernoulli(whether_key, PROBABILITY), coloured, picture)


def rotated(clip: jax.Array, frame: jax.Array, degrees: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Turned counter-clockwise about the frame's middle on a canvas that holds all of it, nearest pixels, black corners, as Pillow's `rotate`.

    clip, frame: as of `augmented`. degrees: within DEGREES. Returns the canvas [T, H', W', 3], of one size for all draws, and how much of it
    from the first row and column is in use, int32 [2].
    """
    angle = jnp.deg2rad(degrees)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    reach = (cosine * frame + jnp.abs(sine) * frame[::-1]) / 2
    size = (jnp.ceil(frame / 2 + reach) - jnp.floor(frame / 2 - reach)).astype(int)
    rows, columns = jnp.meshgrid(*(jnp.arange(most) + 0.5 for most in _largest_canvas(*clip.shape[1:3])), indexing="ij")
    rows, columns = rows - size[0] / 2, columns - size[1] / 2
    grid = geometry.Grid(cosine * rows + sine * columns + frame[0] / 2 - 0.5, cosine * columns - sine * rows + frame[1] / 2 - 0.5)
    return geometry.sample(clip, grid), size


def _largest_canvas(height: int, width: int) -> tuple[int, int]:
    sine = math.sin(math.radians(max(map(abs, DEGREES))))
    return math.ceil(height + width * sine) + 2, math.ceil(width + height * sine) + 2


def resized(clip: jax.Array, first: jax.Array, sides: jax.Array, *, side: int) -> jax.Array:
    """A rectangle of the frames in `side` x `side` pixels, bilinear; where it gets smaller each pixel is a mean, as Pillow has it.

    clip: float [T, H, W, 3]. first, sides: int [2], as `geometry.rectangle` gives them. Returns [T, side, side, 3].
    """
    rows, columns = (_weights(start, length, most, side) for start, length, most in zip(first, sides, clip.shape[1:3]))
    return jnp.einsum("rh,thwc,sw->trsc", rows, clip, columns, precision="highest")


def _weights(start: jax.Array, length: jax.Array, most: int, side: int) -> jax.Array:
    """[side, most]: what each pixel of a line gives to each of `side` ones that are made of its pixels start .. start + length - 1."""
    scale = length / side
    centres = start + (jnp.arange(side) + 0.5) * scale
    pixels = jnp.arange(most)
    weights = jnp.maximum(0, 1 - jnp.abs(pixels + 0.5 - centres[:, None]) / jnp.maximum(scale, 1))
    weights = jnp.where((pixels >= start) & (pixels < start + length), weights, 0)
    return weights / weights.sum(axis=1, keepdims=True)
