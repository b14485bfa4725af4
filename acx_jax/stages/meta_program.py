"""The compiled outer steps of meta-training and what they are judged by, as a config wants them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from acx_jax import randomness
from acx_jax.contracts import Episodes
from acx_jax.fewshot import meta
from acx_jax.fewshot.episodes import class_labels
from acx_jax.fewshot.learner import Learner
from acx_jax.runtime import devices
from acx_jax.stages.learners import WAY

LAST_LAYERS = ("classifier", "out")  # that ANIL moves


def first_start(config: ConfigDict, learner: Learner) -> meta.Start:
    """What meta-training starts from: the learner's random params, and the step sizes of its inner loop."""
    params = jax.jit(learner.init)(randomness.stream(config.seed, "meta"))
    return meta.Start(params, rates(config, params))


def rates(config: ConfigDict, params: Any) -> Any:
    """The step sizes before any is learnt, a tree like `params`."""
    last_alone = config.meta.method == "anil"
    return meta.uniform_rates(params, config.meta.inner_rate,
                              moving=lambda path: not last_alone or any(name in path.split("/") for name in LAST_LAYERS))


def optimiser(config: ConfigDict) -> optax.GradientTransformation:
    """Of the outer steps."""
    return optax.chain(optax.clip_by_global_norm(10.0), optax.adam(config.meta.learning_rate))


def make_program(config: ConfigDict, learner: Learner, *, nodes: int) -> Callable:
    """(state, graphs, episodes, first step, steps) -> state and the losses [steps]: a scan of outer steps on every device.

    nodes: of the largest graph in the episodes.
    """
    own, loss = config.meta, meta.classification_loss(learner)
    gradient = meta.reptile_gradient(loss, steps=own.inner_steps) if own.method == "reptile" else meta.gradient_through(
        loss, steps=own.inner_steps, first_order=own.method == "fomaml")
    step = meta.make_step(gradient, optimiser(config), learn_rates=own.learn_rates, axis=devices.AXIS)

    def steps_of(state: Any, graphs: Any, support: jax.Array, query: jax.Array) -> tuple[Any, jax.Array]:
        labels = _labels(support, query)
        return jax.lax.scan(lambda state, drawn: step(state, meta.gather_tasks(graphs, *drawn, labels, nodes=nodes)), state, (support, query))

    mapped = devices.map_over_devices(steps_of)

    def program(state: meta.MetaState, graphs: Any, tasks: Episodes, first: int, steps: int) -> tuple[meta.MetaState, np.ndarray]:
        rows = slice(first * own.batch, (first + steps) * own.batch)
        drawn = [x[rows].reshape(steps, devices.count(), -1, x.shape[1]).swapaxes(0, 1) for x in (tasks.support, tasks.query)]
        state, losses = mapped(devices.replicate(state), graphs, *drawn)
        return devices.first(state), np.asarray(devices.first(losses))

    return program


def make_measure(config: ConfigDict, learner: Learner, *, nodes: int) -> Callable[..., tuple[float, float]]:
    """(start, graphs, episodes) -> mean loss and accuracy on the queries after the inner loop; nodes as in `make_program`."""
    loss = meta.classification_loss(learner)

    def one(start: meta.Start, task: meta.Task) -> tuple[jax.Array, jax.Array]:
        params = meta.inner_loop(loss, start, task.support, steps=config.meta.inner_steps)
        right = jnp.argmax(learner.logits(params, task.query.graphs), axis=-1) == task.query.labels
        return loss(params, task.query), jnp.mean(right)

    def of_share(start: meta.Start, graphs: Any, support: jax.Array, query: jax.Array) -> tuple[jax.Array, jax.Array]:
        tasks = meta.gather_tasks(graphs, support, query, _labels(support, query), nodes=nodes)
        return jax.tree.map(jnp.mean, jax.vmap(one, in_axes=(None, 0))(start, tasks))

    mapped = devices.map_over_devices(of_share)

    def measure(start: meta.Start, graphs: Any, episodes: Episodes) -> tuple[float, float]:
        values = mapped(devices.replicate(start), graphs, *devices.split((episodes.support, episodes.query)))
        return float(np.mean(values[0])), float(np.mean(values[1]))

    return measure


def _labels(support: jax.Array, query: jax.Array) -> tuple[jax.Array, jax.Array]:
    return tuple(jnp.asarray(class_labels(WAY, side.shape[-1] // WAY)) for side in (support, query))
