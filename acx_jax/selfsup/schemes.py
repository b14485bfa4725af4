"""Objectives of the adaptation: which views go through which encoder, and the loss of what comes out, with explicit state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from acx_jax.selfsup import objectives
from acx_jax.selfsup.memory import Queue

ANCHOR, POSITIVE, NEGATIVE, BROKEN = "anchor", "positive", "negative", "broken"
INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0  # weights of VICReg's parts, those of its paper
Metrics = dict[str, jax.Array]


class Embedded(NamedTuple):
    """A batch after the encoders.

    Attributes:
      trained: vectors [B, D] of the views that the trained encoder saw, by name; of norm 1 where the scheme says `unit`.
      keys: those of the positive by the key encoder, or the trained one where that saw it; no way for gradients.
      has_negative: bool [B], whether there is another moment of the video.
      video: int32 [B].
    """

    trained: Mapping[str, jax.Array]
    keys: jax.Array
    has_negative: jax.Array
    video: jax.Array


class Scheme(NamedTuple):
    """An objective.

    Attributes:
      trained: views that the trained encoder sees, one after the other; the first is the anchor. With the positive among them there is
        no key encoder.
      warp: whether the anchor's scene is bent.
      broken: how the motion of the view BROKEN is broken, one of `motion.BREAKS` or "any".
      loss: loss(embedded, queue, constant, axis) -> (loss, (constant, metrics)), inside a map over the axis `axis`.
      unit: whether the loss is one of vectors of norm 1.
    """

    trained: tuple[str, ...]
    warp: bool
    broken: str
    loss: Callable[[Embedded, Queue, jax.Array, str], tuple[jax.Array, tuple[jax.Array, Metrics]]]
    unit: bool = True


def contrastive(*, negatives: tuple[str, ...], warp: bool, broken: str, loss: str, temperature: float, n_data: int,
                exclude_own: bool) -> Scheme:
    """The positive among the queue's keys and the given negatives (NEGATIVE, BROKEN) of the sample's own video.

    DSM (arXiv 2112.06320) with them and a bent anchor; MoCo (He et al., 2020) with none. loss: "info_nce", or "nce" with its constant
    fixed at the first batch, of all devices, to a whole number; n_data as in `objectives.nce`.
    """
    def value(embedded: Embedded, queue: Queue, constant: jax.Array, axis: str) -> tuple[jax.Array, tuple[jax.Array, Metrics]]:
        query, has = embedded.trained[ANCHOR], {NEGATIVE: embedded.has_negative, BROKEN: jnp.ones_like(embedded.has_negative)}
        vectors = jnp.stack([embedded.trained[name] for name in negatives]) if negatives else jnp.zeros((0, *query.shape))
        counts = jnp.stack([has[name] for name in negatives]) if negatives else jnp.zeros((0, len(query)), bool)
        similar = objectives.similarities(query, embedded.keys, vectors, queue)
        present = objectives.presence(embedded.video, counts, queue, exclude_own=exclude_own)
        result, share = objectives.info_nce(similar, present, temperature=temperature)
        if loss == "nce":
            first = jax.lax.pmean(objectives.nce_constant(similar, temperature=temperature, n_data=n_data), axis)
            constant = jnp.where(constant == objectives.UNSET, jnp.trunc(first), constant)
            result = objectives.nce(similar, present, constant, temperature=temperature, n_data=n_data)
        return result, (constant, {"positive_probability": share} | _similarities(embedded))

    return Scheme((ANCHOR, *negatives), warp, broken, value)


def triplets(*, margin: float, exclude_own: bool) -> Scheme:
    """The published triplet objective over the batch of all devices: intra, another moment of the video, and inter, that of another sample.

    exclude_own: that other sample must be of another video.
    """
    def value(embedded: Embedded, queue: Queue, constant: jax.Array, axis: str) -> tuple[jax.Array, tuple[jax.Array, Metrics]]:
        del queue
        *vectors, has_negative, video = jax.lax.all_gather(
            (embedded.trained[ANCHOR], embedded.keys, embedded.trained[NEGATIVE], embedded.has_negative, embedded.video), axis, tiled=True)
        loss = objectives.intra_inter_triplet(*vectors, has_negative, margin=margin, video=video if exclude_own else None)
        return loss, (constant, _similarities(embedded))

    return Scheme((ANCHOR, NEGATIVE), True, "any", value)


def vicreg() -> Scheme:
    """VICReg (Bardes et al., 2022): a bent anchor and the positive agree, and no dimension collapses; no negatives, queue or key encoder."""
    def value(embedded: Embedded, queue: Queue, constant: jax.Array, axis: str) -> tuple[jax.Array, tuple[jax.Array, Metrics]]:
        del queue
        everywhere = jax.lax.all_gather((embedded.trained[ANCHOR], embedded.trained[POSITIVE]), axis, tiled=True)
        parts = objectives.vicreg(*everywhere)
        loss = sum(weight * part for weight, part in zip((INVARIANCE, VARIANCE, COVARIANCE), parts, strict=True))
        return loss, (constant, dict(zip(("invariance", "variance", "covariance"), parts, strict=True)))

    return Scheme((ANCHOR, POSITIVE), True, "any", value, unit=False)


def _similarities(embedded: Embedded) -> Metrics:
    """Mean similarities of the anchors to their positives, and to each kind of negative where there is one."""
    query, has = embedded.trained[ANCHOR], embedded.has_negative
    found = {"positive_similarity": jnp.mean(jnp.sum(query * embedded.keys, axis=-1))}
    if NEGATIVE in embedded.trained:
        hard = jnp.sum(query * embedded.trained[NEGATIVE], axis=-1)
        found["negative_similarity"] = jnp.sum(hard * has) / jnp.maximum(jnp.sum(has), 1)
    if BROKEN in embedded.trained:
        found["broken_similarity"] = jnp.mean(jnp.sum(query * embedded.trained[BROKEN], axis=-1))
    return found
