"""augment: whose draw a window gets, resumed and grown runs, and the way of copies into the evaluation."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from adapt_case import job, prepare
from runs import bring, compiled_once

from acx_jax import config as schema
from acx_jax import randomness
from acx_jax.contracts import LABELS, Segment
from acx_jax.data import prepared
from acx_jax.data.feature_store import FeatureWriter
from acx_jax.data.window_feed import whole_windows_feed
from acx_jax.errors import UsageError
from acx_jax.models.encoders import ENCODERS, folded, normalise
from acx_jax.selfsup import copies
from acx_jax.stages import augment, embed, evaluate, pipeline
from acx_jax.stages.job import STAMP, Job

pytestmark = pytest.mark.usefixtures("quick_compiler")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    """Prepared noise: three segments of four windows to evaluate, and an adaptation that was left out."""
    made = prepare([Segment("a", 0, 19, 0, split="adapt"), *(Segment(f"e{i}", 0, 19, i % 2, split="evaluate") for i in range(3))], tmp_path_factory)
    (made / "adapt").mkdir()
    (made / "adapt" / "summary.json").write_text('{"adapted": false}')
    (made / "prepare" / STAMP).write_text('{"fingerprint": "of these videos"}')
    return made


@pytest.fixture(scope="module")
def one_program():
    """The stage's encoder, compiled once for all tests."""
    with compiled_once(augment):
        yield


@pytest.fixture(scope="module")
def whole(workdir, one_program) -> Job:
    """The stage, run for three copies."""
    made = asked(workdir, "whole", 3)
    augment.run(made)
    return made


def asked(workdir: Path, out: str, number: int = 2, batch: int = 8) -> Job:
    made = job(workdir, out)
    with made.config.unlocked():
        made.config.embed.update(augmented=number, batch=batch)
    return made


def vectors(of: Job, copy: int) -> np.ndarray:
    return np.load(of.out / "pretrained" / str(copy) / "vectors.npy")


def segments_of(workdir: Path) -> list:
    return [s for s in prepared.load(workdir / "prepare")[0] if s.segment.split == "evaluate"]


def test_each_window_is_made_by_the_draw_of_its_segment_and_copy(workdir, whole):
    assert sorted(folder.name for folder in (whole.out / "pretrained").iterdir()) == ["0", "1", "2"]
    spec, variables = ENCODERS["r2plus1d_tiny"], embed.weights_of(whole)["pretrained"]
    apply = jax.jit(lambda pictures: spec.build(folded=True).apply(folded(spec, variables), normalise(spec, 255 * pictures), train=False))
    view = jax.jit(partial(copies.augmented, side=16))
    [batch] = whole_windows_feed(workdir / "prepare", segments_of(workdir), "evaluate", canvas=(18, 22), batch=12, length=8, stride=4)
    for copy in range(2):
        key = jax.random.fold_in(randomness.stream(0, "augmented copies"), copy)
        pictures = [view(jax.random.fold_in(key, place // 4), frames, batch.size[0]) for place, frames in enumerate(batch.frames)]
        np.testing.assert_allclose(vectors(whole, copy), apply(np.stack(pictures)), rtol=1e-3, atol=1e-4)
    assert np.abs(vectors(whole, 0) - vectors(whole, 1)).max() > 0.01
    plain = embed.provenance_of(whole.config, variables, 8)
    said = json.loads((whole.out / "pretrained" / "1" / "provenance.json").read_text())
    assert plain["weights"] == said["weights"] and "augmentation" not in plain and said["augmentation"]["copy"] == 1


def test_any_batch_draws_the_same(workdir, whole):
    few = asked(workdir, "few", 1, batch=4)
    augment.run(few)
    np.testing.assert_allclose(vectors(few, 0), vectors(whole, 0), rtol=1e-3, atol=1e-4)


def test_a_killed_run_goes_on_and_a_larger_number_redoes_nothing(workdir, whole, monkeypatch):
    monkeypatch.setattr("acx_jax.data.feature_store.FLUSH_EVERY", 1)
    killed = asked(workdir, "killed", 3)
    append, fed = FeatureWriter.append, []

    class Killed(BaseException):
        pass

    def dies_in_the_second(self, values):
        append(self, values)
        if len(fed) == 2:
            raise Killed

    feed = whole_windows_feed
    monkeypatch.setattr(augment, "whole_windows_feed", lambda *given, **options: fed.append(options["start_batch"]) or feed(*given, **options))
    monkeypatch.setattr(FeatureWriter, "append", dies_in_the_second)
    with pytest.raises(Killed):
        augment.run(killed)
    monkeypatch.setattr(FeatureWriter, "append", append)
    fed.clear()
    augment.run(killed)
    assert fed == [1, 0]  # the second goes on at its second batch, the third starts
    (workdir / "augment").symlink_to(whole.out)
    fed.clear()
    grown = asked(workdir, "grown", 4)
    augment.run(grown)
    assert fed == [0]  # the fourth alone
    for copy in range(3):
        for other in (killed, grown):
            assert vectors(other, copy).tobytes() == vectors(whole, copy).tobytes()
    assert len(augment.load_copies(workdir, "pretrained")) == 3
    fed.clear()
    (workdir / "prepare" / STAMP).write_text('{"fingerprint": "of others"}')
    augment.run(asked(workdir, "of_others", 2))
    assert fed == [0, 0]  # as many windows, but of other videos: nothing is taken over


def config_of(**values):
    return schema.from_flat({key.replace("__", "."): value for key, value in values.items()})


def test_the_stage_is_there_where_it_is_asked_for_and_changes_no_other():
    plain = pipeline.stages_of(config_of())
    assert plain is pipeline.STAGES and "augment" not in plain
    made, used = (pipeline.stages_of(config_of(embed__augmented=3, episodes__augmented=used)) for used in (0, 2))
    assert list(made) == list(used) == ["check", "prepare", "adapt", "embed", "augment", "meta_train", "evaluate", "report"]
    assert made["evaluate"].needs == plain["evaluate"].needs and used["evaluate"].needs == (*plain["evaluate"].needs, "augment")
    assert embed.settings(config_of(embed__augmented=3)) == embed.settings(config_of())
    assert "augmented" not in evaluate.settings(config_of(embed__augmented=3))["episodes"]
    assert evaluate.settings(config_of(embed__augmented=3, episodes__augmented=2))["episodes"]["augmented"] == 2
    with pytest.raises(UsageError, match="--stage=augment: config.embed.augmented is 0.*--config.embed.augmented=10"):
        pipeline.refuse("augment", config_of())


@pytest.mark.parametrize("values, said", [
    ({"data__builder": "synthetic", "episodes__augmented": 3, "embed__augmented": 2},
     "config.episodes.augmented is 3, more than config.embed.augmented = 2"),
    ({"data__builder": "features", "data__root": "x", "embed__augmented": 2}, "config.embed.augmented is 2, which encodes videos"),
])
def test_numbers_that_do_not_fit_are_refused(values, said):
    with pytest.raises(UsageError, match=said):
        schema.validate(config_of(**values))


GIVEN = {"data.builder": "features", "episodes.shot": 1, "episodes.query": 4, "episodes.count": 6, "learners.names": ["proto", "ridge"]}


def given_in(root: Path, copies_of=lambda video: 3) -> Path:
    """The published tree: eight videos of both labels, the abnormal ones' copies far from all else."""
    rng = np.random.default_rng(0)
    for video in range(8):
        folder = root / f"v{video}"
        (folder / "augmented1").mkdir(parents=True)
        for label, name in enumerate(LABELS):
            np.save(folder / f"ctx_{name}.npy", rng.normal(0.5 * label, 1, (2 + video % 3, 8)))
            for i in range(copies_of(video)):
                np.save(folder / "augmented1" / f"ctx_{name}_{i}.npy", rng.normal(3 * label, 0.1, (2 + video % 3, 8)))
    return root


def rows_of(workdir: Path) -> dict[str, dict]:
    return {row["learner"]: row for row in json.loads((workdir / "evaluate" / "results.json").read_text())}


def test_given_sequences_join_the_support_and_nothing_else(tmp_path):
    root = given_in(tmp_path / "in")
    bring("evaluate", GIVEN, root, tmp_path / "w")
    plain, episodes = rows_of(tmp_path / "w"), dict(np.load(tmp_path / "w" / "evaluate" / "episodes.npz"))
    said = bring("all", GIVEN, root, tmp_path / "w", episodes__augmented=2)
    assert "evaluate: is redone: config.episodes.augmented was 0, is 2; augment changed" in said
    assert "augment: starts" in said and "embed: up to date" in said and "meta_train: up to date" in said
    assert "6 episodes, 2-way 1-shot (each with 2 augmented sequences) 4-query" in said
    augmented = rows_of(tmp_path / "w")
    assert [(row["augmented"], row["shot"], row["query"]) for row in augmented.values()] == [(2, 1, 4), (2, 1, 4), (0, 1, 4)]
    assert augmented["length"] == plain["length"] and augmented["proto"] != plain["proto"]
    after = dict(np.load(tmp_path / "w" / "evaluate" / "episodes.npz"))
    assert after["support"].shape == (6, 2) and all(np.array_equal(after[name], episodes[name]) for name in episodes)
    page = (tmp_path / "w" / "report" / "report.md").read_text()
    assert "2 augmented sequences of each labelled segment" in page
    (tmp_path / "kept.npz").write_bytes((tmp_path / "w" / "evaluate" / "episodes.npz").read_bytes())
    bring("evaluate", GIVEN, root, tmp_path / "again", episodes__augmented=2, episodes__file=str(tmp_path / "kept.npz"))
    assert rows_of(tmp_path / "again") == augmented  # a replay draws the same copies


def test_given_sequences_that_do_not_suffice_are_named(tmp_path):
    root = given_in(tmp_path / "in", copies_of=lambda video: 1 if video == 3 else 3)
    said = bring("augment", GIVEN, root, tmp_path / "w", episodes__augmented=1)
    assert "1 augmented sequences of each segment are taken" in said
    with pytest.raises(UsageError, match="episodes.augmented is 2.*2 of 16 segments have fewer: the normal segment 0..1 of v3 has 1.*at most 1"):
        bring("augment", GIVEN, root, tmp_path / "w", episodes__augmented=2)
    np.save(root / "v3" / "augmented1" / "ctx_normal_0.npy", np.full((2, 8), np.nan))
    with pytest.raises(UsageError, match="v3/augmented1/ctx_normal_0.npy: 2 of its 2 vectors hold NaN"):
        bring("augment", GIVEN, root, tmp_path / "w", episodes__augmented=1)
    np.save(root / "v3" / "augmented1" / "ctx_normal_0.npy", np.zeros((2, 7)))
    with pytest.raises(UsageError, match="ctx_normal_0.npy have 7 numbers, those of the segments 8"):
        bring("augment", GIVEN, root, tmp_path / "w", episodes__augmented=1)
