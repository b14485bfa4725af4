"""The meta context perception module (MCPM): a graph over the clips of a segment, classified.

Sun, Zhang, Wen, Shi, Xu, "Anomaly Crossing" (arXiv 2112.06320); its block follows GCNeXt of Xu et al., "G-TAD" (CVPR 2020).
Padding is invisible: a masked node changes nothing, in the output or in the gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd, sqrt

import flax.linen as nn
import jax
import jax.numpy as jnp

from acx_jax.models.neighbours import of_neighbours

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

    `follows` bool [..., N]: whether a node has the one before it for a neighbour. Needed for more taps than one, which are three.
    The parameter `kernel` is [groups, taps, C / groups, features / groups].
    """

    features: int
    groups: int
    taps: int = 3

    @nn.compact
    def __call__(self, x: jax.Array, follows: jax.Array | None = None) -> jax.Array:
        inputs, outputs = x.shape[-1] // self.groups, self.features // self.groups
        init = uniform_fan_in(self.taps * inputs)
        kernel = self.param("kernel", init, (self.groups, self.taps, inputs, outputs))
        bias = self.param("bias", init, (self.features,))
        kernel = _merge_groups(kernel, min(self.groups, max(1, MERGED_WIDTH // outputs)))
        products = _grouped_product(x, kernel)  # [..., N, groups, taps * outputs]
        taps = products.reshape(*products.shape[:-1], self.taps, -1)
        if self.taps == 1:
            return taps.reshape(*x.shape[:-1], self.features) + bias
        before, own, after = (taps[..., tap, :].reshape(*x.shape[:-1], self.features) for tap in range(3))
        return own + _from_before(before, follows) + _from_after(after, follows) + bias


def _from_before(x: jax.Array, follows: jax.Array) -> jax.Array:
    """Node n of the result is node n - 1 of x [..., N, C] where n follows it, else zero."""
    padding = ((0, 0),) * (x.ndim - 2)
    return jnp.pad(x[..., :-1, :], (*padding, (1, 0), (0, 0))) * follows[..., None]


def _from_after(x: jax.Array, follows: jax.Array) -> jax.Array:
    """Node n of the result is node n + 1 of x [..., N, C] where that follows n, else zero."""
    padding = ((0, 0),) * (x.ndim - 2)
    return jnp.pad((x * follows[..., None])[..., 1:, :], (*padding, (0, 1), (0, 0)))


def _rows(x: jax.Array, product: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Applies a product to x [..., C] as one matrix of rows [R, C]: XLA's CPU products of more axes take twice as long."""
    out = product(x.reshape(-1, x.shape[-1]))
    return out.reshape(*x.shape[:-1], out.shape[-1])


def _grouped_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[..., G * I] x [G, I, O] -> [..., G, O], groups in front: XLA's CPU products with groups behind the rows take four times as long."""
    rows = x.reshape(-1, *kernel.shape[:2]).swapaxes(0, 1)
    products = jnp.einsum("gni,gio->gno", rows, kernel)
    return products.swapaxes(0, 1).reshape(*x.shape[:-1], *products.shape[::2])


def _merge_groups(kernel: jax.Array, merge: int) -> jax.Array:
    """[G, taps, I, O] -> block-diagonal [G / merge, merge * I, taps * merge * O]: products of 4 channels waste the hardware."""
    groups, taps, inputs, outputs = kernel.shape
    merge = gcd(groups, merge)
    blocks = kernel.reshape(groups // merge, merge, taps, inputs, outputs)
    diagonal = jnp.einsum("gmtio,mn->gmitno", blocks, jnp.eye(merge, dtype=kernel.dtype))
    return diagonal.reshape(groups // merge, merge * inputs, taps * merge * outputs)


class ContextBlock(nn.Module):
    """Temporal and semantic edges mix the context of the nodes: [..., N, H], segment int [..., N] -> [..., N, H]."""

    groups: int = 32
    neighbours: int = 5
    scaled_paths: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, segment: jax.Array) -> jax.Array:
        temporal, semantic = self._temporal(x, segment), self._semantic(x, segment)
        if self.scaled_paths:
            a, b, c = self.param("scales", nn.initializers.ones, (3,))
            x, temporal, semantic = a * x, b * temporal, c * semantic
        return nn.relu(x + temporal + semantic)

    def _temporal(self, x: jax.Array, segment: jax.Array) -> jax.Array:
        width = self.groups * GROUP_WIDTH
        hidden = nn.relu(NodeLinear(width, name="temporal_in")(x))
        hidden = nn.relu(GroupedConv(width, self.groups, name="temporal_conv")(hidden, follows_in(segment)))
        return NodeLinear(x.shape[-1], name="temporal_out")(hidden)

    def _semantic(self, x: jax.Array, segment: jax.Array) -> jax.Array:
        """The layer over concat(neighbour, node) is a sum of two products over nodes, gathered afterwards."""
        width = self.groups * GROUP_WIDTH
        init = uniform_fan_in(2 * x.shape[-1])
        kernel = self.param("semantic_in_kernel", init, (2 * x.shape[-1], width))
        bias = self.param("semantic_in_bias", init, (width,))
        of_neighbour = _rows(x, lambda rows: rows @ kernel[: x.shape[-1]])
        of_node = _rows(x, lambda rows: rows @ kernel[x.shape[-1]:]) + bias
        edges, valid = of_neighbours(of_neighbour, x, segment, k=self.neighbours)
        edges = nn.relu(edges + of_node[..., None, :])
        edges = nn.relu(GroupedConv(width, self.groups, taps=1, name="semantic_group")(edges))
        edges = NodeLinear(x.shape[-1], name="semantic_out")(edges)
        return jnp.max(jnp.where(valid[..., None], edges, -jnp.inf), axis=-2)


class ContextHead(nn.Module):
    """Segment graphs to class scores: nodes [..., N, P], mask bool [..., N] -> logits [..., way].

    `packed` does the same for several segments that lie one after the other along the nodes.
    """

    way: int = 2
    hidden: int = 128
    groups: int = 32
    neighbours: int = 5
    blocks: int = 1
    pool: str = "mean"
    scaled_paths: bool = False

    def __call__(self, nodes: jax.Array, mask: jax.Array, *, pooled: bool = False) -> jax.Array:
        """With `pooled`, the pooled nodes [..., hidden] that the classifier sees."""
        return self.packed(nodes, jnp.where(mask, 0, -1), segments=1, pooled=pooled)[..., 0, :]

    @nn.compact
    def packed(self, nodes: jax.Array, segment: jax.Array, *, segments: int, pooled: bool = False) -> jax.Array:
        """nodes [..., N, P], segment int [..., N] -> logits [..., segments, way], or with `pooled` [..., segments, hidden].

        segment: the number, 0 .. segments - 1, of the segment that a node belongs to; -1 for padding. The nodes of a segment
        follow each other. What is said of a segment without nodes is finite and means nothing.
        """
        x = nodes * (segment >= 0)[..., None]
        x = nn.relu(GroupedConv(self.hidden, STEM_GROUPS, name="stem")(x, follows_in(segment)))
        for i in range(self.blocks):
            x = ContextBlock(self.groups, self.neighbours, self.scaled_paths, name=f"block{i}")(x, segment)
        x = _pool(x, segment, segments, self.pool)
        return x if pooled else NodeLinear(self.way, name="classifier")(x)


def follows_in(segment: jax.Array) -> jax.Array:
    """bool [..., N]: whether node n belongs to the segment of node n - 1. segment: int [..., N], -1 for padding."""
    same = (segment[..., 1:] == segment[..., :-1]) & (segment[..., 1:] >= 0)
    return jnp.pad(same, (*((0, 0),) * (segment.ndim - 1), (1, 0)))


def _pool(x: jax.Array, segment: jax.Array, segments: int, how: str) -> jax.Array:
    """[..., N, H] -> [..., segments, H]."""
    members = segment[..., None, :] == jnp.arange(segments)[:, None]
    if how == "max":
        most = jnp.max(jnp.where(members[..., None], x[..., None, :, :], -jnp.inf), axis=-2)
        return jnp.where(members.any(axis=-1, keepdims=True), most, 0.0)
    return members.astype(x.dtype) @ x / jnp.maximum(jnp.sum(members, axis=-1, keepdims=True), 1)
