"""Inception I3D (Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, figure 3).

Layers keep the names of the published TensorFlow graph, so that weights find their place. Padding is TensorFlow's
"SAME"; batch normalisation has eps 1e-3 and no scale, its running variance is the biased one.
"""
from functools import partial, reduce
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from acx_jax.models.batch_norm import BatchNorm, Folded
from acx_jax.models.conv import ONES, Conv3D, Size, same_padding

Array = jax.Array


class Unit(NamedTuple):
    """A convolution with norm and ReLU: output channels, window and stride, the same along all three axes."""

    channels: int
    window: int
    stride: int = 1


class Pool(NamedTuple):
    """Max pooling over (time, height, width)."""

    window: Size
    strides: Size


class Mixed(NamedTuple):
    """Inception block: channels of the 1x1x1 branch, of two 1x1x1 -> 3x3x3 branches, of the 1x1x1 after the pool."""

    single: int
    first: tuple[int, int]
    second: tuple[int, int]
    pooled: int


STAGES: dict[str, Unit | Pool | Mixed] = {
    "Conv3d_1a_7x7": Unit(64, 7, 2),
    "MaxPool3d_2a_3x3": Pool((1, 3, 3), (1, 2, 2)),
    "Conv3d_2b_1x1": Unit(64, 1),
    "Conv3d_2c_3x3": Unit(192, 3),
    "MaxPool3d_3a_3x3": Pool((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": Mixed(64, (96, 128), (16, 32), 32),
    "Mixed_3c": Mixed(128, (128, 192), (32, 96), 64),
    "MaxPool3d_4a_3x3": Pool((3, 3, 3), (2, 2, 2)),
    "Mixed_4b": Mixed(192, (96, 208), (16, 48), 64),
    "Mixed_4c": Mixed(160, (112, 224), (24, 64), 64),
    "Mixed_4d": Mixed(128, (128, 256), (24, 64), 64),
    "Mixed_4e": Mixed(112, (144, 288), (32, 64), 64),
    "Mixed_4f": Mixed(256, (160, 320), (32, 128), 128),
    "MaxPool3d_5a_2x2": Pool((2, 2, 2), (2, 2, 2)),
    "Mixed_5b": Mixed(256, (160, 320), (32, 128), 128),
    "Mixed_5c": Mixed(384, (192, 384), (48, 128), 128),
}
LOGITS = "Logits"
POOLED_WINDOW = (2, 7, 7)


def max_pool(x: Array, window: Size, strides: Size) -> Array:
    """Largest value of each window of `x` [B, T, H, W, C], "SAME" padding -> [B, T', H', W', C].

    One axis after the other, as maxima of shifted views: on a CPU XLA's windowed maximum is up to 5 times slower, its
    gradient 4 to 20 times. Where values tie, they share the gradient.
    """
    padding = same_padding(x.shape[1:4], window, strides)
    for axis, (size, stride, (low, high)) in enumerate(zip(window, strides, padding, strict=True), start=1):
        x = _max_along(x, axis, size, stride, (low, high))
    return x


def _max_along(x: Array, axis: int, window: int, stride: int, padding: tuple[int, int]) -> Array:
    lowest = jnp.asarray(-jnp.inf, x.dtype)
    x = lax.pad(x, lowest, [(*(padding if i == axis else (0, 0)), 0) for i in range(x.ndim)])
    last = (x.shape[axis] - window) // stride * stride
    return reduce(jnp.maximum, [lax.slice_in_dim(x, i, i + last + 1, stride, axis) for i in range(window)])


class ConvUnit(nn.Module):
    """Convolution without bias, norm, ReLU."""

    unit: Unit
    dtype: Any
    axis_name: str | None
    folded: bool

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """[B, T, H, W, Cin] -> [B, T', H', W', channels]."""
        channels, window, stride = self.unit
        x = Conv3D(channels, (window,) * 3, (stride,) * 3, "SAME", self.folded, self.dtype, name="conv")(x)
        if self.folded:
            return nn.relu(Folded()(x, train=train))
        norm = BatchNorm(1e-3, 0.9, use_scale=False, unbiased=False, axis_name=self.axis_name, dtype=self.dtype, name="norm")
        return nn.relu(norm(x, train=train))


class MixedBlock(nn.Module):
    """Four branches on the same input, concatenated in the channels."""

    mixed: Mixed
    dtype: Any
    axis_name: str | None
    folded: bool

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """[B, T, H, W, Cin] -> [B, T, H, W, sum of the branches' channels]."""
        unit = partial(ConvUnit, dtype=self.dtype, axis_name=self.axis_name, folded=self.folded)
        outputs = [unit(Unit(self.mixed.single, 1), name="Branch_0_0a_1x1")(x, train=train)]
        for branch, (narrow, wide) in enumerate((self.mixed.first, self.mixed.second), start=1):
            y = unit(Unit(narrow, 1), name=f"Branch_{branch}_0a_1x1")(x, train=train)
            outputs.append(unit(Unit(wide, 3), name=f"Branch_{branch}_0b_3x3")(y, train=train))
        pooled = max_pool(x, (3, 3, 3), ONES)
        outputs.append(unit(Unit(self.mixed.pooled, 1), name="Branch_3_0b_1x1")(pooled, train=train))
        return jnp.concatenate(outputs, axis=-1)


class I3D(nn.Module):
    """Inception I3D up to Mixed_5c, with the classifier on request.

    Attributes:
      num_classes: classes of the stage `LOGITS`; None leaves the classifier out.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: mapped axis over which batch statistics are shared, or None.
      last: one of `STAGES`, where the network ends: its features are pooled, what lies behind it is not computed and has no parameters.

    Beside its result an application can give the features after every stage, as `after_<stage>` and `after_pool` of the collection
    `intermediates`, where that is mutable.
    """

    num_classes: int | None = None
    dtype: Any = jnp.float32
    axis_name: str | None = None
    folded: bool = False
    last: str = "Mixed_5c"

    @nn.compact
    def __call__(self, clips: Array, *, train: bool, stage: str | None = None, frozen: str | None = None) -> Array:
        """Features of normalised clips.

        Args:
          clips: [B, T, H, W, 3] floating in [-1, 1].
          train: whether batch statistics are the batch's own (and update the collection `batch_stats`).
          frozen: one of `STAGES`: up to it, nothing is trained: no gradient, running statistics; None trains all.
          stage: one of `STAGES` for the features after it, `LOGITS` for the classifier's, None for the pooled ones.
        Returns:
          [B, 1024] float32 (as many as `last` has channels), the mean over time and space; with a stage of `STAGES` [B, T', H', W', C] of `dtype`;
          with `LOGITS` [B, num_classes] float32.
        Raises:
          ValueError: no such stage, or a clip too short or too small for the classifier.
        """
        if stage is not None and stage not in (*STAGES, *([LOGITS] if self.num_classes else [])):
            raise ValueError(f"stage {stage!r} is not one of {(*STAGES, LOGITS)}, or there is no classifier")
        x, training = clips, train and frozen is None
        for name, step in STAGES.items():
            x = self._step(x, name, step, training)
            if frozen == name:
                x, training = lax.stop_gradient(x), train
            self.sow("intermediates", f"after_{name}", x)
            if stage == name:
                return x
            if self.last == name:
                break
        pooled = x.astype(jnp.float32).mean((1, 2, 3))
        self.sow("intermediates", "after_pool", pooled)
        return self._classify(x) if stage == LOGITS else pooled

    def _step(self, x: Array, name: str, step: Unit | Pool | Mixed, train: bool) -> Array:
        if isinstance(step, Pool):
            return max_pool(x, *step)
        make = ConvUnit if isinstance(step, Unit) else MixedBlock
        return make(step, self.dtype, self.axis_name, self.folded, name=name)(x, train=train)

    def _classify(self, x: Array) -> Array:
        if any(n < k for n, k in zip(x.shape[1:4], POOLED_WINDOW, strict=True)):
            raise ValueError(f"the classifier pools {POOLED_WINDOW}, features are {x.shape}: 16 frames of 224x224 do")
        x = nn.avg_pool(x, POOLED_WINDOW, strides=ONES, padding="VALID")
        x = Conv3D(self.num_classes, ONES, use_bias=True, dtype=self.dtype, name=LOGITS)(x)
        return x.astype(jnp.float32).mean((1, 2, 3))
