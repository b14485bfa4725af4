"""The suite `episodes`: its made data, its peer against our head, and one whole run."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from acx_jax.benchmark import __main__ as command
from acx_jax.benchmark.suites import episodes
from acx_jax.errors import UsageError
from acx_jax.models.context_perception import ContextHead

pytestmark = pytest.mark.usefixtures("quick_compiler")
TINY = ["--suite=episodes", "--episodes=2", "--epochs=1", "--shot=1", "--query=2", "--features=8", "--closed_episodes=4", "--repeats=1"]


def test_lengths_are_those_of_dota():
    counts = np.diff(episodes.made_segments(4).offsets)
    assert (counts.min(), np.median(counts), counts.max()) == (4, 8, 56)
    assert 13 <= np.percentile(counts, 90) <= 15


def test_episodes_draw_each_class_without_repeats():
    support, query = episodes.drawn_episodes(5, 3, 4)
    assert support.shape == (5, 6) and query.shape == (5, 8)
    half = episodes.SEGMENTS // 2
    assert (support // half == [0, 0, 0, 1, 1, 1]).all() and (query // half == [0] * 4 + [1] * 4).all()
    assert all(len({*s, *q}) == 14 for s, q in zip(support.tolist(), query.tolist()))


def test_the_peer_computes_our_head():
    torch = pytest.importorskip("torch")
    from acx_jax.benchmark.peers.torch_episodes import ContextHead as Peer

    x, head = np.random.default_rng(0).standard_normal((7, 16)).astype(np.float32), ContextHead()
    params = jax.jit(head.init)(jax.random.key(0), x, np.ones(7, bool))
    flat = {"/".join(path): np.array(value) for path, value in traverse_util.flatten_dict(params["params"]).items()}
    names = {"stem": "stem", "block0/temporal_in": "temporal.0", "block0/temporal_conv": "temporal.2", "block0/temporal_out": "temporal.4",
             "block0/semantic_group": "semantic.2", "block0/semantic_out": "semantic.4", "classifier": "classifier"}
    flat |= {"edge/kernel": flat["block0/semantic_in_kernel"], "edge/bias": flat["block0/semantic_in_bias"]}
    peer = Peer(16)
    entries = {}
    for ours, theirs in (names | {"edge": "semantic.0"}).items():
        kernel = flat[f"{ours}/kernel"]
        if kernel.ndim == 4:  # [groups, taps, in, out] -> [groups * out, in, taps]
            kernel = kernel.transpose(0, 3, 2, 1).reshape(-1, kernel.shape[2], kernel.shape[1])
        else:
            kernel = kernel.T
        shape = peer.state_dict()[f"{theirs}.weight"].shape
        entries |= {f"{theirs}.weight": torch.from_numpy(kernel.reshape(shape).copy()), f"{theirs}.bias": torch.from_numpy(flat[f"{ours}/bias"])}
    peer.load_state_dict(entries)
    with torch.no_grad():
        theirs = peer(torch.from_numpy(x.T.copy())[None])[0].numpy()
    np.testing.assert_allclose(jax.jit(head.apply)(params, x, np.ones(7, bool)), theirs, atol=1e-4)


@pytest.mark.parametrize(("option", "said"), [("--shot=0", "--shot=0"), ("--query=200", "120 segments")])
def test_impossible_options_are_refused(option, said):
    with pytest.raises(UsageError, match=said):
        command.run(command.parse([*TINY, option]))


def test_a_run_measures_ours_and_the_closed_learner(monkeypatch):
    monkeypatch.setattr(episodes, "SEGMENTS", 12)
    monkeypatch.setattr(episodes, "MOST", 6)
    found = episodes.run(command.parse(TINY))
    assert [row.case for row in found.rows] == ["mcp, 1 epochs", "proto, 4 episodes"]
    assert all(row.timing.median > 0 for row in found.rows) and "s an episode" in found.notes[0]
