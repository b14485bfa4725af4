"""The contrastive losses of the adaptation: outputs, losses, gradients and queues of recorded steps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from acx_jax.published.bundle import Arrays, Bundle, Check
from acx_jax.published.measured import Measured, measured, not_recorded
from acx_jax.selfsup.memory import DRAWN, Queue, push
from acx_jax.selfsup.objectives import info_nce, intra_inter_triplet, nce, nce_constant, presence, similarities

FILE, MARGIN = "contrast.npz", 0.5
OUTPUTS, LOSSES, SMALL_LOSS, GRADIENTS = 1e-4, 1e-4, 1e-6, 2e-3


class _Step(NamedTuple):
    output: jax.Array
    loss: jax.Array
    grad_q: jax.Array
    grad_n: jax.Array
    queue: jax.Array


def contrast(form: str, bundle: Bundle) -> Iterator[Measured]:
    """All recorded steps of one form of the loss, each from the queue and constant that ours has reached."""
    arrays = bundle.arrays(FILE)
    names = sorted({int(name.split(".")[1]) for name in arrays if name.startswith(f"{form}.") and name.split(".")[1].isdigit()})
    steps, constants = _run(form, arrays, names)
    graded = any(".grad_" in name for name in arrays)
    pairs = {kind: [(f"{form}.{i}.{kind}", getattr(steps[i], ours), arrays[f"{form}.{i}.{kind}"]) for i in names if graded or "grad" not in kind]
             for kind, ours in (("out", "output"), ("loss", "loss"), ("grad_q", "grad_q"), ("grad_n", "grad_n"), ("queue", "queue"))}
    yield measured("outputs", pairs["out"], tolerance=OUTPUTS)
    yield measured("losses", pairs["loss"], tolerance=LOSSES, absolute=SMALL_LOSS)
    yield measured("gradients", pairs["grad_q"] + pairs["grad_n"], tolerance=GRADIENTS) if graded else not_recorded("gradients")
    yield measured("queues", pairs["queue"], tolerance=OUTPUTS)
    if form == "nce":
        yield measured("constant", [(f"Z{i}", constants[i], arrays[f"nce.{i}.Z"]) for i in names], tolerance=OUTPUTS)


def _run(form: str, arrays: Arrays, names: list[int]) -> tuple[dict[int, _Step], dict[int, float]]:
    keys = jnp.asarray(arrays[f"{form}.queue0"])
    queue = Queue(keys, jnp.full(len(keys), DRAWN, jnp.int32), jnp.int32(0))
    temperature, n_data, constant = float(arrays["temperature"]), int(arrays["n_data"]), None
    steps, constants = {}, {}
    for i in names:
        q, k, n = (jnp.asarray(arrays[f"{form}.{i}.{name}"]) for name in "qkn")
        if constant is None:
            constant = jnp.trunc(nce_constant(similarities(q, k, n[None], queue), temperature=temperature, n_data=n_data))
        loss = jax.value_and_grad(partial(_loss, form, temperature, n_data), (0, 1), has_aux=True)
        (value, output), (of_q, of_n) = loss(q, n, k, queue, constant)
        queue = push(queue, k, jnp.full(len(k), DRAWN, jnp.int32))
        steps[i], constants[i] = _Step(output, value, of_q, of_n, queue.keys), float(constant)
    return steps, constants


def _loss(form: str, temperature: float, n_data: int, q: jax.Array, n: jax.Array, k: jax.Array, queue: Queue,
          constant: jax.Array) -> tuple[jax.Array, Any]:
    """The loss, and the outputs as they were recorded: exp(o / temperature) / Z, or o / temperature."""
    similar = similarities(q, k, n[None], queue)
    present = presence(jnp.zeros(len(q), jnp.int32), jnp.ones((1, len(q)), bool), queue, exclude_own=False)
    if form == "softmax":
        return info_nce(similar, present, temperature=temperature)[0], similar / temperature
    return (nce(similar, present, constant, temperature=temperature, n_data=n_data), jnp.exp(similar / temperature) / constant)


def triplets(bundle: Bundle) -> Iterator[Measured]:
    """The triplet objective, intra and inter."""
    arrays = bundle.arrays(FILE)
    q, k, n = (jnp.asarray(arrays[f"triplet.{name}"]) for name in "qkn")
    loss = intra_inter_triplet(q, k, n, np.ones(len(q), bool), margin=MARGIN)
    yield measured("loss", [("triplet.loss", loss, arrays["triplet.loss"])], tolerance=LOSSES, absolute=SMALL_LOSS)


CHECKS: dict[str, Check] = {
    "contrast_nce": Check((FILE,), partial(contrast, "nce")), "contrast_softmax": Check((FILE,), partial(contrast, "softmax")),
    "contrast_triplet": Check((FILE,), triplets)}
