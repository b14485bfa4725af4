"""Contrastive objectives as pure functions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from acx_jax.selfsup.memory import EMPTY, Queue


def info_nce(
    query: jax.Array, key: jax.Array, negative: jax.Array, *, has_negative: jax.Array, video: jax.Array, queue: Queue,
    temperature: float,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """-log of the softmax share of the positive among [q.k, q.queue, q.n] / temperature, mean over the batch.

    van den Oord et al. (2018), with the queue of He et al., MoCo (2020), and another moment of the same video as a hard
    negative (arXiv 2112.06320). Queue entries of the sample's own video are no negatives: they may show the same event.

    query, key, negative: float32 [B, D] of unit norm. has_negative: bool [B]. video: int32 [B]. Returns the loss and metrics.
    """
    from_queue = query @ queue.keys.T
    counts = (queue.video[None, :] != EMPTY) & (queue.video[None, :] != video[:, None])
    positive = jnp.sum(query * key, axis=-1, keepdims=True)
    hard = jnp.sum(query * negative, axis=-1, keepdims=True)
    logits = jnp.concatenate([positive, from_queue, hard], axis=-1) / temperature
    present = jnp.concatenate([jnp.ones_like(positive, bool), counts, has_negative[:, None]], axis=-1)
    share = jax.nn.log_softmax(jnp.where(present, logits, -jnp.inf), axis=-1)[:, 0]
    metrics = {"positive_probability": jnp.mean(jnp.exp(share)), "positive_similarity": jnp.mean(positive),
               "negative_similarity": jnp.sum(hard[:, 0] * has_negative) / jnp.maximum(jnp.sum(has_negative), 1)}
    return -jnp.mean(share), metrics
