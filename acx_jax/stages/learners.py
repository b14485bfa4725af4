"""The learners that a config names: those of acx_jax, functions by dotted path, and label propagation on top of any.

A name is `proto`, `my_module.my_learner` (a function of `features` and `way`, both keyword-only, that returns a Learner), or
either with `+propagation` behind.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from acx_jax.contracts import LABELS, ContextFeatures, Graphs, Support
from acx_jax.errors import UsageError
from acx_jax.fewshot import baselines, closed_form, gradient_heads, transductive
from acx_jax.fewshot.learner import Learner, pooled_segments
from acx_jax.fewshot.mcp import mcp
from acx_jax.models.context_perception import STEM_GROUPS, ContextHead
from acx_jax.settings import ON_TOP

WAY = len(LABELS)


class Tried(NamedTuple):
    """The made segments that a learner named by a path is traced on."""

    features: int
    nodes: int
    shot: int
    query: int  # a class


LENGTH = "length"  # the baseline that looks at no features
TRIED = Tried(features=512, nodes=3, shot=2, query=3)
REVISED = {"svm": "2"}  # own learners that give other numbers than they once did, as 2 is solved to its optimum
WHOLE_SEGMENTS = ("mcp", LENGTH)  # the others look at one vector a segment


def make_learner(name: str, config: ConfigDict, *, features: int, way: int = WAY) -> Learner:
    """The learner that the config describes, for vectors of `features` dimensions and `way` classes. UsageError names a path that fits none."""
    options = config.learners
    base = name.removesuffix(ON_TOP)
    if "." in base:
        learner = _made(base, features, way)
    else:
        learner = OWN[base](options, features, way)
    if name == base:
        return learner
    return transductive.label_propagation(learner, pool=options.pool, **options.propagation)


def seen_by(name: str, config: ConfigDict, features: ContextFeatures) -> ContextFeatures:
    """What a learner needs of the features: one vector a segment where it looks at no more, all of them otherwise."""
    base = name.removesuffix(ON_TOP)
    return features if "." in base or base in WHOLE_SEGMENTS else pooled_segments(features, config.learners.pool)


def check_names(config: ConfigDict) -> None:
    """Raises UsageError when a named function cannot be imported, or what it makes is no learner: all but the numbers is tried."""
    way = config.episodes.way if config.episodes.classes == "categories" else WAY
    for name in config.learners.names:
        if "." in name:
            path = name.removesuffix(ON_TOP)
            _check_parts(path, _made(path, TRIED.features, way), way)


def check_dimension(config: ConfigDict, features: int) -> None:
    """Raises UsageError when a context head is to be fitted on vectors of `features` dimensions, which its channel groups do not divide."""
    asked = {"config.learners.names": [name.removesuffix(ON_TOP) for name in config.learners.names],
             "config.meta.learner": [config.meta.learner] if config.meta.steps else []}
    places = [place for place, names in asked.items() if "mcp" in names]
    if places and features % STEM_GROUPS:
        raise UsageError(f"the features have {features} dimensions, and mcp in {' and '.join(places)} takes a multiple of {STEM_GROUPS}: leave it "
                         f"out, as in --config.learners.names=proto,linear, or append {-features % STEM_GROUPS} zeros to every vector")


def code_of(config: ConfigDict) -> dict[str, str]:
    """The digest of the file of each learner that is named by a path, and the revision of own ones, so that what they computed is redone when they change."""
    bases = sorted({name.removesuffix(ON_TOP) for name in config.learners.names})
    return {base: hashlib.sha256(_file(base).read_bytes()).hexdigest()[:16] for base in bases if "." in base} | {
        base: REVISED[base] for base in bases if base in REVISED}


def _mcp(options: ConfigDict, features: int, way: int) -> Learner:
    own = options.mcp
    head = ContextHead(way, own.hidden, own.groups, own.neighbours, own.blocks, own.pool, own.scaled_paths)
    return mcp(head, features=features, epochs=own.epochs, batch=own.batch, learning_rate=own.learning_rate)


def _on_vectors(make: Callable[..., Learner], group: str = "") -> Callable[[ConfigDict, int, int], Learner]:
    """A learner on pooled vectors with the options of a group of the settings."""

    def build(options: ConfigDict, features: int, way: int) -> Learner:
        return make(features=features, way=way, pool=options.pool, **(options[group] if group else {}))

    return build


OWN: dict[str, Callable[[ConfigDict, int, int], Learner]] = {
    "mcp": _mcp,
    "proto": _on_vectors(baselines.proto, "proto"),
    "linear": _on_vectors(gradient_heads.linear, "linear"),
    "two_layer": _on_vectors(gradient_heads.two_layer, "two_layer"),
    "cosine": _on_vectors(gradient_heads.cosine, "cosine"),
    "proto_temperature": _on_vectors(baselines.proto, "proto_temperature"),
    "simpleshot": _on_vectors(baselines.simpleshot),
    "ridge": _on_vectors(closed_form.ridge, "ridge"),
    "r2d2": _on_vectors(closed_form.ridge, "r2d2"),
    "svm": _on_vectors(closed_form.svm, "svm"),
    "bd_cspn": _on_vectors(transductive.bd_cspn, "bd_cspn"),
    LENGTH: lambda options, features, way: baselines.length(way=way),
}


def _made(path: str, features: int, way: int) -> Learner:
    """What the function at a dotted path makes."""
    function = _function(path)
    try:
        inspect.signature(function).bind(features=features, way=way)
    except (TypeError, ValueError) as error:
        raise UsageError(f"config.learners.names: {path} cannot be called as {path}(features=..., way=...): {error}") from None
    try:
        learner: Any = function(features=features, way=way)
    except Exception as error:  # a user's function may fail in any way
        raise UsageError(f"config.learners.names: {path}(features={features}, way={way}) failed: {_in_short(error)}") from error
    if not isinstance(learner, Learner):
        raise UsageError(f"config.learners.names: {path} returned {type(learner).__name__}, "
                         "expected acx_jax.fewshot.learner.Learner")
    return learner


def _check_parts(path: str, learner: Learner, way: int) -> None:
    """Traces a learner on made segments. Raises UsageError that names the part which fails, or logits that are not float32 [Q, way]."""
    support_size, queries = way * TRIED.shot, way * TRIED.query

    def graphs(segments: int) -> Graphs:
        return Graphs(jax.ShapeDtypeStruct((segments, TRIED.nodes, TRIED.features), np.float32),
                      jax.ShapeDtypeStruct((segments, TRIED.nodes), bool))

    def traced(part: str, *arguments: Any) -> Any:
        try:
            return jax.eval_shape(getattr(learner, part), *arguments)
        except Exception as error:  # a user's function may fail in any way
            raise UsageError(f"config.learners.names: {path}: {part} failed on {support_size} support segments and {queries} queries of "
                             f"{TRIED.nodes} vectors of {TRIED.features} dimensions: {_in_short(error)}") from error

    key = jax.eval_shape(lambda: jax.random.key(0))
    support = Support(graphs(support_size), jax.ShapeDtypeStruct((support_size,), np.int32))
    found = traced("logits", traced("adapt", traced("init", key), support, key), graphs(queries))
    shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", type(found).__name__)
    if (shape, dtype) != ((queries, way), np.float32):
        raise UsageError(f"config.learners.names: {path}: logits of {queries} queries are {dtype} of shape {shape}, expected float32 of "
                         f"shape {(queries, way)}: one column for each of {' and '.join(LABELS) if way == WAY else f'normal and {way - 1} categories'}")


def _in_short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no more is said'}"


def _function(path: str) -> Callable[..., Learner]:
    module, name = path.rsplit(".", 1)
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise UsageError(f"config.learners.names: cannot import {path}: {error}; "
                         f"is the file's folder the current one, or in PYTHONPATH?") from None
    except AttributeError:
        raise UsageError(f"config.learners.names: cannot import {path}: module {module} has no {name}") from None
    except Exception as error:  # a user's module may fail in any way as it is imported
        raise UsageError(f"config.learners.names: importing {path} failed: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise UsageError(f"config.learners.names: {path} is a {type(found).__name__}, expected a function")
    return found


def _file(path: str) -> Path:
    """The file a function's module lies in."""
    _function(path)
    spec = importlib.util.find_spec(path.rsplit(".", 1)[0])
    if spec is None or not spec.origin:
        raise UsageError(f"config.learners.names: {path} lies in no file")
    return Path(spec.origin)
