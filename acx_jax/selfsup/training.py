"""One training step of the adaptation, to be mapped over devices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from acx_jax.contracts import Clips
from acx_jax.selfsup import measures, motion, views
from acx_jax.selfsup.memory import Queue, push
from acx_jax.selfsup.objectives import UNSET
from acx_jax.selfsup.schemes import ANCHOR, BROKEN, NEGATIVE, POSITIVE, Embedded, Scheme

Tree = Any
# (params, batch statistics, clips float [B, T, S, S, 3] in [0, 1]) -> (vectors [B, D], new statistics)
Project = Callable[[Tree, Tree, jax.Array], tuple[jax.Array, Tree]]


class AdaptState(NamedTuple):
    """Everything that a step changes. The key encoder is the slow average of the trained one; its statistics are its own."""

    params: Tree
    statistics: Tree
    key_params: Tree
    key_statistics: Tree
    optimiser: Tree
    queue: Queue
    constant: jax.Array  # of the published loss, once a first batch has fixed it
    step: jax.Array


def initial_state(params: Tree, statistics: Tree, optimiser: optax.GradientTransformation, queue: Queue) -> AdaptState:
    """The state before the first step: the key encoder is a copy."""
    zero, unset = jnp.zeros((), jnp.int32), jnp.full((), UNSET, jnp.float32)
    return AdaptState(params, statistics, params, statistics, optimiser.init(params), queue, unset, zero)


def make_step(project: Project, optimiser: optax.GradientTransformation, scheme: Scheme, *, options: views.ViewOptions, key_momentum: float,
              axis: str, remat: bool = False) -> Callable[[AdaptState, Clips, jax.Array], tuple[AdaptState, dict[str, jax.Array]]]:
    """step(state, this device's clips, key) -> (state, metrics), inside a map over the axis `axis`.

    Views are drawn by the sample's place in the whole batch, and keys are gathered from all devices into the queue, so
    that the number of devices changes nothing. With `remat` the encoder's activations are computed anew in the backward pass, one
    view at a time, instead of being kept: less memory for a forward pass more (Chen et al., 2016).
    """
    encode = jax.checkpoint(project) if remat else project

    def loss_of(params: Tree, state: AdaptState, trained: jax.Array, keys: jax.Array | None, clips: Clips):
        # A scan, so that anchor and negatives pass one after the other through one compiled encoder.
        statistics, vectors = jax.lax.scan(lambda carry, x: encode(params, carry, x)[::-1], state.statistics, trained)
        of_view = dict(zip(scheme.trained, vectors, strict=True))
        keys = jax.lax.stop_gradient(of_view[POSITIVE]) if keys is None else keys
        embedded = Embedded(of_view, keys, clips.has_negative, clips.video)
        loss, (constant, metrics) = scheme.loss(embedded, state.queue, state.constant, axis)
        return loss, (statistics, constant, keys, metrics | _spread(embedded, axis, unit=scheme.unit))

    def step(state: AdaptState, clips: Clips, key: jax.Array) -> tuple[AdaptState, dict[str, jax.Array]]:
        drawn = _draw_views(jax.random.fold_in(key, state.step), clips, scheme, options=options, axis=axis)
        keys, key_statistics = None, None
        if POSITIVE not in scheme.trained:
            keys, key_statistics = jax.lax.stop_gradient(project(state.key_params, state.key_statistics, drawn[-1]))
        (loss, (statistics, constant, keys, metrics)), gradient = jax.value_and_grad(loss_of, has_aux=True)(
            state.params, state, drawn[:len(scheme.trained)], keys, clips)
        gradient, metrics = jax.lax.pmean((gradient, {"loss": loss, **metrics}), axis)
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        key_params = optax.incremental_update(params, state.key_params, 1 - key_momentum)
        everywhere = jax.lax.all_gather((keys, clips.video), axis, tiled=True)
        metrics = metrics | {"gradient_norm": optax.tree.norm(gradient)}
        return AdaptState(params, statistics, key_params, statistics if key_statistics is None else key_statistics, optimiser_state,
                          push(state.queue, *everywhere), constant, state.step + 1), metrics

    return step


def _spread(embedded: Embedded, axis: str, *, unit: bool) -> dict[str, jax.Array]:
    """Alignment of the anchors and their keys, and uniformity of the anchors of all devices, all of them brought to norm 1."""
    anchors, keys = (x if unit else measures.to_unit(x) for x in (jax.lax.stop_gradient(embedded.trained[ANCHOR]), embedded.keys))
    everywhere = jax.lax.all_gather(anchors, axis, tiled=True)
    return {"alignment": measures.alignment(anchors, keys), "uniformity": measures.uniformity(everywhere)}


_KINDS = (ANCHOR, POSITIVE, NEGATIVE, BROKEN)  # a kind's place here is part of its views' keys


def _draw_views(key: jax.Array, clips: Clips, scheme: Scheme, *, options: views.ViewOptions, axis: str) -> jax.Array:
    """The views that the trained encoder sees, then the positive (the anchor's frames again) if that is none of them: float32 [N, B, T, size, size, 3]."""
    batch, kinds = len(clips.video), scheme.trained + ((POSITIVE,) if POSITIVE not in scheme.trained else ())
    place = jax.lax.axis_index(axis) * batch + jnp.arange(batch)
    keys = jax.vmap(lambda kind: jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, i), kind))(place))(
        jnp.array([_KINDS.index(kind) for kind in kinds]))
    sources = {ANCHOR: clips.anchor, POSITIVE: clips.anchor, NEGATIVE: clips.negative}
    if BROKEN in kinds:
        breaking = jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, i), len(_KINDS)))(place)
        sources[BROKEN] = jax.vmap(partial(motion.broken, kind=scheme.broken))(breaking, clips.anchor, clips.negative, clips.has_negative)
    bent = jnp.repeat(jnp.array([scheme.warp and kind == ANCHOR for kind in kinds]), batch)
    drawn = jax.vmap(lambda k, clip, warp: views.view(k, clip, warp, key, options=options))(
        keys.reshape(-1), jnp.concatenate([sources[kind] for kind in kinds]), bent)
    return drawn.reshape(len(kinds), batch, *drawn.shape[1:])
