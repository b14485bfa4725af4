"""Meta-learning: a start from which a few gradient steps on a support set suffice, learnt by differentiating through them.

The inner loop is gradient descent on the whole support set, theta <- theta - alpha * grad; the outer one moves the start (and,
where asked, the step sizes alpha) so that what comes out of the inner loop does well on the queries of many episodes.

MAML and its first-order form: Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning" (ICML 2017). ANIL: Raghu et al., "Rapid
Learning or Feature Reuse?" (ICLR 2020). Reptile: Nichol, Achiam, Schulman, "On First-Order Meta-Learning Algorithms" (2018).
Step sizes learnt for each parameter: Li et al., "Meta-SGD" (2017).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from acx_jax.contracts import Support
from acx_jax.fewshot.learner import Learner, Params
from acx_jax.fewshot.ragged import Ragged, gather

Loss = Callable[[Params, Support], jax.Array]


class Start(NamedTuple):
    """What is meta-learnt: the params that the inner loop starts from and its step sizes, a tree like params."""

    params: Params
    rates: Params


class Task(NamedTuple):
    """An episode with its queries' labels, both sides as a `Support`."""

    support: Support
    query: Support


class MetaState(NamedTuple):
    """The start, the outer optimiser's state, and int32 steps done."""

    start: Start
    optimiser: Any
    step: jax.Array


def classification_loss(learner: Learner) -> Loss:
    """The mean cross-entropy of a learner's logits on labelled segments."""

    def loss(params: Params, known: Support) -> jax.Array:
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(learner.logits(params, known.graphs), known.labels))

    return loss


def uniform_rates(params: Params, rate: float, *, moving: Callable[[str], bool] = lambda path: True) -> Params:
    """Step sizes like params: `rate` where `moving` says so of the parameter's path ("params/classifier/kernel"), 0 elsewhere."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.full_like(x, rate if moving("/".join(str(k.key) for k in path)) else 0.0), params)


def inner_loop(loss: Loss, start: Start, support: Support, *, steps: int, first_order: bool = False) -> Params:
    """The params after `steps` steps of gradient descent on the whole support set.

    With `first_order`, the gradients count as constants when one differentiates through the loop.
    """

    def step(params: Params, _: None) -> tuple[Params, None]:
        gradient = jax.grad(loss)(params, support)
        gradient = jax.lax.stop_gradient(gradient) if first_order else gradient
        return jax.tree.map(lambda p, rate, g: p - rate * g, params, start.rates, gradient), None

    return jax.lax.scan(step, start.params, None, length=steps)[0]


def query_loss(loss: Loss, *, steps: int, first_order: bool) -> Callable[[Start, Task], jax.Array]:
    """The objective of MAML for one task: the loss on its queries after the inner loop on its support (Finn et al., eq. 1)."""
    return lambda start, task: loss(inner_loop(loss, start, task.support, steps=steps, first_order=first_order), task.query)


def gradient_through(loss: Loss, *, steps: int, first_order: bool) -> Callable[[Start, Task], tuple[jax.Array, Start]]:
    """(start, tasks [B]) -> the mean query loss and its gradient in the start and the step sizes."""
    one = query_loss(loss, steps=steps, first_order=first_order)
    return jax.value_and_grad(lambda start, tasks: jnp.mean(jax.vmap(one, in_axes=(None, 0))(start, tasks)))


def reptile_gradient(loss: Loss, *, steps: int) -> Callable[[Start, Task], tuple[jax.Array, Start]]:
    """(start, tasks [B]) -> the mean loss after the inner loop, and start - mean(end of the inner loop) in a gradient's place.

    The inner loop sees support and queries as one set (Nichol et al., algorithm 2); the step sizes stay as they are.
    """

    def one(start: Start, task: Task) -> tuple[jax.Array, Params]:
        everything = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), task.support, task.query)
        end = inner_loop(loss, start, everything, steps=steps)
        return loss(end, everything), end

    def of_tasks(start: Start, tasks: Task) -> tuple[jax.Array, Start]:
        losses, ends = jax.vmap(one, in_axes=(None, 0))(start, tasks)
        direction = jax.tree.map(lambda p, end: p - jnp.mean(end, axis=0), start.params, ends)
        return jnp.mean(losses), Start(direction, jax.tree.map(jnp.zeros_like, start.rates))

    return of_tasks


def make_step(
    gradient_of: Callable[[Start, Task], tuple[jax.Array, Start]],
    optimiser: optax.GradientTransformation,
    *,
    learn_rates: bool,
    axis: str | None = None,
) -> Callable[[MetaState, Task], tuple[MetaState, jax.Array]]:
    """A pure outer step: (state, tasks [B]) -> state and the loss before it; over devices, both are means over `axis`.

    Step sizes move only with `learn_rates`, and never where they are 0: what the inner loop leaves alone stays so.
    """

    def step(state: MetaState, tasks: Task) -> tuple[MetaState, jax.Array]:
        value, gradient = gradient_of(state.start, tasks)
        if axis is not None:
            value, gradient = jax.lax.pmean((value, gradient), axis)
        share = jax.tree.map(lambda rate: (rate != 0).astype(rate.dtype) * float(learn_rates), state.start.rates)
        gradient = gradient._replace(rates=jax.tree.map(jnp.multiply, gradient.rates, share))
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.start)
        return MetaState(optax.apply_updates(state.start, updates), optimiser_state, state.step + 1), value

    return step


def initial_state(start: Start, optimiser: optax.GradientTransformation) -> MetaState:
    """The state before the first outer step."""
    return MetaState(start, optimiser.init(start), jnp.zeros((), jnp.int32))


def from_start(learner: Learner, start: Start | None, *, steps: int, rates: Callable[[Params], Params] | None = None) -> Learner:
    """`learner` fitted by the inner loop: from `start`, or from its own random params at the step sizes `rates(params)`."""
    loss = classification_loss(learner)

    def adapt(params: Params, support: Support, key: jax.Array) -> Params:
        begin = Start(params, start.rates if start is not None else rates(params))
        return inner_loop(loss, begin, jax.tree.map(jnp.asarray, support), steps=steps)

    return Learner(learner.init if start is None else lambda key: start.params, adapt, learner.logits)


def gather_tasks(segments: Ragged, support: jax.Array, query: jax.Array, labels: tuple[jax.Array, jax.Array], *, nodes: int) -> Task:
    """Tasks by index, as graphs of `nodes` nodes: support int [B, S], query int [B, Q], the labels [S] and [Q] of every task."""
    def side(picked: jax.Array, own: jax.Array) -> Support:
        return Support(gather(segments, picked, nodes=nodes), jnp.broadcast_to(own, picked.shape))

    return Task(side(support, labels[0]), side(query, labels[1]))
