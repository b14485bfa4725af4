"""The probe that watches an adaptation, and the best encoder that it finds."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from adapt_case import job, prepare, results
from runs import compiled_once

from acx_jax.contracts import Segment
from acx_jax.data import prepared
from acx_jax.data.meta_split import EVALUATE, PROBE
from acx_jax.errors import UsageError
from acx_jax.runtime.checkpoints import load_arrays, load_variables
from acx_jax.stages import adapt, adapt_behind, adapt_probe, meta_parts
from acx_jax.stages.adapt_record import PROBES
from acx_jax.stages.encoder import pretrained_variables, spec_of
from acx_jax.stages.job import Job

pytestmark = pytest.mark.usefixtures("quick_compiler", "kept_programs")


@pytest.fixture(scope="module")
def watched_workdir(tmp_path_factory) -> Path:
    """Prepared data of four videos to adapt on, and of eight to evaluate."""
    to_evaluate = [Segment(f"e{i}", 0, 19, i % 2, split="evaluate") for i in range(8)]
    return prepare([*(Segment(f"a{i}", 0, 19, 0, split="adapt") for i in range(4)), *to_evaluate], tmp_path_factory)


def watched(workdir: Path, out: str, **changes) -> Job:
    made = job(workdir, out, **changes)
    with made.config.unlocked():
        made.config.probe.update(share=0.5, every=2, neighbours=1, windows=2)
    return made


def test_a_probe_watches_and_changes_nothing(watched_workdir):
    plain, seen = job(watched_workdir, "plain"), watched(watched_workdir, "seen")
    adapt.run(plain)
    adapt.run(seen)
    for a, b in zip(results(plain)[0], results(seen)[0]):
        np.testing.assert_array_equal(a, b)
    lines = [json.loads(line) for line in (seen.out / PROBES).read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 2, 4, 5] and lines[0]["probe_auroc"] == 1.0  # bright is easily told from dark
    assert results(seen)[2]["probe"] == {"best_step": 0, "best": 1.0, "before": 1.0}
    segments = [s.segment for s in prepared.load(watched_workdir / "prepare")[0] if s.segment.split == "evaluate"]
    parts = [{segments[i].video for i in meta_parts.indices_of(seen.config, segments, part)} for part in (PROBE, EVALUATE)]
    assert len(parts[0]) == len(parts[1]) == 4 and not parts[0] & parts[1]


@pytest.mark.parametrize("killed_at", [None, (adapt_probe, "save_variables", 3), (adapt_behind.Checkpoints, "wait", 2), (adapt_probe.Watch, "forget", 2)])
def test_the_best_encoder_by_the_probe_is_handed_on_wherever_the_run_was_killed(watched_workdir, monkeypatch, killed_at):
    """Probes that say 0.5, 0.7, 0.9, 0.6 at steps 0, 2, 4, 5: that of step 4 is best, though the run is killed once at step 4."""
    told = watched(watched_workdir, f"best {killed_at and killed_at[1]}", result="best", checkpoint_every=100)
    seen: list[Any] = []  # the variables at steps 0, 2, 4, 5
    monkeypatch.setattr(adapt, "make_probe", lambda job: lambda variables: [0.5, 0.7, 0.9, 0.6][place_of(variables, seen)])
    if killed_at:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(*killed_at[:2], killing(getattr(*killed_at[:2]), call=killed_at[2]))
            adapt.run(told)
        assert len(seen) == 3 and not (told.out / adapt.ENCODER).exists()
    adapt.run(told)
    variables, _, summary = results(told)
    for a, b in zip(variables, jax.tree.leaves(seen[2]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert summary["probe"] == {"best_step": 4, "best": 0.9, "before": 0.5}
    assert [path.name for path in (told.out / adapt_probe.BEST).iterdir()] == ["4"]


def test_an_encoder_that_ends_early_and_computes_in_half_is_trained_up_to_there_alone(watched_workdir, monkeypatch):
    """Its own statistics and weights move, also by weight decay; those behind its end stay as they were, and all in full precision. A run that was
    killed at step 4 ends as one that was not. The probes say 0.5, 0.7, 0.9, 0.6."""
    def made(out: str) -> Job:
        found = watched(watched_workdir, out, result="best", weight_decay=0.1)
        with found.config.unlocked():
            found.config.encoder.update(stage="layer1", dtype="bfloat16")
        said = iter((0.5, 0.7, 0.9, 0.6))
        monkeypatch.setattr(adapt_probe, "roc_auc_score", lambda labels, scores: next(said) if np.isfinite(scores).all() else np.nan)
        return found

    with compiled_once(adapt_probe):
        whole = made("short")
        adapt.run(whole)
        killed = made("short and killed")
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(adapt_behind, "log_step", killing(adapt_behind.log_step, call=4))
            adapt.run(killed)
        adapt.run(killed)
    assert "goes on from the checkpoint of step 2" in killed.log._terminal.getvalue()
    for a, b in zip(results(whole)[0], results(killed)[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert results(killed)[1:] == results(whole)[1:] and results(whole)[2]["probe"]["best_step"] == 4
    before = pretrained_variables(whole.config)
    after = load_variables(whole.out / adapt.ENCODER, before)
    moved = {(kind, name): not all(map(np.array_equal, jax.tree.leaves(part), jax.tree.leaves(after[kind][name])))
             for kind in before for name, part in before[kind].items()}
    assert {place for place, has in moved.items() if has} == {place for place in moved if place[1].startswith(("stem", "layer1"))}
    assert spec_of(whole.config).feature_dim == after["params"]["layer1_block0"]["conv2"]["temporal"]["kernel"].shape[-1]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(load_arrays(whole.out / adapt.ENCODER))} == {"float32"}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))


def place_of(variables: Any, seen: list[Any]) -> int:
    """Where among those seen, in order, these variables are; behind them all if they are new."""
    own = jax.tree.map(np.array, variables)
    for place, other in enumerate(seen):
        if all(map(np.array_equal, jax.tree.leaves(own), jax.tree.leaves(other))):
            return place
    seen.append(own)
    return len(seen) - 1


def killing(function: Callable[..., Any], *, call: int) -> Callable[..., Any]:
    """The function, but that a call with this number, from 1, ends the run before it does anything."""
    numbers = itertools.count(1)

    def instead(*arguments: Any, **options: Any) -> Any:
        if next(numbers) == call:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    return instead


def test_a_probe_of_one_class_is_refused(watched_workdir):
    few = watched(watched_workdir, "few")
    with few.config.unlocked():
        few.config.probe.share = 0.1  # of four videos of a class none
    with pytest.raises(UsageError, match="config.probe.share is 0.1, which gives the probe 0 normal and 0 abnormal segments"):
        adapt.check_possible(few.config, watched_workdir)
