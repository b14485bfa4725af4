"""Every encoder by the same rules; the tiny one also exported, trained and spread over devices."""
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from acx_jax.benchmark.suites.embed import varied
from acx_jax.models.encoders import ENCODERS, check_clip_shape, cut, folded, init_variables, normalise, trainable, variable_shapes
from acx_jax.models.i3d import LOGITS
from acx_jax.models.resnet3d import FORMS, VARIANTS, ResNet3D, middle_planes

pytestmark = pytest.mark.usefixtures("quick_compiler")

TINY = ENCODERS["r2plus1d_tiny"]
SHAPE = (2, 8, 16, 16, 3)


@pytest.fixture(scope="module")
def tiny() -> dict:
    return init_variables(TINY, jax.random.key(0), SHAPE)


def clips(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_features_have_the_promised_shape(name: str, dtype) -> None:
    spec = ENCODERS[name]
    shape = (2, spec.min_frames, spec.min_size, spec.min_size, 3)
    variables = variable_shapes(spec, shape)
    assert set(variables) == {"params", "batch_stats"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}
    apply = lambda v, x: spec.build(dtype).apply(v, x, train=False)
    features = jax.eval_shape(apply, variables, jax.ShapeDtypeStruct(shape, jnp.float32))
    assert (features.shape, features.dtype) == ((2, spec.feature_dim), jnp.float32)


@pytest.mark.parametrize(("name", "millions"), [("r2plus1d_34", 63.49), ("r2plus1d_18", 31.30), ("r3d_18", 33.17), ("mc3_18", 11.49)])
def test_parameter_counts_are_published(name: str, millions: float) -> None:
    variables = variable_shapes(ENCODERS[name], (1, 8, 64, 64, 3))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) / 1e6 == pytest.approx(millions, abs=0.01)


def test_middle_planes_of_the_published_widths() -> None:
    assert [middle_planes(*planes) for planes in ((64, 64), (64, 128), (128, 128), (512, 512))] == [144, 230, 288, 1152]


@pytest.mark.parametrize("shape", [(2, 4, 32, 32, 3), (2, 8, 8, 32, 3)])
def test_too_small_clips_are_refused_with_what_is_needed(shape) -> None:
    with pytest.raises(ValueError, match=rf"{shape[1]} frames of {shape[2]}x32 .* at least 8 frames of 16x16"):
        init_variables(TINY, jax.random.key(0), shape)


def test_clips_of_another_rank_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(8, 32, 32, 3\)"):
        check_clip_shape(TINY, (8, 32, 32, 3))


def test_normalise_maps_bytes_to_the_ranges_trained_on() -> None:
    pixels = np.array([[0, 127, 255]], np.uint8)
    np.testing.assert_allclose(normalise(ENCODERS["i3d"], pixels), pixels / 127.5 - 1, atol=1e-6)
    expected = (pixels / 255 - [0.43216, 0.394666, 0.37645]) / [0.22803, 0.22145, 0.216989]
    np.testing.assert_allclose(normalise(TINY, pixels), expected, rtol=1e-5)


def test_fresh_variables_are_spread_as_their_modules_have_it(tiny: dict) -> None:
    kernel = tiny["params"]["layer4_block0"]["conv2"]["spatial"]["kernel"]
    assert float(kernel.std()) == pytest.approx(np.sqrt(2 / (9 * kernel.shape[-1])), rel=0.02)
    assert float(kernel.mean()) == pytest.approx(0, abs=0.001)
    norm = tiny["params"]["stem_norm"], tiny["batch_stats"]["stem_norm"]
    assert [float(leaf.mean()) for leaf in jax.tree.leaves(norm)] == [0, 1, 0, 1]
    other = init_variables(TINY, jax.random.key(1), SHAPE)["params"]["layer4_block0"]["conv2"]["spatial"]["kernel"]
    assert not np.allclose(kernel, other)


def test_a_clip_does_not_see_its_neighbours_in_evaluation(tiny: dict) -> None:
    apply = jax.jit(lambda x: TINY.build().apply(tiny, x, train=False))
    changed = clips()
    changed[1] += 1
    before, after = apply(clips()), apply(changed)
    np.testing.assert_allclose(before[0], after[0], rtol=1e-5, atol=1e-6)
    assert not np.allclose(before[1], after[1])


def test_every_parameter_gets_a_gradient_in_training(tiny: dict) -> None:
    def loss(params, x):
        features, _ = TINY.build().apply({**tiny, "params": params}, x, train=True, mutable="batch_stats")
        return jnp.sum(features * jnp.arange(features.size).reshape(features.shape))

    gradients = jax.jit(jax.grad(loss))(tiny["params"], clips())
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))


@pytest.mark.slow
def test_shared_statistics_over_devices_equal_the_whole_batch(tiny: dict) -> None:
    several = np.random.default_rng(0).standard_normal((4, 8, 32, 32, 3)).astype(np.float32)  # of two values, which may be nearly one, a norm makes anything
    whole = jax.jit(lambda x: TINY.build().apply(tiny, x, train=True, mutable="batch_stats"))(several)
    apply = lambda x: TINY.build(axis_name="devices").apply(tiny, x, train=True, mutable="batch_stats")
    features, updates = jax.jit(jax.vmap(apply, axis_name="devices"))(several[:, None])
    np.testing.assert_allclose(features[:, 0], whole[0], rtol=1e-3, atol=1e-3)
    for ours, theirs in zip(jax.tree.leaves(updates), jax.tree.leaves(whole[1]), strict=True):
        np.testing.assert_allclose(ours[0], theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_bfloat16_stays_near_float32(tiny: dict) -> None:
    exact, rough = [jax.jit(lambda x, dtype=dtype: TINY.build(dtype).apply(tiny, x, train=False))(clips())
                    for dtype in (jnp.float32, jnp.bfloat16)]
    assert float(jnp.linalg.norm(exact - rough) / jnp.linalg.norm(exact)) < 0.05


@pytest.mark.parametrize("name", ["r2plus1d_tiny", "i3d"])
def test_an_unknown_stage_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="layer9"):
        ENCODERS[name].build().apply({}, jnp.zeros((1, 8, 32, 32, 3)), train=False, stage="layer9")


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_get_plain_convolutions(tiny: dict, platform: str) -> None:
    apply = jax.jit(lambda v, x: TINY.build().apply(v, x, train=False))
    text = jax.export.export(apply, platforms=[platform])(tiny, clips()).mlir_module()
    # 2 in the stem, 4 in each of 4 blocks, 3 shortcuts; none of them cut into slices.
    assert text.count("stablehlo.convolution") == 21
    assert "stablehlo.concatenate" not in text


def test_frozen_stages_keep_their_statistics_and_get_no_gradient(tiny: dict) -> None:
    encoder = TINY.build()

    def loss(params):
        variables = {"params": params, "batch_stats": tiny["batch_stats"]}
        features, changed = encoder.apply(variables, clips(), train=True, frozen="layer2", mutable=["batch_stats"])
        return (features**2).sum(), changed["batch_stats"]

    gradient, statistics = jax.jit(jax.grad(loss, has_aux=True))(tiny["params"])
    trained = trainable(TINY, tiny["params"], "layer2")
    assert {name for name, part in trained.items() if all(jax.tree.leaves(part))} == {"layer3_block0", "layer4_block0"}
    for name in tiny["params"]:
        moved = any((leaf != 0).any() for leaf in jax.tree.leaves(gradient[name]))
        updated = any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (statistics[name], tiny["batch_stats"][name]))))
        assert moved == updated == name.startswith(("layer3", "layer4"))


@pytest.mark.parametrize("name", ["r2plus1d_tiny", pytest.param("r3d_18", marks=pytest.mark.slow), pytest.param("i3d", marks=pytest.mark.slow)])
def test_folded_norms_change_nothing(name: str) -> None:
    spec, x = ENCODERS[name], np.random.default_rng(0).standard_normal((1, 8, 32, 32, 3)).astype(np.float32)
    variables = varied(init_variables(spec, jax.random.key(0), x.shape))
    plain = jax.jit(lambda v: spec.build().apply(v, x, train=False))(variables)
    merged = folded(spec, variables)
    quick = jax.jit(lambda v: spec.build(folded=True).apply(v, x, train=False))(merged)
    np.testing.assert_allclose(quick, plain, atol=1e-5 * float(jnp.abs(plain).max()))
    assert float(jnp.abs(plain).max()) > 0.01 and "norm" not in str(jax.tree.structure(merged))
    with pytest.raises(ValueError, match="cannot be trained"):
        spec.build(folded=True).apply(merged, x, train=True)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_norm_finds_its_convolution(name: str) -> None:
    spec = ENCODERS[name]
    variables = variable_shapes(spec, (1, 8, 32, 32, 3))
    merged = jax.eval_shape(lambda v: folded(spec, v), variables)
    asked = jax.eval_shape(lambda x: spec.build(folded=True).init(jax.random.key(0), x, train=False), jnp.zeros((1, 8, 32, 32, 3)))
    assert jax.tree.map(lambda leaf: leaf.shape, merged) == jax.tree.map(lambda leaf: leaf.shape, dict(asked))


def test_every_stage_comes_from_one_pass_and_the_classifier_is_optional(tiny: dict) -> None:
    model = ResNet3D(VARIANTS["r2plus1d_tiny"], num_classes=3)
    fc = {"kernel": jnp.ones((128, 3)) * jnp.arange(3), "bias": jnp.arange(3.0)}
    variables = {**tiny, "params": {**tiny["params"], "fc": fc}}
    logits, kept = jax.jit(lambda x: model.apply(variables, x, train=False, stage=LOGITS, mutable=["intermediates"]))(clips())
    features = kept["intermediates"]
    assert [features[f"after_{stage}"][0].shape[-1] for stage in TINY.stages] == [16, 16, 32, 64, 128]
    one = jax.jit(lambda x: TINY.build().apply(tiny, x, train=False, stage="layer2"))(clips())
    np.testing.assert_allclose(one, features["after_layer2"][0], rtol=1e-5, atol=1e-6)
    pooled = features["after_pool"][0]
    np.testing.assert_allclose(logits, pooled.sum(-1, keepdims=True) * jnp.arange(3) + jnp.arange(3), rtol=1e-4)
    with pytest.raises(ValueError, match="no classifier"):
        TINY.build().apply(tiny, clips(), train=False, stage=LOGITS)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.variant}-{form.frames}-{form.classes}")
def test_published_forms_differ_in_their_classifier_alone(form) -> None:
    model = ResNet3D(VARIANTS[form.variant], num_classes=form.classes)
    clip = jax.ShapeDtypeStruct((1, form.frames, 112, 112, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False, stage=LOGITS), clip)
    fc = shapes["params"].pop("fc")
    assert (fc["kernel"].shape, fc["bias"].shape) == ((512, form.classes), (form.classes,))
    assert jax.tree.map(jnp.shape, dict(shapes)) == jax.tree.map(jnp.shape, variable_shapes(ENCODERS[form.variant], (1, 8, 64, 64, 3)))


@pytest.mark.parametrize("shape", [(1, 9, 57, 71, 3)])
def test_any_size_and_length_that_the_strides_allow(shape) -> None:
    for spec in ENCODERS.values():
        size = tuple(max(side, spec.min_size) for side in shape[2:4])
        features = jax.eval_shape(lambda v, x: spec.build().apply(v, x, train=False, stage=spec.stages[-1]),
                                  variable_shapes(spec, shape[:2] + size + (3,)), jnp.zeros(shape[:2] + size + (3,)))
        strides = 32 if spec.min_size == 32 else 16
        assert features.shape == (1, -(-shape[1] // spec.min_frames), *(-(-side // strides) for side in size), spec.feature_dim)


@pytest.mark.parametrize(("name", "stage"), [("r2plus1d_tiny", "stem"), ("r2plus1d_tiny", "layer2"), ("r3d_18", "layer1"), ("i3d", "MaxPool3d_3a_3x3")])
def test_a_cut_encoder_pools_its_last_stage_and_has_nothing_behind_it(name: str, stage: str) -> None:
    spec, own = ENCODERS[name], cut(ENCODERS[name], stage)
    x = np.random.default_rng(0).standard_normal((1, 8, 32, 32, 3)).astype(np.float32)
    variables = varied(init_variables(spec, jax.random.key(0), x.shape))
    expected = spec.build().apply(variables, x, train=False, stage=stage).mean((1, 2, 3))
    for given, build in ((variables, own.build()), (folded(own, variables), own.build(folded=True))):
        found = build.apply(given, x, train=False)
        assert found.shape == (1, own.feature_dim) and found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    parts = variable_shapes(own, x.shape)["params"]
    assert own.stages == spec.stages[:spec.stages.index(stage) + 1] and all(part.startswith(own.stages) for part in parts)
    assert set(parts) < set(variables["params"]) and jax.tree.all(jax.tree.map(lambda a, b: a.shape == b.shape, parts, {k: variables["params"][k] for k in parts}))


@pytest.mark.parametrize(("frozen", "moving"), [(None, {"stem", "stem_norm", "layer1_block0"}), ("stem", {"layer1_block0"}), ("layer1", set())])
def test_what_lies_behind_the_last_stage_is_not_trained(tiny: dict, frozen: str | None, moving: set[str]) -> None:
    moves = trainable(cut(TINY, "layer1"), tiny["params"], frozen)
    assert {name for name, part in moves.items() if all(jax.tree.leaves(part))} == moving
    assert not any(any(jax.tree.leaves(part)) for name, part in moves.items() if name not in moving)
