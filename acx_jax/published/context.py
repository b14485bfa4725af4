"""The context head: logits, pooled features, losses, gradients, and a short training."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from acx_jax.contracts import Graphs, Support
from acx_jax.errors import WorkError
from acx_jax.fewshot.fit import fit_in_order, mean_cross_entropy
from acx_jax.models.context_perception import GROUP_WIDTH, ContextHead
from acx_jax.models.weight_match import find_weights, to_tree
from acx_jax.models.weight_names import CONTEXT_HEAD
from acx_jax.published.bundle import SEED_FILE, Arrays, Bundle, Check
from acx_jax.published.measured import Measured, measured, not_recorded, torch_entries

SHAPES = "mcp_shapes.json"
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {}, "two_blocks": {}, "max_fuse": {"pool": "max"}, "k3": {"neighbours": 3}, "scaled": {"scaled_paths": True}}
OUTPUTS, GRADIENTS, FIRST_LOSSES = 1e-4, 2e-3, 1e-2
HELD_STEPS = 6  # training amplifies rounding: later losses differ between any two float32 programs (on one CPU the eighth is 1.4 % off, 0.4 % in float64)
TRAINING_BATCH, LEARNING_RATE = 4, 0.01


class Recorded(NamedTuple):
    """A head and the weights of its recorded run."""

    head: ContextHead
    params: dict


def recorded_head(bundle: Bundle, variant: str) -> Recorded:
    """The head of a variant; its sizes come from the shapes of its state dict."""
    shapes = bundle.json(SHAPES)[variant]
    way, hidden = shapes["last_layer.weight"]
    head = ContextHead(way=way, hidden=hidden, groups=shapes["backbone1.2.tconvs.2.weight"][0] // GROUP_WIDTH,
                       blocks=1 + any(name.startswith("backbone2.") for name in shapes), **VARIANTS[variant])
    used = {name: shape for name, shape in shapes.items() if head.scaled_paths or not name.endswith(".sacle")}  # spelt so there
    return Recorded(head, to_tree(find_weights(bundle.parameters(used), CONTEXT_HEAD, SHAPES)))


def head_outputs(variant: str, bundle: Bundle) -> Iterator[Measured]:
    """Outputs at every recorded number of nodes, alone and padded to the largest, and gradients of the loss."""
    head, params = recorded_head(bundle, variant)
    arrays = bundle.arrays(f"mcp_{variant}.npz")
    counts = sorted(int(name[1:]) for name in arrays if re.fullmatch(r"x\d+", name))
    if not counts:
        raise WorkError(f"{arrays.path}: no arrays x1, x2, ... of that many nodes; it has {', '.join(arrays) or 'none'}")
    alone = {n: _forward(head, params, arrays[f"x{n}"], np.ones(arrays[f"x{n}"].shape[:2], bool)) for n in counts}
    padded = _forward(head, params, *pad([x for n in counts for x in arrays[f"x{n}"]]))
    for index, kind in enumerate(("logits", "feature")):
        yield measured(kind, ((f"{kind}{n}", alone[n][index], arrays[f"{kind}{n}"]) for n in counts), tolerance=OUTPUTS)
        whole = np.concatenate([arrays[f"{kind}{n}"] for n in counts])
        yield measured(f"{kind}, padded and masked", [(kind, padded[index], whole)], tolerance=OUTPUTS)
    yield measured("loss", ((f"loss{n}", _loss(alone[n][0]), arrays[f"loss{n}"]) for n in counts), tolerance=OUTPUTS)
    if any(name.startswith("grad") for name in arrays):
        yield measured("gradients", _gradients(head, params, arrays, counts), tolerance=GRADIENTS)
    else:
        yield not_recorded("gradients")


@partial(jax.jit, static_argnums=0)
def _forward(head: ContextHead, params: Any, nodes: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    return head.apply(params, nodes, mask), head.apply(params, nodes, mask, pooled=True)


def _loss(logits: jax.Array) -> jax.Array:
    """Mean cross-entropy of the graphs of a batch, graph i being of class i."""
    labels = jnp.arange(len(logits))
    return mean_cross_entropy(logits, labels, jnp.ones(len(logits), bool))


@partial(jax.jit, static_argnums=0)
def _loss_gradient(head: ContextHead, params: Any, nodes: jax.Array, mask: jax.Array) -> Any:
    return jax.grad(lambda p: _loss(head.apply(p, nodes, mask)))(params)


def _gradients(head: ContextHead, params: Any, arrays: Arrays, counts: list[int]) -> Iterator[tuple[str, Any, Any]]:
    for n in counts:
        recorded = [name for name in arrays if name.startswith(f"grad{n}.")]
        if not recorded:
            continue
        gradient = _loss_gradient(head, params, arrays[f"x{n}"], np.ones(arrays[f"x{n}"].shape[:2], bool))
        ours = torch_entries(CONTEXT_HEAD, gradient)
        yield from ((name, ours[name.removeprefix(f"grad{n}.")], arrays[name]) for name in recorded)


def pad(graphs: list[np.ndarray]) -> Graphs:
    """Graphs [N_i, P] as one padded batch."""
    most = max(len(graph) for graph in graphs)
    nodes = np.stack([np.pad(graph, ((0, most - len(graph)), (0, 0))) for graph in graphs])
    return Graphs(nodes, np.arange(most) < np.array([[len(graph)] for graph in graphs]))


def head_training(bundle: Bundle) -> Iterator[Measured]:
    """Adam from the recorded weights over the recorded order; only the first losses can be held."""
    head, params = recorded_head(bundle, "default")
    arrays = bundle.arrays("mcp_training.npz")
    graphs = pad([arrays[f"clip{i}"] for i in range(len(arrays["labels"]))])
    support = Support(graphs, jnp.asarray(arrays["labels"], jnp.int32))
    params, losses = _train(head, params, support, _steps(arrays["order"]))
    recorded, held = arrays["losses"], slice(HELD_STEPS)
    numbered = [(f"step {i}", losses[i], recorded[i]) for i in range(len(recorded))]
    yield measured(f"first {len(numbered[held])} losses", numbered[held], tolerance=FIRST_LOSSES)
    yield measured("later losses", numbered[HELD_STEPS:], tolerance=None)
    yield measured("final_logits", [("final_logits", head.apply(params, *graphs), arrays["final_logits"])], tolerance=None)


@partial(jax.jit, static_argnums=0)
def _train(head: ContextHead, params: Any, support: Support, order: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
    def loss(params: Any, part: Support, counts: jax.Array) -> jax.Array:
        return mean_cross_entropy(head.apply(params, *part.graphs), part.labels, counts)

    return fit_in_order(loss, optax.adam(LEARNING_RATE), params, support, order)


def _steps(order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of epochs [E, S] -> indices [steps, batch] and which of them count; the last batch of an epoch is filled up."""
    epochs, size = order.shape
    steps = -(-size // TRAINING_BATCH)
    filled = np.pad(order, ((0, 0), (0, steps * TRAINING_BATCH - size))).reshape(-1, TRAINING_BATCH)
    return filled, np.tile((np.arange(steps * TRAINING_BATCH) < size).reshape(steps, TRAINING_BATCH), (epochs, 1))


CHECKS: Mapping[str, Check] = {
    f"mcp_{variant}": Check((f"mcp_{variant}.npz", SHAPES, SEED_FILE), partial(head_outputs, variant)) for variant in VARIANTS
} | {"mcp_training": Check(("mcp_training.npz", SHAPES, SEED_FILE), head_training)}
