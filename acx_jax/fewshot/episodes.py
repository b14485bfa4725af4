"""Many episodes as one program: each is gathered by index, fitted and scored inside vmap, or one after the other on a CPU core."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from acx_jax.contracts import Support
from acx_jax.fewshot.learner import Learner
from acx_jax.fewshot.ragged import Ragged, gather

CPU_CHUNK, CPU_CHUNK_OF_VECTORS, HEAD_BYTES = 10, 100, 64 * 2**20


def class_labels(way: int, each: int | Sequence[int]) -> np.ndarray:
    """int32 [way * each]: the labels of class-major episode columns; each: columns of every class, or of one after the other."""
    return np.repeat(np.arange(way, dtype=np.int32), each)


def score_episodes(learner: Learner, *, way: int, nodes: int, together: int | None = None) -> Callable[..., jax.Array]:
    """(all segments, support [E, way * shot], query [E, way * query], keys [E]) -> logits [E, way * query, way].

    A pure function to be jitted or pmapped: a fresh learner is fitted in each episode, on graphs of `nodes` nodes. `together` episodes are fitted at once,
    all by default, the others after them: a CPU core is fastest with one, whose weights stay in its cache.
    """

    def episode(segments: Ragged, support: jax.Array, query: jax.Array, key: jax.Array) -> jax.Array:
        init_key, adapt_key = jax.random.split(key)
        labels = jnp.asarray(class_labels(way, support.shape[0] // way))
        known = Support(gather(segments, support, nodes=nodes), labels)
        params = learner.adapt(learner.init(init_key), known, adapt_key)
        return learner.logits(params, gather(segments, query, nodes=nodes))

    def episodes(segments: Ragged, support: jax.Array, query: jax.Array, keys: jax.Array) -> jax.Array:
        if together is None:
            return jax.vmap(episode, in_axes=(None, 0, 0, 0))(segments, support, query, keys)
        one = together == 1  # not a batch of one: sizes within an episode then decide what is computed
        return jax.lax.map(lambda drawn: episode(segments, *drawn), (support, query, keys), batch_size=None if one else together)

    return episodes


def fitting_chunk(memory: int | None, *, segments: int, nodes: int, features: int) -> int:
    """Episodes that fit into half of `memory` bytes at once, at least 1; 10 where the memory is not known, as of a CPU, or
    100 of segments of one vector, which are small work.

    An episode gathers `segments` graphs of `nodes` vectors of `features` float32, once more for their gradients; its head, the
    optimiser's state and the activations of a batch take less than `HEAD_BYTES`.
    """
    if memory is None:
        return CPU_CHUNK if nodes > 1 else CPU_CHUNK_OF_VECTORS
    return max(1, memory // 2 // (2 * 4 * segments * nodes * features + HEAD_BYTES))
