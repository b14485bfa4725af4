"""The encoders as PyTorch modules, [B, 3, T, H, W] -> [B, P]. Parts are named as in acx_jax, so that variables carry over by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from flax import traverse_util
from torch import Tensor, nn

from acx_jax.models import i3d, resnet3d
from acx_jax.models.conv import same_padding

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


class Factored(nn.Module):
    """(1, w, w) convolution, norm, ReLU, (3, 1, 1) convolution."""

    def __init__(self, cin: int, middle: int, cout: int, window: int, strides: tuple[int, int, int], norm: dict[str, float]):
        super().__init__()
        half = window // 2
        self.spatial = nn.Conv3d(cin, middle, (1, window, window), (1, *strides[1:]), (0, half, half), bias=False)
        self.norm = nn.BatchNorm3d(middle, **norm)
        self.temporal = nn.Conv3d(middle, cout, (3, 1, 1), (strides[0], 1, 1), (1, 0, 0), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.temporal(F.relu(self.norm(self.spatial(x))))


class Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, cin: int, cout: int, kind: str, stride: int, own_middle: bool, norm: dict[str, float]):
        super().__init__()
        middle = resnet3d.middle_planes(cin, cout)
        second = resnet3d.middle_planes(cout, cout) if own_middle else middle
        self.conv1, self.norm1 = _convolution(kind, cin, middle, cout, stride, norm), nn.BatchNorm3d(cout, **norm)
        self.conv2, self.norm2 = _convolution(kind, cout, second, cout, 1, norm), nn.BatchNorm3d(cout, **norm)
        self.shortcut = None
        if stride > 1 or cin != cout:
            strides = (1 if kind == "spatial" else stride, stride, stride)
            self.shortcut, self.shortcut_norm = nn.Conv3d(cin, cout, 1, strides, bias=False), nn.BatchNorm3d(cout, **norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + (x if self.shortcut is None else self.shortcut_norm(self.shortcut(x))))


def _convolution(kind: str, cin: int, middle: int, cout: int, stride: int, norm: dict[str, float]) -> nn.Module:
    if kind == "factored":
        return Factored(cin, middle, cout, 3, (stride,) * 3, norm)
    window, strides = resnet3d.convolution(kind, 3, stride)
    return nn.Conv3d(cin, cout, window, strides, tuple(k // 2 for k in window), bias=False)


class ResNet(nn.Module):
    """A residual network of `resnet3d.VARIANTS`."""

    def __init__(self, variant: resnet3d.Variant):
        super().__init__()
        norm, width = {"eps": variant.eps, "momentum": 1 - variant.momentum}, variant.widths[0]
        factored = variant.stem == "factored"
        self.stem = (Factored(3, 45, width, 7, (1, 2, 2), norm) if factored
                     else nn.Conv3d(3, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False))
        self.stem_norm = nn.BatchNorm3d(width, **norm)
        self.order = []
        for layer, (depth, planes, kind) in enumerate(zip(variant.depths, variant.widths, variant.kinds, strict=True)):
            for block in range(depth):
                self.order.append(f"layer{layer + 1}_block{block}")
                stride = 2 if layer > 0 and block == 0 else 1
                self.add_module(self.order[-1], Block(width, planes, kind, stride, variant.own_middle, norm))
                width = planes

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x)))
        for name in self.order:
            x = getattr(self, name)(x)
        return x.mean((2, 3, 4))


class Unit(nn.Module):
    """Convolution with "SAME" padding, norm without a scale, ReLU."""

    def __init__(self, cin: int, unit: i3d.Unit):
        super().__init__()
        self.unit = unit
        self.conv = nn.Conv3d(cin, unit.channels, unit.window, unit.stride, bias=False)
        self.norm = nn.BatchNorm3d(unit.channels, eps=1e-3, momentum=0.1)

    def forward(self, x: Tensor) -> Tensor:
        padding = same_padding(tuple(x.shape[2:]), (self.unit.window,) * 3, (self.unit.stride,) * 3)
        if all(low == high for low, high in padding):
            y = F.conv3d(x, self.conv.weight, None, self.unit.stride, tuple(low for low, _ in padding))
        else:
            y = self.conv(F.pad(x, _flat(padding)))
        return F.relu(self.norm(y))


class Mixed(nn.Module):
    """Inception block."""

    def __init__(self, cin: int, mixed: i3d.Mixed):
        super().__init__()
        self.Branch_0_0a_1x1 = Unit(cin, i3d.Unit(mixed.single, 1))
        for branch, (narrow, wide) in enumerate((mixed.first, mixed.second), start=1):
            self.add_module(f"Branch_{branch}_0a_1x1", Unit(cin, i3d.Unit(narrow, 1)))
            self.add_module(f"Branch_{branch}_0b_3x3", Unit(narrow, i3d.Unit(wide, 3)))
        self.Branch_3_0b_1x1 = Unit(cin, i3d.Unit(mixed.pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.Branch_0_0a_1x1(x), self.Branch_1_0b_3x3(self.Branch_1_0a_1x1(x)),
                          self.Branch_2_0b_3x3(self.Branch_2_0a_1x1(x)), self.Branch_3_0b_1x1(F.max_pool3d(x, 3, 1, 1))], 1)


class Inception(nn.Module):
    """I3D up to Mixed_5c, pooled."""

    def __init__(self) -> None:
        super().__init__()
        cin = 3
        for name, step in i3d.STAGES.items():
            if isinstance(step, i3d.Unit):
                self.add_module(name, Unit(cin, step))
                cin = step.channels
            elif isinstance(step, i3d.Mixed):
                self.add_module(name, Mixed(cin, step))
                cin = step.single + step.first[1] + step.second[1] + step.pooled

    def forward(self, x: Tensor) -> Tensor:
        for name, step in i3d.STAGES.items():
            x = _pool(x, step) if isinstance(step, i3d.Pool) else getattr(self, name)(x)
        return x.mean((2, 3, 4))


def _pool(x: Tensor, pool: i3d.Pool) -> Tensor:
    padding = same_padding(tuple(x.shape[2:]), pool.window, pool.strides)
    if any(low or high for low, high in padding):
        x = F.pad(x, _flat(padding), value=-torch.inf)
    return F.max_pool3d(x, pool.window, pool.strides)


def _flat(padding: Any) -> tuple[int, ...]:
    return tuple(n for pair in reversed(padding) for n in pair)  # F.pad counts axes from the last


def build(arch: str, variables: Any) -> nn.Module:
    """The network `arch` in evaluation mode with acx_jax's `variables` for it, every one of which must find its place."""
    network = Inception() if arch == "i3d" else ResNet(resnet3d.VARIANTS[arch])
    entries = {}
    for collection in ("params", "batch_stats"):
        for name, value in traverse_util.flatten_dict(dict(variables[collection]), sep=".").items():
            module, _, leaf = name.rpartition(".")
            value = np.array(value)
            entries[f"{module}.{LEAVES[leaf]}"] = torch.from_numpy(value.transpose(4, 3, 0, 1, 2).copy() if value.ndim == 5 else value)
    missing, unexpected = network.load_state_dict(entries, strict=False)
    scales = {name for name in missing if arch == "i3d" and name.endswith("norm.weight")}  # I3D's norms have none: 1
    left = set(missing) - scales - {name for name in missing if name.endswith("num_batches_tracked")}
    if left or unexpected:
        raise ValueError(f"{arch}: {len(left)} entries missing, {len(unexpected)} left over: {sorted(left | set(unexpected))[:3]}")
    return network.eval()
