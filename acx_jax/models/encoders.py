"""The clip encoders by name: how each is built, what its input must be like and what it returns."""
import re
from collections.abc import Mapping
from functools import cache, partial
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from acx_jax.models.conv import he_deviation
from acx_jax.models.i3d import I3D
from acx_jax.models.i3d import STAGES as I3D_STAGES
from acx_jax.models.resnet3d import STAGES as RESNET_STAGES
from acx_jax.models.resnet3d import VARIANTS, ResNet3D

Array = jax.Array
Variables = dict[str, Any]

# Norm -> the convolution before it, the first that there is.
NORMS = ((r"norm(\d)$", r"conv\1/temporal"), (r"norm(\d)$", r"conv\1"), (r"_norm$", "/temporal"), (r"_norm$", ""),
         (r"/norm$", "/spatial"), (r"/norm$", "/conv"))
FRESH = {"scale": 1.0, "bias": 0.0, "mean": 0.0, "var": 1.0}


class Build(Protocol):
    """Makes an encoder module computing in `dtype`, with batch statistics shared over `axis_name`, or for `folded` variables; `last` is where it ends."""

    def __call__(self, dtype: Any = jnp.float32, axis_name: str | None = None, folded: bool = False, *, last: str = ...) -> nn.Module: ...


class EncoderSpec(NamedTuple):
    """An encoder.

    Attributes:
      build: (dtype, axis_name, folded) -> module that maps [B, T, H, W, 3] to [B, feature_dim] float32.
      feature_dim: P.
      mean, std: of each colour channel (R, G, B) in [0, 1]; the input is (x / 255 - mean) / std.
      min_frames: fewest frames of a clip, the product of the temporal strides.
      min_size: least height and width in pixels, the product of the spatial strides.
      stages: their names from input to output; the names of a stage's parameters begin with its own.
      eps: of batch normalisation.
    """

    build: Build
    feature_dim: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    min_frames: int
    min_size: int
    stages: tuple[str, ...]
    eps: float


def _resnet(name: str) -> EncoderSpec:
    variant = VARIANTS[name]
    frames = 2 ** sum(kind != "spatial" for kind in variant.kinds[1:])
    kinetics_mean, kinetics_std = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
    return EncoderSpec(partial(ResNet3D, variant), variant.widths[-1], kinetics_mean, kinetics_std, frames, 16, RESNET_STAGES,
                       variant.eps)


ENCODERS: dict[str, EncoderSpec] = {
    **{name: _resnet(name) for name in VARIANTS},
    "i3d": EncoderSpec(partial(I3D, None), 1024, (0.5,) * 3, (0.5,) * 3, 8, 32, tuple(I3D_STAGES), 1e-3),
}


@cache  # it traces the network for the size of its vectors
def cut(spec: EncoderSpec, stage: str) -> EncoderSpec:
    """The encoder that ends at one of its stages, whose features it pools over time and space; it takes the variables of the whole one."""
    build = partial(spec.build, last=stage)
    clips = jax.ShapeDtypeStruct((1, spec.min_frames, spec.min_size, spec.min_size, 3), jnp.float32)
    features, _ = jax.eval_shape(partial(build().init_with_output, train=False), jax.random.key(0), clips)
    return spec._replace(build=build, feature_dim=features.shape[-1], stages=spec.stages[:spec.stages.index(stage) + 1])


def trainable(spec: EncoderSpec, params: Variables, frozen: str | None) -> Variables:
    """A tree like `params` of bools: which are trained when the stages up to `frozen` are not; those behind the encoder's last stage are not."""
    moving = spec.stages[spec.stages.index(frozen) + 1 if frozen else 0:]
    return {name: jax.tree.map(lambda _: name.startswith(moving), part) for name, part in params.items()}


def normalise(spec: EncoderSpec, clips: Array) -> Array:
    """(x / 255 - mean) / std of `clips` [..., 3] uint8 in RGB -> [..., 3] float32."""
    mean, std = jnp.asarray(spec.mean, jnp.float32), jnp.asarray(spec.std, jnp.float32)
    return (clips.astype(jnp.float32) / 255.0 - mean) / std


def folded(spec: EncoderSpec, variables: Variables) -> Variables:
    """What `spec.build(folded=True)` takes: each norm made part of the convolution before it, for inference alone.

    With factor = scale / sqrt(var + eps), (k * x - mean) factor + bias = (k factor) * x + (bias - mean factor).

    Args:
      spec: of the encoder.
      variables: {"params": ..., "batch_stats": ...} of it.
    Returns:
      {"params": ...}: the convolutions with their biases; a classifier as it was.
    """
    params = traverse_util.flatten_dict(dict(variables["params"]), sep="/")
    statistics = traverse_util.flatten_dict(dict(variables["batch_stats"]), sep="/")
    for norm in [name.removesuffix("/mean") for name in statistics if name.endswith("/mean")]:
        factor = params.pop(f"{norm}/scale", 1.0) / jnp.sqrt(statistics[f"{norm}/var"] + spec.eps)
        convolution = _before(norm, params)
        params[f"{convolution}/kernel"] = params[f"{convolution}/kernel"] * factor
        params[f"{convolution}/bias"] = params.pop(f"{norm}/bias") - statistics[f"{norm}/mean"] * factor
    return {"params": traverse_util.unflatten_dict(params, sep="/")}


def _before(norm: str, params: Mapping[str, Array]) -> str:
    """The convolution whose result a norm takes."""
    for pattern, convolution in NORMS:
        name = re.sub(pattern, convolution, norm)
        if name != norm and f"{name}/kernel" in params:
            return name
    raise ValueError(f"no convolution belongs to the norm {norm}")


def check_clip_shape(spec: EncoderSpec, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless `shape` is [B, T, H, W, 3] and no smaller than the encoder's strides."""
    if len(shape) != 5 or shape[4] != 3:
        raise ValueError(f"clips of shape {shape} are not [batch, frames, height, width, 3]")
    frames, *size = shape[1:4]
    if frames < spec.min_frames or min(size) < spec.min_size:
        raise ValueError(f"clips of {frames} frames of {size[0]}x{size[1]} are too small: the encoder's strides need "
                         f"at least {spec.min_frames} frames of {spec.min_size}x{spec.min_size}")


def variable_shapes(spec: EncoderSpec, clip_shape: tuple[int, ...]) -> Variables:
    """{"params": ..., "batch_stats": ...} as shapes, all float32; ValueError as `init_variables`."""
    check_clip_shape(spec, clip_shape)
    clips = jax.ShapeDtypeStruct((1, *clip_shape[1:]), jnp.float32)
    return dict(jax.eval_shape(partial(spec.build().init, train=False), jax.random.key(0), clips))


def init_variables(spec: EncoderSpec, key: Array, clip_shape: tuple[int, ...]) -> Variables:
    """Random parameters and fresh statistics, distributed as the modules' own initialisers have it.

    All kernels are cut from one draw: XLA would compile a draw for each kernel for 20 s.

    Args:
      spec: of the encoder.
      key: a PRNG key.
      clip_shape: [B, T, H, W, 3] of the clips that will come; the variables do not depend on B, T, H and W.
    Returns:
      {"params": ..., "batch_stats": ...}, trees of float32 arrays.
    Raises:
      ValueError: the encoder cannot take clips of that shape.
    """
    shapes = traverse_util.flatten_dict(variable_shapes(spec, clip_shape), sep="/")
    total = sum(leaf.size for name, leaf in shapes.items() if name.endswith("/kernel"))
    draw, start, variables = np.asarray(jax.random.normal(key, (total,))), 0, {}
    for name, leaf in sorted(shapes.items()):
        if not name.endswith("/kernel"):
            variables[name] = jnp.full(leaf.shape, FRESH[name.rsplit("/", 1)[1]])
            continue
        values = draw[start:start + leaf.size].reshape(leaf.shape)
        variables[name] = jnp.asarray(values * he_deviation(leaf.shape))
        start += leaf.size
    return traverse_util.unflatten_dict(variables, sep="/")
