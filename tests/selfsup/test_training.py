"""The adaptation step: what it learns, what it keeps apart, and that neither devices nor repetition change it."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from acx_jax.contracts import Clips
from acx_jax.models.batch_norm import BatchNorm
from acx_jax.models.encoders import ENCODERS, init_variables
from acx_jax.runtime import devices
from acx_jax.selfsup import projection, schemes, training
from acx_jax.selfsup.memory import empty_queue
from acx_jax.selfsup.views import ViewOptions

pytestmark = pytest.mark.usefixtures("quick_compiler")
SIDE, SIZE, FRAMES, BATCH, QUEUE, DIMENSION, MOMENTUM = 10, 8, 2, 4, 6, 8, 0.9
VIEWS = ViewOptions(SIZE, "random", "all", "sample")
DSM = schemes.contrastive(negatives=("negative",), warp=True, broken="any", loss="info_nce", temperature=0.2, n_data=1, exclude_own=True)
NCE = schemes.contrastive(negatives=("negative", "broken"), warp=True, broken="any", loss="nce", temperature=0.2, n_data=2, exclude_own=False)
VICREG, TRIPLET = schemes.vicreg(), schemes.triplets(margin=0.5, exclude_own=True)


def batch_of(seed: int, *, side: int = SIDE, frames: int = FRAMES) -> Clips:
    """Each video is a colour with noise; its negative is its complement; the last has none."""
    rng = np.random.default_rng(seed)
    colours = np.array([[220, 30, 30], [30, 220, 30], [30, 30, 220], [200, 200, 40]])[:, None, None, None]
    noise = rng.integers(-30, 30, (2, BATCH, frames, side, side, 3))
    anchor, negative = colours + noise[0], 255 - colours + noise[1]
    negative[3] = anchor[3]
    return Clips(anchor.astype(np.uint8), negative.astype(np.uint8), np.array([True, True, True, False]), np.arange(BATCH, dtype=np.int32))


def toy_project(axis: str) -> training.Project:
    """The mean colours of a clip's quarters, normalised over the batch of all devices and mapped linearly.

    The statistics are those of the batch norm, and how often it was asked.
    """
    norm = BatchNorm(axis_name=axis, use_scale=False)

    def project(params: Any, statistics: Any, clips: jax.Array) -> tuple[jax.Array, Any]:
        quarters = jnp.repeat(jnp.eye(2), SIZE // 2, axis=1) / (SIZE // 2)
        means = jnp.einsum("bthwc,ih,jw->bijc", clips, quarters, quarters).reshape(len(clips), -1) / FRAMES
        variables = {"params": params["norm"], "batch_stats": statistics["norm"]}
        features, changed = norm.apply(variables, means, train=True, mutable=["batch_stats"])
        vectors = features @ params["kernel"] + 1e-3
        statistics = {"calls": statistics["calls"] + 1, "norm": changed["batch_stats"]}
        return vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True), statistics

    return project


def toy_step(axis: str, scheme: schemes.Scheme = DSM, **options):
    return training.make_step(toy_project(axis), optax.sgd(0.1, 0.9), scheme, options=VIEWS, key_momentum=MOMENTUM, axis=axis, **options)


@cache
def toy(scheme: schemes.Scheme = DSM) -> tuple[Any, training.AdaptState]:
    """The mapped step of the toy encoder, and its first state."""
    params = {"kernel": jax.random.normal(jax.random.key(0), (12, DIMENSION)), "norm": {"bias": jnp.zeros(12)}}
    statistics = {"calls": jnp.zeros(()), "norm": {"mean": jnp.zeros(12), "var": jnp.ones(12)}}
    state = training.initial_state(params, statistics, optax.sgd(0.1, 0.9), empty_queue(QUEUE, DIMENSION))
    return devices.map_over_devices(toy_step(devices.AXIS, scheme), in_axes=(0, 0, None)), state


def run(step: Any, state: training.AdaptState, batches: list[Clips], *, over: int = 1, seed: int = 0):
    """All steps on `over` devices. Returns the states after each (of the first device) and the losses."""
    placed = NamedSharding(Mesh(np.array(jax.local_devices()[:over]), (devices.AXIS,)), PartitionSpec(devices.AXIS))
    spread = jax.device_put(jax.tree.map(lambda x: jnp.broadcast_to(x, (over, *jnp.shape(x))), state), placed)
    states, losses = [], []
    for clips in batches:
        shared = jax.tree.map(lambda x: x.reshape(over, -1, *x.shape[1:]), clips)
        spread, metrics = step(spread, shared, jax.random.key(seed))
        states.append(devices.first(spread))
        losses.append(float(metrics["loss"][0]))
    return states, losses


def test_the_loss_falls():
    _, losses = run(*toy(), [batch_of(i) for i in range(60)])
    assert np.isfinite(losses).all()
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[5:15])


def test_the_key_encoder_is_the_moving_average_with_statistics_of_its_own():
    step, state = toy()
    states, _ = run(step, state, [batch_of(i) for i in range(3)])
    average = np.asarray(state.params["kernel"])
    for number, after in enumerate(states, 1):
        average = MOMENTUM * average + (1 - MOMENTUM) * np.asarray(after.params["kernel"])
        np.testing.assert_allclose(after.key_params["kernel"], average, rtol=1e-5)
        assert (int(after.step), float(after.key_statistics["calls"]), float(after.statistics["calls"])) == (number, number, 2 * number)


def test_activations_computed_anew_change_nothing():
    step, state = toy()
    anew = devices.map_over_devices(toy_step(devices.AXIS, remat=True), in_axes=(0, 0, None))
    batches = [batch_of(i) for i in range(3)]
    kept, fresh = (run(program, state, batches) for program in (step, anew))
    np.testing.assert_allclose(fresh[1], kept[1], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(fresh[0][-1]), jax.tree.leaves(kept[0][-1])):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    jaxpr = str(jax.make_jaxpr(jax.vmap(toy_step("x", remat=True), in_axes=(0, 0, None), axis_name="x"))(
        *jax.tree.map(lambda x: jnp.asarray(x)[None], (state, batches[0])), jax.random.key(0)))
    assert "remat" in jaxpr or "checkpoint" in jaxpr


def test_the_queue_holds_the_newest_keys_and_their_videos():
    states, _ = run(*toy(), [batch_of(0), batch_of(1)])
    assert states[0].queue.video.tolist() == [0, 1, 2, 3, -1, -1]
    assert states[1].queue.video.tolist() == [2, 3, 2, 3, 0, 1]
    np.testing.assert_array_equal(states[1].queue.keys[2:4], states[0].queue.keys[2:4])
    np.testing.assert_allclose(np.linalg.norm(states[1].queue.keys, axis=1), 1, rtol=1e-5)


def test_keys_are_no_way_for_gradients():
    """The keys matter to a step, and yet it takes them as constants."""
    _, state = toy()
    alone = jax.vmap(toy_step("one"), in_axes=(None, 0, None), axis_name="one")
    clips = jax.tree.map(lambda x: jnp.asarray(x)[None], batch_of(0))

    def moved(key_params):
        """How far a step moves the trained weights."""
        after, _ = alone(state._replace(key_params=key_params), clips, jax.random.key(0))
        return jnp.sum((after.params["kernel"] - state.params["kernel"]) ** 2)

    assert moved(jax.tree.map(lambda x: -x, state.key_params)) != moved(state.key_params)
    assert not np.asarray(jax.jit(jax.grad(moved))(state.key_params)["kernel"]).any()


def test_the_same_state_and_key_give_the_same_result_and_another_key_another():
    batches = [batch_of(0), batch_of(1)]
    (once, first), (again, second), (_, other) = (run(*toy(), batches, seed=seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, once[-1], again[-1])
    assert first == second != other


def test_each_step_draws_its_own_views():
    step, state = toy()
    _, losses = run(step, state, [batch_of(0)])
    _, later = run(step, state._replace(step=jnp.int32(5)), [batch_of(0)])
    assert losses != later


def test_views_differ_by_sample_and_kind_and_not_by_the_number_of_devices():
    clips = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), batch_of(0))  # four times the same clip
    clips = clips._replace(negative=clips.anchor)

    def drawn(over: int) -> np.ndarray:
        one = jax.vmap(lambda part: training._draw_views(jax.random.key(0), part, DSM, options=VIEWS, axis="some"), axis_name="some")
        views = jax.jit(one)(jax.tree.map(lambda x: x.reshape(over, -1, *x.shape[1:]), clips))
        return np.concatenate(np.asarray(views), axis=1)

    views = drawn(1)
    assert views.shape == (3, BATCH, FRAMES, SIZE, SIZE, 3)
    assert len({view.tobytes() for kind in views for view in kind}) == 3 * BATCH
    np.testing.assert_allclose(drawn(2), views, atol=1e-6)


@pytest.mark.parametrize(("over", "scheme"), [(2, DSM), (4, DSM), (4, VICREG), (2, TRIPLET), (4, TRIPLET), (4, NCE)])
def test_the_number_of_devices_changes_nothing(over, scheme):
    step, state = toy(scheme)
    batches = [batch_of(i) for i in range(10)]
    (shared, losses), (alone, expected) = run(step, state, batches, over=over), run(step, state, batches)
    assert len(set(expected)) == 10
    np.testing.assert_allclose(losses, expected, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), shared[-1], alone[-1])


def test_vicreg_learns_without_a_key_encoder():
    step, state = toy(VICREG)
    states, losses = run(step, state, [batch_of(i) for i in range(30)])
    assert np.isfinite(losses).all() and np.mean(losses[-5:]) < 0.8 * losses[0]
    assert float(states[0].statistics["calls"]) == 2
    np.testing.assert_array_equal(states[-1].key_statistics["norm"]["mean"], states[-1].statistics["norm"]["mean"])


@pytest.mark.slow
def test_norms_of_each_device_keep_the_mean_of_their_statistics():
    spec = ENCODERS["r2plus1d_tiny"]
    variables = init_variables(spec, jax.random.key(0), (1, 8, 16, 16, 3))
    params = {"encoder": variables["params"], "head": projection.init_head(jax.random.key(1), inputs=spec.feature_dim, outputs=DIMENSION)}
    clips = jax.random.uniform(jax.random.key(2), (2, 2, 8, 16, 16, 3))

    def project(axis: str | None, **options):
        return projection.make_projection(spec, dtype=jnp.float32, axis=axis, train_norm=True, frozen=None, **options)

    apart, kept = jax.vmap(lambda c: project("one", shared_norm=False)(params, variables["batch_stats"], c), axis_name="one")(clips)
    alone = [project(None)(params, variables["batch_stats"], part) for part in clips]
    np.testing.assert_allclose(apart, [vectors for vectors, _ in alone], atol=5e-3)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, alone[0][1], alone[1][1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, np.broadcast_to(b, a.shape), atol=1e-5), kept, mean)


@pytest.mark.slow
@pytest.mark.parametrize("over", [2, 4])
@pytest.mark.parametrize("train_norm, rate", [(True, 0.0), (False, 0.003)])
def test_the_number_of_devices_changes_nothing_for_a_real_encoder(over, train_norm, rate):
    """Losses and gradients over ten steps. With statistics of the batch its gradients are so large (norms of 600 to 1,400) that steps along them
    magnify any rounding a thousandfold, so the rate is 0 there."""
    step, state = real(train_norm, rate)
    batches = [batch_of(i, side=18, frames=8) for i in range(10)]
    expected, norms = measured(step, state, batches, over=1)
    assert len(set(expected)) == 10 and min(norms) > (100 if train_norm else 1)
    losses, gradients = measured(step, state, batches, over=over)
    np.testing.assert_allclose(losses, expected, atol=1e-4)
    np.testing.assert_allclose(gradients, norms, rtol=1e-3)


def measured(step: Any, state: training.AdaptState, batches: list[Clips], *, over: int) -> tuple[list[float], list[float]]:
    """The losses and norms of the gradient of all steps on `over` devices."""
    found = []
    for clips in batches:
        states, _ = run(lambda *arguments: kept(step(*arguments), found), state, [clips], over=over)
        state = states[-1]
    return [float(m["loss"][0]) for m in found], [float(m["gradient_norm"][0]) for m in found]


def kept(result: tuple[Any, dict[str, Any]], found: list[dict[str, Any]]) -> tuple[Any, dict[str, Any]]:
    found.append(result[1])
    return result


@cache
def real(train_norm: bool, rate: float) -> tuple[Any, training.AdaptState]:
    """The same of the tiny R(2+1)D; train_norm: with synchronised batch norm, or by the statistics it came with."""
    spec, optimiser = ENCODERS["r2plus1d_tiny"], optax.sgd(rate, 0.9)
    variables = init_variables(spec, jax.random.key(0), (1, 8, 16, 16, 3))
    head = projection.init_head(jax.random.key(1), inputs=spec.feature_dim, outputs=DIMENSION)
    project = projection.make_projection(spec, dtype=jnp.float32, axis=devices.AXIS, train_norm=train_norm, frozen=None)
    step = training.make_step(project, optimiser, DSM, options=VIEWS._replace(size=16), key_momentum=MOMENTUM, axis=devices.AXIS)
    state = training.initial_state({"encoder": variables["params"], "head": head}, variables["batch_stats"], optimiser,
                                   empty_queue(QUEUE, DIMENSION))
    return devices.map_over_devices(step, in_axes=(0, 0, None)), state


def test_a_step_compiles_with_every_view_switched_on():
    views = ViewOptions(SIZE, "resized", "all", "thin_plate", flip=0.5, blur=0.5, grey=0.2, temporal_jitter=0.5)
    step = training.make_step(toy_project(devices.AXIS), optax.sgd(0.1, 0.9), DSM, options=views, key_momentum=MOMENTUM, axis=devices.AXIS)
    states, losses = run(devices.map_over_devices(step, in_axes=(0, 0, None)), toy()[1], [batch_of(0)])
    assert np.isfinite(losses).all() and states[-1].step == 1
