"""3-D residual networks for video: R(2+1)D, R3D and MC3 (Tran et al., "A Closer Look at Spatiotemporal Convolutions
for Action Recognition", CVPR 2018), one construction whose variants are data.

The published encoder is R(2+1)D-34 pretrained on IG65M (Ghadiyaram et al. 2019). Paddings, initialisation and the
counts of middle planes are those of the networks whose weights are published.
"""
from functools import partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from acx_jax.models.batch_norm import BatchNorm, Folded
from acx_jax.models.conv import Conv3D, Size
from acx_jax.models.i3d import LOGITS

Array = jax.Array
Kind = Literal["factored", "full", "spatial"]

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")


class Variant(NamedTuple):
    """What tells one residual network from another.

    Attributes:
      depths: blocks of each layer.
      widths: planes of each layer.
      stem: kind of the first convolution.
      kinds: kind of the convolutions of each layer: "factored" is (1, 3, 3) then (3, 1, 1), "full" (3, 3, 3), "spatial" (1, 3, 3).
      own_middle: each factored convolution has the middle planes that its own planes ask for, not those of its block.
      eps, momentum: of batch normalisation; the share of old statistics kept.
    """

    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    stem: Kind
    kinds: tuple[Kind, Kind, Kind, Kind]
    own_middle: bool = False
    eps: float = 1e-5
    momentum: float = 0.9


FACTORED = ("factored",) * 4
WIDTHS = (64, 128, 256, 512)
VARIANTS = {
    "r2plus1d_tiny": Variant((1, 1, 1, 1), (16, 32, 64, 128), "factored", FACTORED),
    "r2plus1d_18": Variant((2, 2, 2, 2), WIDTHS, "factored", FACTORED),
    "r2plus1d_34": Variant((3, 4, 6, 3), WIDTHS, "factored", FACTORED, own_middle=True, eps=1e-3, momentum=0.1),
    "r3d_18": Variant((2, 2, 2, 2), WIDTHS, "full", ("full",) * 4),
    "mc3_18": Variant((2, 2, 2, 2), WIDTHS, "full", ("full", "spatial", "spatial", "spatial")),
}


class Form(NamedTuple):
    """A published set of weights of one variant: what it was trained on, frames of its clips, classes of its classifier."""

    variant: str
    data: str
    frames: int
    classes: int


# The forms of one variant differ in nothing but the classifier and the length of clips they were trained on.
FORMS = (
    Form("r2plus1d_34", "IG65M", 8, 487),
    Form("r2plus1d_34", "IG65M", 32, 359),
    Form("r2plus1d_34", "IG65M, then Kinetics-400", 8, 400),
    Form("r2plus1d_34", "IG65M, then Kinetics-400", 32, 400),
    Form("r2plus1d_18", "Kinetics-400", 16, 400),
    Form("r3d_18", "Kinetics-400", 16, 400),
    Form("mc3_18", "Kinetics-400", 16, 400),
)


def middle_planes(cin: int, cout: int) -> int:
    """Planes that give a factored 3x3x3 convolution the parameters of a full one (Tran et al. 2018, section 3.5)."""
    return 27 * cin * cout // (9 * cin + 3 * cout)


def convolution(kind: Kind, window: int, stride: int) -> tuple[Size, Size]:
    """Window and strides over (T, H, W) of a full or spatial convolution."""
    time = 3 if kind == "full" else 1
    return (time, window, window), (stride if kind == "full" else 1, stride, stride)


class FactoredConv(nn.Module):
    """A (1, w, w) convolution to `middle` planes with the spatial stride, norm, ReLU, (3, 1, 1) with the temporal one."""

    features: int
    middle: int
    window: int
    strides: Size
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """[B, T, H, W, Cin] -> [B, T', H', W', features]."""
        half = self.window // 2
        x = self.conv(self.middle, (1, self.window, self.window), (1, *self.strides[1:]),
                      ((0, 0), (half, half), (half, half)), name="spatial")(x)
        x = nn.relu(self.norm(name="norm")(x, train=train))
        return self.conv(self.features, (3, 1, 1), (self.strides[0], 1, 1), ((1, 1), (0, 0), (0, 0)), name="temporal")(x)


class Block(nn.Module):
    """Convolution, norm, ReLU, convolution, norm, added to the shortcut, ReLU (He et al. 2016, figure 2)."""

    features: int
    kind: Kind
    stride: int
    own_middle: bool
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """[B, T, H, W, Cin] -> [B, T', H', W', features]."""
        middles = [middle_planes(x.shape[-1], self.features)] * 2
        if self.own_middle:
            middles[1] = middle_planes(self.features, self.features)
        y = self._convolve(x, "conv1", self.stride, middles[0], train)
        y = nn.relu(self.norm(name="norm1")(y, train=train))
        y = self._convolve(y, "conv2", 1, middles[1], train)
        y = self.norm(name="norm2")(y, train=train)
        return nn.relu(y + self._shortcut(x, train))

    def _convolve(self, x: Array, name: str, stride: int, middle: int, train: bool) -> Array:
        if self.kind == "factored":
            factored = FactoredConv(self.features, middle, 3, (stride,) * 3, self.conv, self.norm, name=name)
            return factored(x, train=train)
        window, strides = convolution(self.kind, 3, stride)
        return self.conv(self.features, window, strides, tuple((k // 2, k // 2) for k in window), name=name)(x)

    def _shortcut(self, x: Array, train: bool) -> Array:
        if self.stride == 1 and x.shape[-1] == self.features:
            return x
        strides = (1 if self.kind == "spatial" else self.stride, self.stride, self.stride)
        x = self.conv(self.features, (1, 1, 1), strides, ((0, 0),) * 3, name="shortcut")(x)
        return self.norm(name="shortcut_norm")(x, train=train)


class ResNet3D(nn.Module):
    """A residual network of `VARIANTS`.

    Attributes:
      variant: which.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: mapped axis over which batch statistics are shared, or None.
      num_classes: classes of the stage `LOGITS`; None leaves the classifier out.
      last: one of `STAGES`, where the network ends: its features are pooled, what lies behind it is not computed and has no parameters.

    Beside its result an application can give the features after every stage, as `after_<stage>` and `after_pool` of the collection
    `intermediates`, where that is mutable.
    """

    variant: Variant
    dtype: Any = jnp.float32
    axis_name: str | None = None
    folded: bool = False
    num_classes: int | None = None
    last: str = "layer4"

    @nn.compact
    def __call__(self, clips: Array, *, train: bool, stage: str | None = None, frozen: str | None = None) -> Array:
        """Features of normalised clips.

        Args:
          clips: [B, T, H, W, 3] floating, normalised.
          train: whether batch statistics are the batch's own (and update the collection `batch_stats`).
          frozen: one of `STAGES`: up to it, nothing is trained: no gradient, running statistics; None trains all.
          stage: one of `STAGES` for the features after it, `LOGITS` for the classifier's, None for the pooled ones.
        Returns:
          [B, P] float32, the mean over time and space; with a stage of `STAGES` [B, T', H', W', C] of `dtype`; with `LOGITS`
          [B, num_classes] float32.
        Raises:
          ValueError: no such stage.
        """
        if stage is not None and stage not in (*STAGES, *([LOGITS] if self.num_classes else [])):
            raise ValueError(f"stage {stage!r} is not one of {(*STAGES, LOGITS)}, or there is no classifier")
        training = train and frozen is None
        x = self._stem(clips, training)
        for name, index in zip(STAGES, range(-1, 4), strict=True):
            x = x if index < 0 else self._layer(x, index, training)
            if frozen == name:
                x, training = lax.stop_gradient(x), train
            self.sow("intermediates", f"after_{name}", x)
            if stage == name:
                return x
            if self.last == name:
                break
        x = x.astype(jnp.float32).mean((1, 2, 3))
        self.sow("intermediates", "after_pool", x)
        return nn.Dense(self.num_classes, name="fc")(x) if stage == LOGITS else x

    def _parts(self) -> dict[str, Any]:
        variant = self.variant
        if self.folded:
            return dict(conv=partial(Conv3D, use_bias=True, dtype=self.dtype), norm=Folded)
        norm = partial(BatchNorm, eps=variant.eps, momentum=variant.momentum, axis_name=self.axis_name, dtype=self.dtype)
        return dict(conv=partial(Conv3D, dtype=self.dtype), norm=norm)

    def _stem(self, clips: Array, train: bool) -> Array:
        parts, features = self._parts(), self.variant.widths[0]
        if self.variant.stem == "factored":
            x = FactoredConv(features, 45, 7, (1, 2, 2), **parts, name="stem")(clips, train=train)
        else:
            x = parts["conv"](features, (3, 7, 7), (1, 2, 2), ((1, 1), (3, 3), (3, 3)), name="stem")(clips)
        return nn.relu(parts["norm"](name="stem_norm")(x, train=train))

    def _layer(self, x: Array, index: int, train: bool) -> Array:
        variant = self.variant
        for block in range(variant.depths[index]):
            stride = 2 if index > 0 and block == 0 else 1
            make = partial(Block, variant.widths[index], variant.kinds[index], stride, variant.own_middle)
            x = make(**self._parts(), name=f"layer{index + 1}_block{block}")(x, train=train)
        return x
