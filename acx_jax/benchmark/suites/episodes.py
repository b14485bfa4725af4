"""Episodes: the published head fitted afresh in each of many episodes, beside a PyTorch loop over them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from acx_jax.benchmark.outcome import OURS, Outcome, Row
from acx_jax.benchmark.timing import Timing, call
from acx_jax.contracts import ContextFeatures
from acx_jax.errors import UsageError
from acx_jax.fewshot.baselines import proto
from acx_jax.fewshot.episodes import class_labels, score_episodes
from acx_jax.fewshot.mcp import mcp
from acx_jax.fewshot.ragged import ragged
from acx_jax.models.context_perception import ContextHead
from acx_jax.runtime import devices

SUMMARY = "Few-shot episodes of the published recipe (fresh head, Adam 0.01, batches of 4) on made segments of DoTA's lengths."
WAY, SEGMENTS, LEAST, MOST = 2, 240, 4, 56  # nodes of a segment on DoTA: 4 to 56, median 8, 90th percentile 14
BATCH, LEARNING_RATE = 4, 0.01
SPLIT_CPU = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--episodes, --peer_episodes, --closed_episodes, --epochs, --shot, --query, --features, --together."""
    parser.add_argument("--episodes", type=int, default=40, help="episodes of the MCP head a call (default 40)")
    parser.add_argument("--peer_episodes", type=int, default=3, help="episodes of the peer in all, after one to warm up (default 3)")
    parser.add_argument("--closed_episodes", default="10,100,1000,10000", help="episodes a call of prototypes, to show the growth")
    parser.add_argument("--epochs", type=int, default=301, help="passes over the support set (default 301, as published)")
    parser.add_argument("--shot", type=int, default=5, help="support segments a class (default 5)")
    parser.add_argument("--query", type=int, default=15, help="query segments a class (default 15)")
    parser.add_argument("--features", type=int, default=512, help="dimensions of a clip's vector (default 512)")
    parser.add_argument("--together", type=int, default=0, help="episodes fitted at once on a device (default: 1 on a CPU, else all)")


def run(options: argparse.Namespace) -> Outcome:
    """Measures; see the package's docstring for what a suite is. --repeats counts the calls of ours."""
    _check(options)
    keep_compiled = jax.config.jax_compilation_cache_dir
    features = made_segments(options.features)
    learner = mcp(ContextHead(WAY), features=options.features, epochs=options.epochs, batch=BATCH, learning_rate=LEARNING_RATE)
    case = f"mcp, {options.epochs} epochs"
    program, compiling = ours(learner, features, options.episodes, options)
    rows = [_row(case, OURS, program, options.episodes, compiling, min(options.repeats, 3))]
    if options.peer == "torch":
        peer = partial(torch_loop, features, options)
        peer(episodes=1, epochs=min(options.epochs, 30))
        rows.append(_row(case, "torch loop", partial(peer, episodes=1), 1, 0.0, options.peer_episodes))
    for number in map(int, options.closed_episodes.split(",") if options.closed_episodes else ()):
        program, compiling = ours(proto(features=options.features, way=WAY, pool="mean"), features, number, options)
        rows.append(_row(f"proto, {number} episodes", OURS, program, number, compiling, options.repeats))
    notes = _notes(rows, case)
    if not keep_compiled:
        notes.append("the first call of acx_jax compiles; JAX_COMPILATION_CACHE_DIR=FOLDER keeps compiled programs between runs")
    counts = np.diff(features.offsets)
    sizes = {"way": WAY, "shot": options.shot, "query": options.query, "nodes": f"{counts.min()} to {counts.max()}, median "
             f"{np.median(counts):.0f}, 90th percentile {np.percentile(counts, 90):.0f}, mean {counts.mean():.1f}"}
    return Outcome("episodes", sizes, rows, notes)


def _check(options: argparse.Namespace) -> None:
    for name in ("episodes", "peer_episodes", "epochs", "shot", "query"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name}={getattr(options, name)}: at least 1 is needed")
    if options.shot + options.query > SEGMENTS // WAY:
        raise UsageError(f"--shot={options.shot} and --query={options.query}: a class has {SEGMENTS // WAY} segments in all")


def made_segments(features: int) -> ContextFeatures:
    """Segments of both classes, class-major, that differ a little; their lengths follow a log-normal law cut to DoTA's range."""
    rng = np.random.default_rng(0)
    counts = np.clip(np.exp(rng.normal(np.log(8), 0.45, SEGMENTS)).round().astype(int), LEAST, MOST)
    counts[0] = MOST
    classes = class_labels(WAY, SEGMENTS // WAY)
    centres = rng.standard_normal((SEGMENTS, features)) + 0.3 * classes[:, None] * rng.standard_normal(features)
    nodes = np.maximum(np.repeat(centres, counts, axis=0) + 0.5 * rng.standard_normal((counts.sum(), features)), 0)  # pooled activations are not negative
    return ContextFeatures(nodes.astype(np.float32), np.concatenate([[0], np.cumsum(counts)]))


def drawn_episodes(number: int, shot: int, query: int) -> tuple[np.ndarray, np.ndarray]:
    """Segments of each class in a random order: support int32 [E, way * shot], query int32 [E, way * query]."""
    rng, each = np.random.default_rng(1), SEGMENTS // WAY
    orders = np.argsort(rng.random((number, WAY, each)), axis=-1) + each * np.arange(WAY)[:, None]
    support, asked = orders[..., :shot], orders[..., shot:shot + query]
    return support.reshape(number, -1).astype(np.int32), asked.reshape(number, -1).astype(np.int32)


def ours(learner: Any, features: ContextFeatures, number: int, options: argparse.Namespace) -> tuple[Callable[[], jax.Array], float]:
    """A program that scores `number` episodes (rounded up to the devices), and the seconds that compiling it took."""
    number = devices.round_up(number)
    support, query = drawn_episodes(number, options.shot, options.query)
    together = options.together or (1 if devices.on_cpu() else None)
    arguments = (devices.replicate(ragged(features)), *devices.split((support, query, jax.random.split(jax.random.key(0), number))))
    start = time.perf_counter()
    compiled = devices.map_small(score_episodes(learner, way=WAY, nodes=int(np.diff(features.offsets).max()), together=together), *arguments)
    return lambda: compiled(*arguments), time.perf_counter() - start


def torch_loop(features: ContextFeatures, options: argparse.Namespace, *, episodes: int, epochs: int | None = None) -> np.ndarray:
    """The peer: what the published evaluation does, on the GPU where JAX has one."""
    import torch

    from acx_jax.benchmark.peers.torch_episodes import score_episode

    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    alone = np.split(features.vectors, features.offsets[1:-1])
    support, query = drawn_episodes(episodes, options.shot, options.query)
    return np.stack([score_episode(
        [alone[i] for i in known], class_labels(WAY, options.shot), [alone[i] for i in asked], epochs=epochs or options.epochs,
        batch=BATCH, learning_rate=LEARNING_RATE, seed=e, device=device) for e, (known, asked) in enumerate(zip(support, query))])


def _row(case: str, program: str, work: Callable[[], Any], items: int, compiling: float, repeats: int) -> Row:
    print(f"{case}: {program} ...", flush=True)
    timing = Timing(call(work) + compiling, tuple(call(work) for _ in range(repeats)))
    print(f"  {timing.median / items:.4f} s an episode; compiled in {compiling:.1f} s", flush=True)
    return Row(case, program, timing, items)


def _notes(rows: list[Row], case: str) -> list[str]:
    """The ratio by episode: the programs work through different numbers of them."""
    seconds = {row.program: row.timing.median / row.items for row in rows if row.case == case}
    notes = [f"{name}: {value:.3f} s an episode" for name, value in seconds.items()]
    return notes + [f"acx_jax is {value / seconds[OURS]:.1f} times as fast an episode as {name}"
                    for name, value in seconds.items() if name != OURS]
