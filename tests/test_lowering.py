"""Every forward and every training step lowers for GPUs and TPUs on a machine that has neither."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

from acx_jax.contracts import Clips
from acx_jax.fewshot import baselines, gradient_heads
from acx_jax.fewshot.episodes import score_episodes
from acx_jax.fewshot.mcp import mcp
from acx_jax.fewshot.ragged import Ragged
from acx_jax.models.context_perception import ContextHead
from acx_jax.models.encoders import ENCODERS, normalise, variable_shapes
from acx_jax.models.i3d import I3D, LOGITS
from acx_jax.selfsup import copies, projection, schemes, training
from acx_jax.selfsup.memory import empty_queue
from acx_jax.selfsup.views import ViewOptions

PLATFORMS = ("cuda", "tpu")
AXIS = "devices"
HEAD = ContextHead(hidden=16, groups=4, neighbours=3, blocks=2, scaled_paths=True)
LEARNERS = {
    "mcp": mcp(HEAD, features=16, epochs=2, batch=4, learning_rate=0.01),
    "linear": gradient_heads.linear(features=16, way=2, pool="mean", epochs=2, batch=4, learning_rate=0.1, weight_decay=0.01),
    "proto": baselines.proto(features=16, way=2, pool="middle"),
}


def lowered(function: Callable[..., Any], *arguments: Any) -> export.Exported:
    """`function` lowered for both platforms at once, as it would be compiled there; arguments as arrays or shapes."""
    exported = export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
    assert exported.platforms == PLATFORMS
    return exported


def shape(*size: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(size, dtype)


@pytest.mark.parametrize(("arch", "dtype"), [*((arch, "float32") for arch in ENCODERS), ("r2plus1d_tiny", "bfloat16"), ("r3d_18", "bfloat16")])
def test_every_encoder(arch: str, dtype: str) -> None:
    spec = ENCODERS[arch]
    encoder, clips = spec.build(jnp.dtype(dtype)), shape(2, 8, 64, 64, 3, dtype=jnp.uint8)
    made = lowered(lambda variables, frames: encoder.apply(variables, normalise(spec, frames), train=False),
                   variable_shapes(spec, clips.shape), clips)
    assert made.out_avals[0].shape == (2, spec.feature_dim)


def test_augmented_copies() -> None:
    made = lowered(jax.vmap(partial(copies.augmented, side=32)), jax.random.split(jax.random.key(0), 2), shape(2, 8, 40, 60, 3, dtype=jnp.uint8),
                   shape(2, 2, dtype=jnp.int32))
    assert made.out_avals[0].shape == (2, 8, 32, 32, 3)


def test_the_classifier_of_i3d() -> None:
    network, clips = I3D(400), shape(1, 16, 224, 224, 3)
    apply = partial(network.apply, train=False, stage=LOGITS)
    variables = jax.eval_shape(partial(network.init, train=False, stage=LOGITS), jax.random.key(0), clips)
    assert lowered(apply, variables, clips).out_avals[0].shape == (1, 400)


def test_the_context_head() -> None:
    nodes, mask = shape(3, 6, 16), shape(3, 6, dtype=bool)
    params = jax.eval_shape(HEAD.init, jax.random.key(0), nodes, mask)
    assert lowered(HEAD.apply, params, nodes, mask).out_avals[0].shape == (3, 2)


@pytest.mark.parametrize("name", LEARNERS)
def test_episodes_of_every_learner(name: str) -> None:
    segments = Ragged(shape(90, 16), shape(20, dtype=jnp.int32), shape(20, dtype=jnp.int32))
    keys = jax.random.split(jax.random.key(0), 5)
    made = lowered(score_episodes(LEARNERS[name], way=2, nodes=6), segments, shape(5, 4, dtype=jnp.int32), shape(5, 6, dtype=jnp.int32), keys)
    assert made.out_avals[0].shape == (5, 6, 2)


@pytest.mark.parametrize(("arch", "frozen", "train_norm"), [("r2plus1d_tiny", None, True), ("r3d_18", "layer3", True), ("i3d", "Mixed_4f", False)])
def test_the_adaptation_step(arch: str, frozen: str | None, train_norm: bool) -> None:
    """The step that runs on each device, under its mapped axis."""
    spec = ENCODERS[arch]
    optimiser = optax.sgd(0.003, 0.9)
    project = projection.make_projection(spec, dtype=jnp.float32, axis=AXIS, train_norm=train_norm, frozen=frozen)
    scheme = schemes.contrastive(negatives=("negative", "broken"), warp=True, broken="any", loss="nce", temperature=0.07, n_data=4, exclude_own=True)
    step = training.make_step(project, optimiser, scheme, options=ViewOptions(32, "random", "all", "sample"), key_momentum=0.999, axis=AXIS)
    variables = variable_shapes(spec, (1, 8, 32, 32, 3))
    head = {"kernel": shape(spec.feature_dim, 8), "bias": shape(8)}
    state = jax.eval_shape(lambda encoder, head, statistics: training.initial_state(
        {"encoder": encoder, "head": head}, statistics, optimiser, empty_queue(16, 8)), variables["params"], head, variables["batch_stats"])
    frames = shape(1, 2, 8, 40, 40, 3, dtype=jnp.uint8)
    clips = Clips(frames, frames, shape(1, 2, dtype=bool), shape(1, 2, dtype=jnp.int32))
    first = jax.tree.map(lambda leaf: shape(1, *leaf.shape, dtype=leaf.dtype), state)
    made = lowered(jax.vmap(step, in_axes=(0, 0, None), axis_name=AXIS), first, clips, jax.random.key(0))
    assert np.prod(made.out_avals[-1].shape) == 1
