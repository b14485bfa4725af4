"""Few-shot heads on pooled vectors, and label propagation over queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from acx_jax.contracts import Graphs, Support
from acx_jax.fewshot import baselines, closed_form, transductive
from acx_jax.fewshot.learner import Learner
from acx_jax.published.bundle import Bundle, Check
from acx_jax.published.measured import Measured, measured

HEADS = "heads.npz"
PROPAGATION = "label_propagation.npz"
TOLERANCE, SVM_TOLERANCE = 1e-4, 1e-3
LEARNERS: dict[str, tuple[Callable[..., Learner], dict[str, float], float]] = {  # what makes it, its options, its tolerance
    "proto": (baselines.proto, {}, TOLERANCE),
    "proto_temperature128": (baselines.proto, {"temperature": 128.0}, TOLERANCE),
    "ridge": (closed_form.ridge, {"penalty": 1.0}, TOLERANCE),
    "r2d2": (closed_form.ridge, {"penalty": 50.0}, TOLERANCE),
    "svm_cs": (closed_form.svm, {"penalty": 0.1, "steps": 500}, SVM_TOLERANCE),
}


def head_logits(bundle: Bundle) -> Iterator[Measured]:
    """Logits of each head at every recorded number of ways and shots."""
    arrays = bundle.arrays(HEADS)
    settings = sorted({name.split(".")[0] for name in arrays})
    for name, (make, options, tolerance) in LEARNERS.items():
        recorded = [setting for setting in settings if f"{setting}.{name}" in arrays]
        compared = ((setting, _logits(make, options, *(arrays[f"{setting}.{part}"] for part in ("support", "labels", "query"))),
                     arrays[f"{setting}.{name}"]) for setting in recorded)
        yield measured(name, compared, tolerance=tolerance)


def _logits(make: Callable[..., Learner], options: Mapping[str, float], support: np.ndarray, labels: np.ndarray,
            query: np.ndarray) -> jax.Array:
    learner = make(features=support.shape[1], way=int(labels.max()) + 1, pool="mean", **options)

    @jax.jit
    def run(support: Support, query: Graphs) -> jax.Array:
        key = jax.random.key(0)  # of no account: these are closed forms
        return learner.logits(learner.adapt(learner.init(key), support, key), query)

    return run(Support(one_node(support), jnp.asarray(labels, jnp.int32)), one_node(query))


def one_node(vectors: np.ndarray) -> Graphs:
    """Vectors [S, P] as graphs of one node each."""
    return Graphs(vectors[:, None].astype(np.float32), np.ones((len(vectors), 1), bool))


def propagation(bundle: Bundle) -> Iterator[Measured]:
    """Soft labels propagated between queries."""
    arrays = bundle.arrays(PROPAGATION)
    options = {"neighbours": int(arrays["k"]), "delta": float(arrays["delta"]), "alpha": float(arrays["alpha"])}
    run = jax.jit(partial(transductive.propagate, **options))
    result = run(arrays["x"].astype(np.float32), arrays["y"].astype(np.float32))
    yield measured("result", [("out", result, arrays["out"])], tolerance=TOLERANCE)


CHECKS: Mapping[str, Check] = {"heads": Check((HEADS,), head_logits), "label_propagation": Check((PROPAGATION,), propagation)}
