"""The context head under the names and layouts of the published PyTorch module."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from flax import traverse_util

from acx_jax.models.context_perception import STEM_GROUPS

BLOCKS = {"backbone1.2": "block0", "backbone2.0": "block1"}
SCALES = "sacle"  # spelt so in the published code
_LAYERS = {"tconvs.0": "temporal_in", "tconvs.2": "temporal_conv", "tconvs.4": "temporal_out",
           "sconvs.0": "semantic_in", "sconvs.2": "semantic_group", "sconvs.4": "semantic_out"}
_GROUPED = ("temporal_conv", "semantic_group")
MODULES: dict[str, tuple[str, ...]] = {"backbone1.0": ("stem",), "last_layer": ("classifier",)} | {
    f"{block}.{layer}": (BLOCKS[block], _LAYERS[layer]) for block in BLOCKS for layer in _LAYERS}


def head_entry(name: str, value: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """The path in the params of `ContextHead` of PyTorch's entry `name`, and its array in our layout.

    A convolution [out, in / groups, taps] or [out, in / groups, 1, 1] becomes [groups, taps, in / groups, out / groups], or [in, out]
    where it has one group and one tap. Raises KeyError for a name that is not the head's.
    """
    module, _, leaf = name.rpartition(".")
    if leaf == SCALES:
        return (BLOCKS[module], "scales"), value
    path, kind = MODULES[module], {"weight": "kernel", "bias": "bias"}[leaf]
    if kind == "kernel":
        groups = STEM_GROUPS if path == ("stem",) else value.shape[0] // value.shape[1] if path[-1] in _GROUPED else 0
        value = _grouped(value, groups) if groups else value.reshape(value.shape[:2]).T
    if path[-1] == "semantic_in":  # its kernel is used in two halves, so that it is no layer of its own
        return (path[0], f"semantic_in_{kind}"), value
    return (*path, kind), value


def _grouped(value: np.ndarray, groups: int) -> np.ndarray:
    out, inputs = value.shape[:2]
    return value.reshape(groups, out // groups, inputs, -1).transpose(0, 3, 2, 1)


def head_params(state_dict: Mapping[str, np.ndarray], *, scaled_paths: bool) -> dict:
    """{"params": ...} of a `ContextHead` from a PyTorch state dict, whose path scales are left out unless they are used."""
    entries = [head_entry(name, value) for name, value in state_dict.items() if scaled_paths or not name.endswith(f".{SCALES}")]
    return {"params": traverse_util.unflatten_dict(dict(entries))}
