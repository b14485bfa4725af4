"""The residual encoders: every stage, pooled features and logits, running statistics, gradients."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from acx_jax.models.encoders import ENCODERS, folded
from acx_jax.models.i3d import LOGITS
from acx_jax.models.resnet3d import STAGES, VARIANTS, ResNet3D
from acx_jax.models.weight_match import find_weights, to_tree
from acx_jax.published.bundle import SEED_FILE, Arrays, Bundle, Check
from acx_jax.published.measured import Measured, measured, not_recorded, torch_entries

SHAPES = "backbone_state_dict_shapes.json"
ARCHS = ("r2plus1d_34", "r2plus1d_18", "r3d_18", "mc3_18")
OUTPUTS, TRAINING, GRADIENTS = 1e-4, 1e-3, 1e-2


def recorded_backbone(bundle: Bundle, arch: str) -> tuple[ResNet3D, dict]:
    """A network and the weights of its recorded run, with a classifier of the recorded classes."""
    shapes = bundle.json(SHAPES)[arch]
    variables = to_tree(find_weights(bundle.parameters(shapes), arch, SHAPES), with_classifier=True)
    return ResNet3D(VARIANTS[arch], num_classes=shapes["fc.weight"][0]), variables


def backbone(arch: str, bundle: Bundle) -> Iterator[Measured]:
    """One network at every recorded size, then one pass in training mode and one gradient."""
    arrays = bundle.arrays(f"backbone_{arch}.npz")
    model, variables = recorded_backbone(bundle, arch)
    for size in sorted(name[2:] for name in arrays if re.fullmatch(r"x_\d+x\d+", name)):
        yield from _evaluation(arch, model.clone(folded=True), variables, arrays, size)
    if "train_x" in arrays:
        yield from _training(model, arch, variables, arrays)
        yield from _gradients(model, arch, variables, arrays) if "grad_loss" in arrays else [not_recorded("gradients")]


def _evaluation(arch: str, model: ResNet3D, variables: dict, arrays: Arrays, size: str) -> Iterator[Measured]:
    logits, features = _forward(model, arch, variables, arrays[f"x_{size}"])
    stages = [features[f"after_{stage}"][0] for stage in STAGES]
    shapes = [[x.shape[0], x.shape[4], *x.shape[1:4]] for x in stages]
    yield measured(f"shapes of stages at {size}", [("shapes", shapes, arrays[f"stage_shapes_{size}"])], tolerance=0)
    for name, of in (("mean", jnp.mean), ("std", jnp.std)):
        each = zip(STAGES, map(of, stages), arrays[f"stage_{name}_{size}"], strict=True)
        yield measured(f"{name} of stages at {size}", each, tolerance=OUTPUTS)
    yield measured(f"pooled features at {size}", [("pooled", features["after_pool"][0], arrays[f"pooled_{size}"])], tolerance=OUTPUTS)
    recorded = arrays[f"logits_{size}"]  # the first few classes
    yield measured(f"logits at {size}", [("logits", logits[:, : recorded.shape[1]], recorded)], tolerance=OUTPUTS)


@partial(jax.jit, static_argnums=(0, 1))
def _forward(model: ResNet3D, arch: str, variables: dict, clips: jax.Array) -> tuple[jax.Array, dict]:
    """Class scores and the features after every stage, with the norms folded into the convolutions as the stage embed has them."""
    logits, kept = model.apply(folded(ENCODERS[arch], variables), clips, train=False, stage=LOGITS, mutable=["intermediates"])
    return logits, kept["intermediates"]


def _training(model: ResNet3D, arch: str, variables: dict, arrays: Arrays) -> Iterator[Measured]:
    pooled, updates = _train_forward(model, variables, arrays["train_x"])
    yield measured("pooled features in training", [("train_pooled", pooled, arrays["train_pooled"])], tolerance=TRAINING)
    ours = torch_entries(arch, updates)
    names = [name for name in arrays if name.startswith("after.")]
    each = ((name, ours[name.removeprefix("after.")], arrays[name]) for name in names)
    yield measured("running statistics", each, tolerance=TRAINING)


@partial(jax.jit, static_argnums=0)
def _train_forward(model: ResNet3D, variables: dict, clips: jax.Array) -> tuple[jax.Array, dict]:
    return model.apply(variables, clips, train=True, mutable=["batch_stats"])


def _gradients(model: ResNet3D, arch: str, variables: dict, arrays: Arrays) -> Iterator[Measured]:
    loss, gradients = _square_loss(model, variables, arrays["train_x"])
    yield measured("loss of the gradients", [("grad_loss", loss, arrays["grad_loss"])], tolerance=OUTPUTS)
    ours = torch_entries(arch, {"params": gradients})
    names = [name for name in arrays if name.startswith("grad.")]
    each = ((name, ours[name.removeprefix("grad.")], arrays[name]) for name in names)
    yield measured("gradients", each, tolerance=GRADIENTS)


@partial(jax.jit, static_argnums=0)
def _square_loss(model: ResNet3D, variables: dict, clips: jax.Array) -> tuple[jax.Array, Any]:
    """mean(pooled features^2) in evaluation mode and its gradient."""
    def loss(params: Any) -> jax.Array:
        return jnp.square(model.apply({**variables, "params": params}, clips, train=False)).mean()

    return jax.value_and_grad(loss)(variables["params"])


CHECKS: dict[str, Check] = {
    f"backbone_{arch}": Check((f"backbone_{arch}.npz", SHAPES, SEED_FILE), partial(backbone, arch)) for arch in ARCHS}
