"""One training step of the adaptation, to be mapped over devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from acx_jax.contracts import Clips
from acx_jax.selfsup import views
from acx_jax.selfsup.memory import Queue, empty_queue, push
from acx_jax.selfsup.objectives import info_nce

Tree = Any
# (params, batch statistics, clips float [B, T, S, S, 3] in [0, 1]) -> (vectors of unit norm [B, D], new statistics)
Project = Callable[[Tree, Tree, jax.Array], tuple[jax.Array, Tree]]


class AdaptState(NamedTuple):
    """Everything that a step changes. The key encoder is the slow average of the trained one; its statistics are its own."""

    params: Tree
    statistics: Tree
    key_params: Tree
    key_statistics: Tree
    optimiser: Tree
    queue: Queue
    step: jax.Array


def initial_state(params: Tree, statistics: Tree, optimiser: optax.GradientTransformation, *, queue: int, dimension: int) -> AdaptState:
    """The state before the first step: the key encoder is a copy, the queue is empty."""
    zero = jnp.zeros((), jnp.int32)
    return AdaptState(params, statistics, params, statistics, optimiser.init(params), empty_queue(queue, dimension), zero)


def make_step(project: Project, optimiser: optax.GradientTransformation, *, size: int, temperature: float, key_momentum: float,
              axis: str) -> Callable[[AdaptState, Clips, jax.Array], tuple[AdaptState, dict[str, jax.Array]]]:
    """step(state, this device's clips, key) -> (state, metrics), inside a map over the axis `axis`.

    Views are drawn by the sample's place in the whole batch, and keys are gathered from all devices into the queue, so
    that the number of devices changes nothing.
    """

    def loss_of(params: Tree, state: AdaptState, both: jax.Array, keys: jax.Array, clips: Clips):
        # A scan, so that anchor and negative pass one after the other through one compiled encoder.
        statistics, (query, far) = jax.lax.scan(lambda carry, x: project(params, carry, x)[::-1], state.statistics, both)
        loss, metrics = info_nce(query, keys, far, has_negative=clips.has_negative, video=clips.video, queue=state.queue,
                                 temperature=temperature)
        return loss, (statistics, metrics)

    def step(state: AdaptState, clips: Clips, key: jax.Array) -> tuple[AdaptState, dict[str, jax.Array]]:
        anchor, positive, negative = _draw_views(jax.random.fold_in(key, state.step), clips, size=size, axis=axis)
        both = jnp.stack([anchor, negative])
        keys, key_statistics = project(state.key_params, state.key_statistics, positive)
        keys = jax.lax.stop_gradient(keys)
        (loss, (statistics, metrics)), gradient = jax.value_and_grad(loss_of, has_aux=True)(
            state.params, state, both, keys, clips)
        gradient, metrics = jax.lax.pmean((gradient, {"loss": loss, **metrics}), axis)
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        key_params = optax.incremental_update(params, state.key_params, 1 - key_momentum)
        everywhere = jax.lax.all_gather((keys, clips.video), axis, tiled=True)
        metrics = metrics | {"gradient_norm": optax.tree.norm(gradient)}
        return AdaptState(params, statistics, key_params, key_statistics, optimiser_state, push(state.queue, *everywhere),
                          state.step + 1), metrics

    return step


def _draw_views(key: jax.Array, clips: Clips, *, size: int, axis: str) -> jax.Array:
    """Anchor, positive (the anchor's frames again) and negative views, float32 [3, B, T, size, size, 3] in [0, 1]."""
    batch = len(clips.video)
    place = jax.lax.axis_index(axis) * batch + jnp.arange(batch)
    keys = jax.vmap(lambda kind: jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, i), kind))(place))(jnp.arange(3))
    sources = jnp.concatenate([clips.anchor, clips.anchor, clips.negative])
    is_anchor = jnp.arange(3 * batch) < batch
    drawn = jax.vmap(lambda k, clip, warp: views.view(k, clip, warp, size=size))(keys.reshape(-1), sources, is_anchor)
    return drawn.reshape(3, batch, *drawn.shape[1:])
