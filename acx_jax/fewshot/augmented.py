"""Support sets with augmented sequences: copies of segments are further segments, so that a learner sees nothing but more of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from acx_jax.contracts import ContextFeatures, Episodes


def with_copies(plain: ContextFeatures, copies: Sequence[ContextFeatures]) -> ContextFeatures:
    """The features of S segments and, behind them, of their copies: copy c, from 0, of segment s is segment S (c + 1) + s.

    Raises ValueError when a copy is of another number of segments or dimension.
    """
    every = [plain, *copies]
    if len({(len(one.offsets), one.vectors.shape[1]) for one in every}) > 1:
        raise ValueError("copies of another number of segments, or of another dimension, than the plain features")
    starts = np.cumsum([0, *(len(one.vectors) for one in every[:-1])])
    offsets = [one.offsets[1:] + start for one, start in zip(every, starts)]
    return ContextFeatures(np.concatenate([one.vectors for one in every]), np.concatenate([[0], *offsets]).astype(np.int64))


def augmented_support(key: jax.Array, episodes: Episodes, *, segments: int, held: int, used: int) -> np.ndarray:
    """The support of each episode with copies of its segments, behind each its own: int32 [E, way * shot * (1 + used)], class-major.

    segments: S, as `with_copies` counts. held: copies of each segment that there are. used: how many of them, none twice, join; they follow
    from the key, the episode's number and the segment alone. Raises ValueError when more are asked for than there are.
    """
    if used > held:
        raise ValueError(f"{used} copies of a segment are asked for, {held} are there")
    drawn = _drawn(key, jnp.asarray(episodes.support), segments=segments, held=held, used=used)
    return np.asarray(drawn).reshape(len(episodes.support), -1)


@partial(jax.jit, static_argnames=("segments", "held", "used"))
def _drawn(key: jax.Array, support: jax.Array, *, segments: int, held: int, used: int) -> jax.Array:
    """int32 [E, way * shot, 1 + used]."""

    def of_segment(key: jax.Array, segment: jax.Array) -> jax.Array:
        order = jax.random.permutation(jax.random.fold_in(key, segment), held)
        return jnp.concatenate([segment[None], segment + segments * (1 + order[:used].astype(segment.dtype))])

    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(support)))
    return jax.vmap(lambda key, row: jax.vmap(of_segment, (None, 0))(key, row))(keys, support)
