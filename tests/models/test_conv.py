"""conv3d against XLA's own convolution, batch normalisation and pooling against plain numpy."""
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax import lax

from acx_jax.models import conv_cpu
from acx_jax.models.batch_norm import BatchNorm
from acx_jax.models.conv import Conv3D, conv3d, same_padding
from acx_jax.models.i3d import max_pool

pytestmark = pytest.mark.usefixtures("quick_compiler")

DIMENSIONS = ("NTHWC", "THWIO", "NTHWC")


def reference(x, kernel, strides, padding):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=DIMENSIONS)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@st.composite
def cases(draw):
    window = draw(st.sampled_from([(1, 1, 1), (1, 3, 3), (3, 1, 1), (3, 3, 3), (2, 2, 1), (3, 5, 2)]))
    strides = draw(st.sampled_from([(1, 1, 1), (1, 2, 2), (2, 1, 1), (2, 2, 2), (1, 3, 1)]))
    # Both sides of the size above which frames are convolved rather than unrolled.
    size = draw(st.sampled_from([(3, 5, 5), (4, 10, 9), (3, 13, 20)]))
    explicit = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 3))] * 3)
    return size, window, strides, draw(st.one_of(st.just("SAME"), explicit)), draw(st.integers(1, 3))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(cases())
def test_values_and_gradients_are_those_of_xla(case) -> None:
    size, window, strides, padding, channels = case
    x, kernel = normal(0, 2, *size, channels), normal(1, *window, channels, 4)
    dy = normal(2, *jax.eval_shape(lambda: reference(x, kernel, strides, padding)).shape)

    def outputs(convolve):
        y, pull = jax.vjp(lambda x, k: convolve(x, k, strides, padding), x, kernel)
        return y, *pull(dy)

    for ours, theirs in zip(jax.jit(outputs, static_argnums=0)(conv3d), outputs(reference), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(3, 5, 5), (3, 12, 12)])
def test_vmap_is_a_loop(size) -> None:
    x, kernels = normal(0, 3, 2, *size, 2), normal(1, 3, 3, 3, 3, 2, 4)
    together = jax.vmap(conv3d)(x, kernels)
    for one, clip, kernel in zip(together, x, kernels, strict=True):
        np.testing.assert_allclose(one, reference(clip, kernel, (1, 1, 1), "SAME"), rtol=1e-4, atol=1e-4)


def test_second_derivative_is_that_of_xla() -> None:
    x, kernel = normal(0, 1, 3, 9, 9, 2), normal(1, 3, 3, 3, 2, 3)

    def penalty(convolve):
        inner = jax.grad(lambda k: jnp.sum(jnp.sin(convolve(x, k, (1, 1, 1), "SAME"))))
        return jax.grad(lambda k: jnp.sum(inner(k) ** 2))(kernel)

    np.testing.assert_allclose(penalty(conv3d), penalty(reference), rtol=1e-2, atol=1e-2 * np.abs(penalty(reference)).max())


def test_same_padding_puts_the_odd_element_last() -> None:
    assert same_padding((8, 112, 7), (7, 7, 3), (2, 2, 2)) == ((2, 3), (2, 3), (1, 1))


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 4, 8, 8, 2\).*\(1, 1, 1, 3, 4\)"):
        conv3d(jnp.zeros((1, 4, 8, 8, 2)), jnp.zeros((1, 1, 1, 3, 4)))
    with pytest.raises(ValueError, match="larger than clips"):
        conv3d(jnp.zeros((1, 2, 8, 8, 2)), jnp.zeros((3, 1, 1, 2, 4)), (1, 1, 1), ((0, 0),) * 3)


def test_module_adds_its_bias_and_keeps_float32_parameters() -> None:
    module, x = Conv3D(4, (1, 1, 1), use_bias=True, dtype=jnp.bfloat16), normal(0, 1, 2, 3, 3, 2)
    params = module.init(jax.random.key(0), x)["params"]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}
    params["bias"] = jnp.arange(4.0)
    y = module.apply({"params": params}, x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(y), x @ params["kernel"][0, 0, 0] + params["bias"], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("unbiased", [True, False])
def test_batch_norm_normalises_with_the_biased_and_keeps_the_asked_variance(unbiased: bool) -> None:
    x = 3 + 2 * normal(0, 2, 1, 2, 3, 5)
    norm = BatchNorm(eps=1e-3, momentum=0.8, unbiased=unbiased)
    variables = norm.init(jax.random.key(0), x, train=True)
    y, updates = norm.apply(variables, x, train=True, mutable="batch_stats")
    flat = x.reshape(-1, 5)
    np.testing.assert_allclose(y.reshape(-1, 5), (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-3), atol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], 0.2 * flat.mean(0), rtol=1e-5)
    expected = 0.8 + 0.2 * flat.var(0, ddof=int(unbiased))
    np.testing.assert_allclose(updates["batch_stats"]["var"], expected, rtol=1e-5)


def test_evaluation_uses_the_running_statistics() -> None:
    x, norm = normal(0, 4, 5), BatchNorm(eps=0.5, use_scale=False)
    variables = {"params": {"bias": jnp.arange(5.0)}, "batch_stats": {"mean": jnp.full(5, 2.0), "var": jnp.full(5, 3.5)}}
    np.testing.assert_allclose(norm.apply(variables, x, train=False), (x - 2) / 2 + np.arange(5), atol=1e-6)


def test_statistics_over_devices_are_those_of_the_whole_batch() -> None:
    x = normal(0, 4, 3, 2, 5)
    whole, shared = BatchNorm(), BatchNorm(axis_name="devices")
    variables = shared.init(jax.random.key(0), x[0], train=True)
    apply = lambda part: shared.apply(variables, part, train=True, mutable="batch_stats")
    parts, updates = jax.vmap(apply, axis_name="devices")(x)
    expected, expected_updates = whole.apply(variables, x, train=True, mutable="batch_stats")
    np.testing.assert_allclose(parts, expected, atol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(updates), jax.tree.leaves(expected_updates), strict=True):
        np.testing.assert_allclose(ours, np.broadcast_to(theirs, ours.shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("window", "strides"), [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (1, 1, 1)), ((2, 2, 2), (2, 2, 2))])
def test_max_pool_is_flax_pooling(window, strides) -> None:
    x = normal(0, 2, 3, 7, 8, 3)
    pool = lambda x: nn.max_pool(x, window, strides, "SAME")
    ours = lambda x: max_pool(x, window, strides)
    np.testing.assert_array_equal(ours(x), pool(x))
    weights = normal(1, *pool(x).shape)
    # The draws hold no ties, so the gradient is unique.
    expected = jax.grad(lambda x: jnp.sum(pool(x) * weights))(x)
    np.testing.assert_allclose(jax.grad(lambda x: jnp.sum(ours(x) * weights))(x), expected, atol=1e-5)


@pytest.mark.parametrize(("frames", "window", "padding"), [(4, (1, 3, 3), "SAME"), (2, (3, 3, 3), ((1, 1), (0, 2), (1, 0))), (5, (3, 3, 3), "SAME")])
def test_winograds_filtering_is_the_convolution(monkeypatch, frames, window, padding) -> None:
    monkeypatch.setattr(conv_cpu, "WINOGRAD_POSITIONS", 1)
    monkeypatch.setattr(conv_cpu, "WINOGRAD_VALUES", 2**16)  # in groups, too
    x, kernel = normal(0, 4, frames, 9, 10, 48), normal(1, *window, 48, 50)
    assert conv_cpu.winograd_pays(x, 50, 90)
    dy = normal(2, *reference(x, kernel, (1, 1, 1), padding).shape)
    (y, pull), expected = (jax.vjp(lambda x, k: f(x, k, (1, 1, 1), padding), x, kernel)
                           for f in (jax.jit(conv3d, static_argnums=(2, 3)), reference))
    for ours, theirs in zip((y, *pull(dy)), (expected[0], *expected[1](dy)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-6 * np.abs(theirs).max())


@pytest.mark.parametrize(("frames", "stride", "padding"), [(1, 1, (1, 1)), (2, 1, (1, 1)), (2, 2, (1, 1)), (2, 1, (3, 2)), (3, 2, (0, 0))])
def test_short_clips_leave_out_taps_that_see_padding_alone(frames, stride, padding) -> None:
    x, kernel, padding = normal(0, 2, frames, 5, 5, 3), normal(1, 3, 1, 1, 3, 4), (padding, (0, 0), (0, 0))
    expected = reference(x, kernel, (stride, 1, 1), padding)
    np.testing.assert_allclose(conv3d(x, kernel, (stride, 1, 1), padding), expected, atol=1e-5)


@pytest.mark.parametrize("channels", [3, 40])
@pytest.mark.parametrize("window", [(2, 3, 5), (3, 1, 1), (2, 2, 2)])
def test_strides_in_space_at_many_channels_and_few(channels, window) -> None:
    x, kernel, strides, padding = normal(0, 2, 3, 18, 19, channels), normal(1, *window, channels, 4), (2, 2, 3), ((0, 1), (3, 3), (2, 1))
    same_with_gradients(x, kernel, strides, padding)


@pytest.mark.parametrize("padding", [((1, 1), (0, 0), (0, 0)), ((0, 0), (0, 0), (0, 0)), ((2, 0), (0, 0), (0, 0)), ((1, 1), (1, 0), (0, 2))])
def test_gradient_of_taps_in_time_with_fewer_outputs_than_inputs(padding) -> None:
    same_with_gradients(normal(0, 2, 5, 6, 7, 9), normal(1, 3, 1, 1, 9, 4), (1, 1, 1), padding)


def test_winograds_gradient_with_a_stride_in_time(monkeypatch) -> None:
    monkeypatch.setattr(conv_cpu, "WINOGRAD_POSITIONS", 1)
    same_with_gradients(normal(0, 2, 5, 7, 10, 48), normal(1, 3, 3, 3, 48, 50), (2, 1, 1), ((1, 0), (1, 1), (0, 1)))


def same_with_gradients(x, kernel, strides, padding) -> None:
    dy = normal(2, *reference(x, kernel, strides, padding).shape)
    (y, pull), expected = (jax.vjp(lambda x, k: f(x, k, strides, padding), x, kernel) for f in (conv3d, reference))
    for ours, theirs in zip((y, *pull(dy)), (expected[0], *expected[1](dy)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
