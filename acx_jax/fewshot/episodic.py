"""End-to-end episodic training of an encoder on source classes: a head that is solved on the support's vectors, judged on the queries.

With prototypes: Snell, Swersky, Zemel, "Prototypical Networks" (2017); ridge regression and R2D2: Bertinetto et al. (2019); the
support vector machine, and a learnt scale of the logits, which any head may have: Lee et al., "MetaOptNet" (CVPR 2019). The
spectral penalty: Liu et al., "Batch Spectral Regularization" (2020).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from acx_jax.contracts import ClassEpisodes, Graphs, Support
from acx_jax.fewshot.episodes import class_labels
from acx_jax.fewshot.gradient_heads import dampened_momentum
from acx_jax.fewshot.learner import Learner
from acx_jax.selfsup import geometry

Tree = Any
# (encoder's params, batch statistics, uint8 clips [B, T, S, S, 3]) -> (vectors [B, P], new statistics)
Embed = Callable[[Tree, Tree, jax.Array], tuple[jax.Array, Tree]]
SCALES = (1.0, 0.875, 0.75, 0.66)  # of a training crop, as shares of the frame's side (published)
MOMENTUM = DAMPENING = 0.9  # published


class EncoderState(NamedTuple):
    """Everything that a step changes. params: {"encoder": ..., "log_scale": []}, the latter of the logits."""

    params: Tree
    statistics: Tree
    optimiser: Tree
    step: jax.Array


def training_view(key: jax.Array, clip: jax.Array, *, size: int) -> jax.Array:
    """A random square of one of SCALES, flipped half of the time, one draw for all frames: uint8 [T, S, S, 3] -> [T, size, size, 3]."""
    scale_key, place_key, flip_key = jax.random.split(key, 3)
    side = clip.shape[1] * jax.random.choice(scale_key, jnp.asarray(SCALES))
    top, left = jax.random.uniform(place_key, (2,)) * (clip.shape[1] - side)
    along = (jnp.arange(size) + 0.5) * side / size - 0.5
    columns = left + jnp.where(jax.random.bernoulli(flip_key), along[::-1], along)
    return geometry.sample(clip, geometry.Grid(*jnp.meshgrid(top + along, columns, indexing="ij")))


def central_view(clips: jax.Array, *, size: int) -> jax.Array:
    """The central square, as context features are made of it: uint8 [..., S, S, 3] -> [..., size, size, 3]."""
    first = (clips.shape[-2] - size) // 2
    return clips[..., first:first + size, first:first + size, :]


def episode_logits(head: Learner, support: jax.Array, query: jax.Array, *, way: int) -> jax.Array:
    """Scores [Q, way] of query vectors [Q, P] by a head that is solved on support vectors [way * shot, P], class-major."""
    key = jax.random.key(0)  # such heads draw nothing
    known = Support(_of_one_node(support), jnp.asarray(class_labels(way, len(support) // way)))
    return head.logits(head.adapt(head.init(key), known, key), _of_one_node(query))


def _of_one_node(vectors: jax.Array) -> Graphs:
    return Graphs(vectors[:, None], jnp.ones((len(vectors), 1), bool))


def episode_losses(head: Learner, vectors: jax.Array, scale: jax.Array, *, way: int, support: int, smoothing: float,
                   spectral: float) -> tuple[jax.Array, jax.Array]:
    """The loss [E] and accuracy [E] of each episode. vectors: [E, support + queries, P]. scale: [], of the logits.

    The loss is the cross-entropy of the queries, with `smoothing` of each label spread over all classes, plus `spectral` times
    the sum of the squared singular values of the episode's vectors, which is the sum of their squares.
    """
    logits = scale * jax.vmap(partial(episode_logits, head, way=way))(vectors[:, :support], vectors[:, support:])
    labels = jnp.asarray(class_labels(way, logits.shape[1] // way))
    targets = optax.smooth_labels(jax.nn.one_hot(labels, way), smoothing)
    entropy = optax.softmax_cross_entropy(logits, targets).mean(axis=1)
    return entropy + spectral * jnp.sum(vectors**2, axis=(1, 2)), jnp.mean(logits.argmax(axis=-1) == labels, axis=1)


def embed_episodes(embed: Embed, params: Tree, statistics: Tree, episodes: ClassEpisodes) -> tuple[jax.Array, Tree]:
    """Vectors [E, support + queries, P] of all clips, which pass through the encoder as one batch; new statistics."""
    clips = jnp.concatenate(episodes, axis=1)
    vectors, statistics = embed(params, statistics, clips.reshape(-1, *clips.shape[2:]))
    return vectors.reshape(*clips.shape[:2], -1), statistics


def make_step(embed: Embed, losses: Callable[..., tuple[jax.Array, jax.Array]], optimiser: optax.GradientTransformation, *, size: int,
              learn_scale: bool, axis: str) -> Callable[[EncoderState, ClassEpisodes, jax.Array], tuple[EncoderState, dict[str, jax.Array]]]:
    """step(state, this device's episodes, key) -> (state, metrics), inside a map over the axis `axis`.

    embed shares its batch statistics over the axis; losses is `episode_losses` with its options. Views are drawn by the
    episode's place in the whole batch, so that the number of devices changes nothing. Without `learn_scale` the logits' scale stays:
    at high rates a learnt one shrinks before the vectors tell the classes apart, and with it every gradient.
    """

    def loss_of(params: Tree, statistics: Tree, episodes: ClassEpisodes):
        vectors, statistics = embed_episodes(embed, params["encoder"], statistics, episodes)
        log_scale = params["log_scale"] if learn_scale else jax.lax.stop_gradient(params["log_scale"])
        values, accuracy = losses(vectors=vectors, scale=jnp.exp(log_scale), support=episodes.support.shape[1])
        return values.mean(), (statistics, accuracy.mean())

    def step(state: EncoderState, episodes: ClassEpisodes, key: jax.Array) -> tuple[EncoderState, dict[str, jax.Array]]:
        seen = _views(jax.random.fold_in(key, state.step), episodes, size=size, axis=axis)
        (loss, (statistics, accuracy)), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params, state.statistics, seen)
        gradient, metrics = jax.lax.pmean((gradient, {"loss": loss, "accuracy": accuracy}), axis)
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = metrics | {"gradient_norm": optax.tree.norm(gradient), "scale": jnp.exp(params["log_scale"])}
        return EncoderState(params, statistics, optimiser_state, state.step + 1), metrics

    return step


def make_measure(embed: Embed, losses: Callable[..., tuple[jax.Array, jax.Array]], *, size: int) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """measure(params, statistics, episodes) -> loss and accuracy of each episode [E], on central views; embed changes no statistics."""

    def measure(params: Tree, statistics: Tree, episodes: ClassEpisodes) -> tuple[jax.Array, jax.Array]:
        seen = jax.tree.map(partial(central_view, size=size), episodes)
        vectors, _ = embed_episodes(embed, params["encoder"], statistics, seen)
        return losses(vectors=vectors, scale=jnp.exp(params["log_scale"]), support=episodes.support.shape[1])

    return measure


def make_optimiser(trained: Tree, *, learning_rate: float, halve_every: int, weight_decay: float) -> optax.GradientTransformation:
    """SGD with momentum 0.9 and dampening 0.9, whose rate is halved every `halve_every` steps (0: never), as published.

    trained: a tree of bools like the params; weights of more than one axis decay where it is True.
    """
    def decayed(params: Tree) -> Tree:
        return jax.tree.map(lambda learns, x: learns and x.ndim > 1, trained, params)

    rate = optax.exponential_decay(learning_rate, halve_every, 0.5, staircase=True) if halve_every else learning_rate
    return optax.chain(optax.add_decayed_weights(weight_decay, mask=decayed), dampened_momentum(MOMENTUM, DAMPENING),
                       optax.scale_by_learning_rate(rate))


def initial_state(encoder: Tree, statistics: Tree, optimiser: optax.GradientTransformation) -> EncoderState:
    """The state before the first step; the logits' scale starts at 1."""
    params = {"encoder": encoder, "log_scale": jnp.zeros(())}
    return EncoderState(params, statistics, optimiser.init(params), jnp.zeros((), jnp.int32))


def _views(key: jax.Array, episodes: ClassEpisodes, *, size: int, axis: str) -> ClassEpisodes:
    """A training view of every clip of this device's episodes."""
    count, support = episodes.support.shape[:2]
    clips = jnp.concatenate(episodes, axis=1)
    place = jax.lax.axis_index(axis) * count + jnp.arange(count)
    keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(key, i), clips.shape[1]))(place)
    seen = jax.vmap(jax.vmap(partial(training_view, size=size)))(keys, clips)
    return ClassEpisodes(seen[:, :support], seen[:, support:])
