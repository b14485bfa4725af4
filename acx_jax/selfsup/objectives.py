"""Contrastive losses as pure functions of similarities: what the objectives of `schemes` are made of."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from acx_jax.selfsup.memory import EMPTY, Queue

UNSET = -1.0  # the constant of `nce` before the first batch
NCE_EPS, TRIPLET_EPS = 1e-7, 1e-6


def similarities(query: jax.Array, key: jax.Array, negatives: jax.Array, queue: Queue) -> jax.Array:
    """[q.k, q.queue_1..K, q.n_1..M] of each sample, the published order. query, key: [B, D]; negatives: [M, B, D] -> [B, 1 + K + M]."""
    positive = jnp.sum(query * key, axis=-1, keepdims=True)
    return jnp.concatenate([positive, query @ queue.keys.T, jnp.einsum("bd,mbd->bm", query, negatives)], axis=-1)


def presence(video: jax.Array, has_negatives: jax.Array, queue: Queue, *, exclude_own: bool) -> jax.Array:
    """Which of `similarities` count, bool [B, 1 + K + M].

    Empty places of the queue do not. exclude_own: nor do entries of the sample's own video, which may show the same event.
    video: int32 [B]. has_negatives: bool [M, B].
    """
    filled = jnp.broadcast_to(queue.video != EMPTY, (len(video), len(queue.video)))
    if exclude_own:
        filled &= queue.video[None, :] != video[:, None]
    return jnp.concatenate([jnp.ones((len(video), 1), bool), filled, has_negatives.T], axis=-1)


def info_nce(similar: jax.Array, present: jax.Array, *, temperature: float) -> tuple[jax.Array, jax.Array]:
    """-log of the softmax share of the first column among those present, mean over the batch (van den Oord et al., 2018).

    similar: float32 [B, C], present: bool [B, C]. Returns the loss and the mean share of the positive.
    """
    share = jax.nn.log_softmax(jnp.where(present, similar / temperature, -jnp.inf), axis=-1)[:, 0]
    return -jnp.mean(share), jnp.mean(jnp.exp(share))


def nce_constant(similar: jax.Array, *, temperature: float, n_data: int) -> jax.Array:
    """Z of the first batch before its integer part is taken: mean(exp(similar / temperature)) n_data, a constant for gradients."""
    return jax.lax.stop_gradient(jnp.mean(jnp.exp(similar / temperature)) * n_data)


def nce(similar: jax.Array, present: jax.Array, constant: jax.Array, *, temperature: float, n_data: int) -> jax.Array:
    """Noise-contrastive estimation with a fixed constant, the published form (Gutmann and Hyvarinen, 2010; Wu et al., 2018).

    With o = exp(similar / temperature) / constant, m = C - 1 and c = m / n_data:
    -mean_b [log(o_0 / (o_0 + c + eps)) + sum_j log(c / (o_j + c + eps))], of the columns j that are present.
    """
    noise = (similar.shape[1] - 1) / n_data
    o = jnp.exp(similar / temperature) / constant
    of_data = jnp.log(o[:, 0] / (o[:, 0] + noise + NCE_EPS))
    of_noise = jnp.log(noise / (o[:, 1:] + noise + NCE_EPS))
    return -jnp.mean(of_data + jnp.sum(jnp.where(present[:, 1:], of_noise, 0.0), axis=-1))


def triplet(query: jax.Array, key: jax.Array, negative: jax.Array, has_negative: jax.Array, *, margin: float) -> jax.Array:
    """max(|q - k| - |q - n| + margin, 0), mean over those that have a negative. [B, D] each; 1e-6 is added to every difference."""
    def distance(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.sum((a - b + TRIPLET_EPS) ** 2, axis=-1))

    each = jnp.maximum(distance(query, key) - distance(query, negative) + margin, 0.0)
    return jnp.sum(each * has_negative) / jnp.maximum(jnp.sum(has_negative), 1)


def intra_inter_triplet(query: jax.Array, key: jax.Array, negative: jax.Array, has_negative: jax.Array, *, margin: float,
                        video: jax.Array | None = None) -> jax.Array:
    """`triplet` against another moment of the same video, plus against that of another: the negatives flipped along the batch.

    video: int32 [B]; where it is given, a flipped negative of the sample's own video does not count (published: it does).
    """
    others = has_negative[::-1] if video is None else has_negative[::-1] & (video != video[::-1])
    return (triplet(query, key, negative, has_negative, margin=margin)
            + triplet(query, key, negative[::-1], others, margin=margin))


def vicreg(one: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(invariance, variance, covariance), to be weighted and summed, of the vectors [N, D] of two views, N at least 2, not normalised.

    mean (z - z')^2; mean over dimensions of max(0, 1 - sqrt(var + 1e-4)), the mean over the views; and the squares of the covariances between
    dimensions over D, the sum over the views (Bardes et al., 2022, arXiv 2105.04906, eqs. 1 to 6, with the means that its weights are for).
    """
    views = jnp.stack([one, other])
    centred = views - views.mean(axis=1, keepdims=True)
    covariance = jnp.einsum("vnd,vne->vde", centred, centred) / (views.shape[1] - 1)
    variances = jnp.diagonal(covariance, axis1=1, axis2=2)
    outside = jnp.sum(covariance**2, axis=(1, 2)) - jnp.sum(variances**2, axis=1)
    spread = jnp.maximum(0.0, 1.0 - jnp.sqrt(variances + 1e-4))
    return jnp.mean((one - other) ** 2), jnp.mean(spread), jnp.sum(outside) / one.shape[1]
