"""The meta context perception module (MCPM): a graph over the clips of a segment, classified.

Sun, Zhang, Wen, Shi, Xu, "Anomaly Crossing" (arXiv 2112.06320); its block follows GCNeXt of Xu et al., "G-TAD" (CVPR 2020).
Padding is invisible: a masked node changes nothing, in the output or in the gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import gcd, sqrt

import flax.linen as nn
import jax
import jax.numpy as jnp

from acx_jax.models.neighbours import nearest_neighbours

GROUP_WIDTH = 4  # channels a group of the inner convolutions
STEM_GROUPS = 4
MERGED_WIDTH = 32  # output channels that the groups of one product have together


def uniform_fan_in(fan_in: int) -> Callable[..., jax.Array]:
    """Uniform in +-1 / sqrt(fan_in), PyTorch's default for weights and biases of linear and convolution layers."""
    bound = 1 / sqrt(fan_in)
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


class NodeLinear(nn.Module):
    """A 1x1 convolution: [..., C] -> [..., features]."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = uniform_fan_in(x.shape[-1])
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        return _rows(x, lambda rows: rows @ kernel) + self.param("bias", init, (self.features,))


class GroupedConv(nn.Module):
    """A 1-D convolution along the nodes in channel groups, zero padding: [..., N, C] -> [..., N, features].

    The parameter `kernel` is [groups, taps, C / groups, features / groups].
    """

    features: int
    groups: int
    taps: int = 3

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        inputs, outputs = x.shape[-1] // self.groups, self.features // self.groups
        init = uniform_fan_in(self.taps * inputs)
        kernel = self.param("kernel", init, (self.groups, self.taps, inputs, outputs))
        bias = self.param("bias", init, (self.features,))
        kernel = _merge_groups(kernel, min(self.groups, max(1, MERGED_WIDTH // outputs)))
        shape = (*x.shape[:-1], kernel.shape[0], kernel.shape[1] // self.taps)
        shifted = [_shift(x, tap - self.taps // 2).reshape(shape) for tap in range(self.taps)]
        return _grouped_product(jnp.concatenate(shifted, axis=-1), kernel) + bias


def _rows(x: jax.Array, product: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Applies a product to x [..., C] as one matrix of rows [R, C]: XLA's CPU products of more axes take twice as long."""
    out = product(x.reshape(-1, x.shape[-1]))
    return out.reshape(*x.shape[:-1], out.shape[-1])


def _grouped_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[..., G, I] x [G, I, O] -> [..., G * O], groups in front: XLA's CPU products with groups behind the rows take four times as long."""
    rows = x.reshape(-1, *x.shape[-2:]).swapaxes(0, 1)
    products = jnp.einsum("gni,gio->gno", rows, kernel)
    return products.swapaxes(0, 1).reshape(*x.shape[:-2], -1)


def _merge_groups(kernel: jax.Array, merge: int) -> jax.Array:
    """[G, taps, I, O] -> block-diagonal [G / merge, taps * merge * I, merge * O]: products of 4 channels waste the hardware."""
    groups, taps, inputs, outputs = kernel.shape
    merge = gcd(groups, merge)
    blocks = kernel.reshape(groups // merge, merge, taps, inputs, outputs)
    diagonal = jnp.einsum("gmtio,mn->gtmino", blocks, jnp.eye(merge, dtype=kernel.dtype))
    return diagonal.reshape(groups // merge, taps * merge * inputs, merge * outputs)


def _shift(x: jax.Array, by: int) -> jax.Array:
    """Node n of the result is node n + by of x [..., N, C], zero beyond the ends."""
    if by == 0:
        return x
    padded = jnp.pad(x, (*((0, 0),) * (x.ndim - 2), (max(-by, 0), max(by, 0)), (0, 0)))
    return jax.lax.slice_in_dim(padded, max(by, 0), max(by, 0) + x.shape[-2], axis=-2)


class ContextBlock(nn.Module):
    """Temporal and semantic edges mix the context of the nodes: [..., N, H], mask [..., N] -> [..., N, H]."""

    groups: int = 32
    neighbours: int = 5
    scaled_paths: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        temporal, semantic = self._temporal(x, mask), self._semantic(x, mask)
        if self.scaled_paths:
            a, b, c = self.param("scales", nn.initializers.ones, (3,))
            x, temporal, semantic = a * x, b * temporal, c * semantic
        return nn.relu(x + temporal + semantic) * mask[..., None]

    def _temporal(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        width = self.groups * GROUP_WIDTH
        hidden = nn.relu(NodeLinear(width, name="temporal_in")(x)) * mask[..., None]
        hidden = nn.relu(GroupedConv(width, self.groups, name="temporal_conv")(hidden))
        return NodeLinear(x.shape[-1], name="temporal_out")(hidden)

    def _semantic(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """The layer over concat(neighbour, node) is a sum of two products over nodes, gathered afterwards."""
        width = self.groups * GROUP_WIDTH
        init = uniform_fan_in(2 * x.shape[-1])
        kernel = self.param("semantic_in_kernel", init, (2 * x.shape[-1], width))
        bias = self.param("semantic_in_bias", init, (width,))
        of_neighbour = _rows(x, lambda rows: rows @ kernel[: x.shape[-1]])
        of_node = _rows(x, lambda rows: rows @ kernel[x.shape[-1]:]) + bias
        nearest = jnp.vectorize(partial(nearest_neighbours, k=self.neighbours), signature="(n,d),(n)->(n,j,n),(n,j)")
        picks, valid = nearest(jax.lax.stop_gradient(x), mask)
        edges = nn.relu(jnp.einsum("...njm,...mc->...njc", picks.astype(x.dtype), of_neighbour) + of_node[..., None, :])
        edges = nn.relu(GroupedConv(width, self.groups, taps=1, name="semantic_group")(edges))
        edges = NodeLinear(x.shape[-1], name="semantic_out")(edges)
        edges = jnp.where(valid[..., None], edges, -jnp.inf)
        return jnp.where(mask[..., None], jnp.max(edges, axis=-2), 0.0)


class ContextHead(nn.Module):
    """Segment graphs to class scores: nodes [..., N, P], mask [..., N] -> logits [..., way]."""

    way: int = 2
    hidden: int = 128
    groups: int = 32
    neighbours: int = 5
    blocks: int = 1
    pool: str = "mean"
    scaled_paths: bool = False

    @nn.compact
    def __call__(self, nodes: jax.Array, mask: jax.Array, *, pooled: bool = False) -> jax.Array:
        """With `pooled`, the pooled nodes [..., hidden] that the classifier sees."""
        x = nodes * mask[..., None]
        x = nn.relu(GroupedConv(self.hidden, STEM_GROUPS, name="stem")(x)) * mask[..., None]
        for i in range(self.blocks):
            block = ContextBlock(self.groups, self.neighbours, self.scaled_paths, name=f"block{i}")
            x = block(x, mask)
        x = _pool(x, mask, self.pool)
        return x if pooled else NodeLinear(self.way, name="classifier")(x)


def _pool(x: jax.Array, mask: jax.Array, how: str) -> jax.Array:
    if how == "max":
        return jnp.max(jnp.where(mask[..., None], x, -jnp.inf), axis=-2)
    return jnp.sum(x * mask[..., None], axis=-2) / jnp.sum(mask, axis=-1, keepdims=True)
