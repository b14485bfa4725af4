"""Episodic training of an encoder, on a stand-in for one that compiles at once: heads, losses, views and several devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acx_jax.contracts import ClassEpisodes
from acx_jax.fewshot import baselines, closed_form, episodic
from acx_jax.models.batch_norm import batch_statistics
from acx_jax.runtime import devices

pytestmark = pytest.mark.usefixtures("quick_compiler")
WAY, SHOT, QUERY, FEATURES, SIDE, SIZE = 3, 2, 2, 5, 12, 8
SHAPE = {"features": FEATURES, "way": WAY, "pool": "mean"}
HEADS = {"proto": baselines.proto(**SHAPE, temperature=4.0), "ridge": closed_form.ridge(**SHAPE, penalty=1.0),
         "svm": closed_form.svm(**SHAPE, penalty=0.1, steps=200)}


def embed(params, statistics, clips, *, axis):
    """The mean colour through a linear layer and a norm over the batch of all devices; the statistics remember the mean."""
    mean_colour = clips.astype(jnp.float32).mean(axis=(1, 2, 3)) / 255
    mean, variance, _ = batch_statistics(mean_colour, axis)
    return (mean_colour - mean) / jnp.sqrt(variance + 1e-5) @ params["kernel"], 0.9 * statistics + 0.1 * mean


def drawn(number: int, seed: int) -> ClassEpisodes:
    """Classes that differ in how red they are; green and blue are loud and say nothing."""
    rng = np.random.default_rng(seed)
    red = 60 + rng.permuted(np.tile(np.linspace(0, 120, WAY), (number, 1)), axis=1)

    def side(each: int) -> np.ndarray:
        colours = rng.uniform(0, 255, (number, WAY * each, 3))
        colours[..., 0] = np.repeat(red, each, axis=1) + rng.uniform(-8, 8, (number, WAY * each))
        return np.broadcast_to(colours[:, :, None, None, None], (number, WAY * each, 2, SIDE, SIDE, 3)).astype(np.uint8)

    return ClassEpisodes(side(SHOT), side(QUERY))


def losses(head: str, smoothing: float = 0.1, spectral: float = 1e-3):
    return partial(episodic.episode_losses, HEADS[head], way=WAY, smoothing=smoothing, spectral=spectral)


def started(learning_rate: float = 0.5) -> tuple:
    kernel = {"kernel": jax.random.normal(jax.random.key(3), (3, FEATURES))}
    optimiser = episodic.make_optimiser({"encoder": {"kernel": True}, "log_scale": True}, learning_rate=learning_rate, halve_every=2, weight_decay=1e-3)
    return optimiser, episodic.initial_state(kernel, jnp.zeros(3), optimiser)


def test_four_devices_do_what_one_does():
    optimiser, state = started()
    step = episodic.make_step(partial(embed, axis=devices.AXIS), losses("ridge"), optimiser, size=SIZE, learn_scale=True, axis=devices.AXIS)
    alone = jax.jit(jax.vmap(step, in_axes=(0, 0, None), axis_name=devices.AXIS))
    mapped = devices.map_over_devices(step, in_axes=(0, 0, None))
    one, four, key = jax.tree.map(lambda x: x[None], state), devices.replicate(state), jax.random.key(1)
    for seed in range(3):
        episodes = drawn(8, seed)
        one, by_one = alone(one, jax.tree.map(lambda x: x[None], episodes), key)
        four, by_four = mapped(four, devices.split(episodes), key)
        assert np.allclose(by_four["loss"], by_one["loss"], atol=1e-5)
    assert devices.count() == 4 and int(four.step[3]) == 3
    for a, b, begun in zip(*(jax.tree.leaves((s.params, s.statistics)) for s in (devices.first(four), devices.first(one), state))):
        np.testing.assert_allclose(a, b, atol=1e-4)
        assert np.any(np.abs(b - begun) > 1e-3)  # something was there to compare


def test_the_loss_against_a_slow_reference():
    rng = np.random.default_rng(0)
    vectors, scale = rng.standard_normal((2, WAY * (SHOT + QUERY), FEATURES)).astype(np.float32), 1.5
    values, accuracy = jax.jit(partial(losses("proto"), support=WAY * SHOT))(vectors=vectors, scale=scale)
    for episode in range(2):
        support, query = np.split(vectors[episode], [WAY * SHOT])
        means = [support[c * SHOT:(c + 1) * SHOT].mean(axis=0) for c in range(WAY)]
        total, right = 0.0, 0
        for i, vector in enumerate(query):
            logits = np.array([-scale * ((vector - mean) ** 2).sum() / 4.0 for mean in means])
            log_share = logits - np.log(np.exp(logits).sum())
            target = np.full(WAY, 0.1 / WAY)
            target[i // QUERY] += 0.9
            total -= (target * log_share).sum() / len(query)
            right += logits.argmax() == i // QUERY
        total += 1e-3 * (np.linalg.svd(vectors[episode], compute_uv=False) ** 2).sum()
        assert float(values[episode]) == pytest.approx(total, rel=1e-5)
        assert float(accuracy[episode]) == pytest.approx(right / len(query))


@pytest.mark.parametrize("head", HEADS)
def test_the_gradient_through_a_head_against_finite_differences(head):
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        vectors, way = (jnp.asarray(rng.standard_normal((2, WAY * (SHOT + QUERY), FEATURES))) for _ in range(2))
        loss = jax.jit(jax.value_and_grad(lambda v: losses(head)(vectors=v, scale=1.5, support=WAY * SHOT)[0].sum()))
        along, step = jnp.vdot(loss(vectors)[1], way), 1e-6
        measured = (loss(vectors + step * way)[0] - loss(vectors - step * way)[0]) / (2 * step)
        assert abs(float(along)) > 1e-3 and float(measured) == pytest.approx(float(along), rel=1e-5)


def test_training_makes_unseen_episodes_easier():
    optimiser, state = started(learning_rate=1.0)
    mapped = devices.map_over_devices(episodic.make_step(partial(embed, axis=devices.AXIS), losses("proto"), optimiser, size=SIZE,
                                                          learn_scale=False, axis=devices.AXIS),
                                      in_axes=(0, 0, None))
    measure = jax.jit(episodic.make_measure(partial(embed, axis=None), losses("proto"), size=SIZE))
    unseen = drawn(64, 1000)
    before = measure(state.params, state.statistics, unseen)[1].mean()
    copies = devices.replicate(state)
    for seed in range(6):
        copies, _ = mapped(copies, devices.split(drawn(8, seed)), jax.random.key(0))
    trained = devices.first(copies)
    assert float(trained.params["log_scale"]) == 0  # it was not to be learnt
    assert measure(trained.params, trained.statistics, unseen)[1].mean() > before + 0.05


def test_the_rate_is_halved():
    optimiser, state = started()
    update = jax.jit(lambda opt: optimiser.update(jax.tree.map(jnp.ones_like, state.params), opt, state.params))
    inner, sizes = state.optimiser, []
    for _ in range(4):
        updates, inner = update(inner)
        sizes.append(-float(updates["log_scale"]))  # of a constant gradient, the trace stays 1 from the first step on
    np.testing.assert_allclose(sizes, [0.5, 0.5, 0.25, 0.25], rtol=1e-6)


def test_a_view_is_a_square_of_the_frame_flipped_half_of_the_time():
    place = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), [7], indexing="ij"), axis=-1)[:, :, 0]
    clip = jnp.asarray(np.broadcast_to(place, (2, SIDE, SIDE, 3)).astype(np.uint8))
    view = jax.jit(jax.vmap(lambda key: episodic.training_view(key, clip, size=SIZE)))
    seen = np.asarray(view(jax.random.split(jax.random.key(0), 200)))
    assert seen.dtype == np.uint8 and seen.shape == (200, 2, SIZE, SIZE, 3)
    assert (seen[..., 2] == 7).all() and (seen[:, 0] == seen[:, 1]).all()  # nothing from outside; all frames alike
    rows, columns = seen[:, 0, :, 0, 0].astype(int), seen[:, 0, 0, :, 1].astype(int)
    flipped = columns[:, 0] > columns[:, -1]
    assert (np.diff(rows) >= 0).all() and 60 < flipped.sum() < 140
    lengths = set((rows[:, -1] - rows[:, 0]).tolist())
    assert min(lengths) <= round(0.66 * SIDE) and max(lengths) >= SIDE - 2 and len(lengths) > 2
    centre = np.asarray(episodic.central_view(clip, size=SIZE))
    assert centre[0, 0, 0].tolist() == [2, 2, 7] and centre.shape == (2, SIZE, SIZE, 3)
