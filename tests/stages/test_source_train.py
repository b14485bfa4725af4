"""Episodic training of the encoder on real files of a few classes: whole runs, a killed one, and what is refused."""

import contextlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image
from runs import bring

from acx_jax import config as schema
from acx_jax.contracts import Segment, StoredSegment
from acx_jax.data import prepared
from acx_jax.data.class_feed import episodes_feed, source_classes, split_classes
from acx_jax.data.episode_file import data_hash
from acx_jax.errors import UsageError, WorkError
from acx_jax.fewshot import episodic
from acx_jax.models import weight_names
from acx_jax.models.encoders import ENCODERS
from acx_jax.models.resnet3d import VARIANTS, ResNet3D
from acx_jax.stages import source_train, weights

pytestmark = pytest.mark.usefixtures("quick_compiler")
CLASSES, VIDEOS, SIDE = 5, 3, 18
SMALL = {"data.builder": "kinetics", "data.short_side": SIDE, "encoder.arch": "r2plus1d_tiny", "encoder.weights": "random",
         "encoder.crop": 16, "source.steps": 4, "source.way": 2, "source.shot": 1, "source.query": 2, "source.batch": 4,
         "source.validate_every": 2, "source.validation_episodes": 4, "source.learning_rate": 0.1, "source.freeze": "stem"}


@pytest.fixture(scope="module", autouse=True)
def small_encoder() -> Iterator[None]:
    """In the place of r2plus1d_tiny a network of the same kind with its last layer alone, compiled once for all runs."""
    spec = ENCODERS["r2plus1d_tiny"]
    variant = VARIANTS["r2plus1d_tiny"]._replace(depths=(0, 0, 0, 1), widths=(8, 8, 8, 8))
    weight_names._encoder_shapes.cache_clear()  # before and after: of one network's names, not of the other's
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENCODERS, "r2plus1d_tiny", spec._replace(build=partial(ResNet3D, variant), feature_dim=8))
        real, made = source_train._program, {}
        patch.setattr(source_train, "_program", lambda config: made.get(str(config.source)) or made.setdefault(str(config.source), real(config)))
        yield
    weight_names._encoder_shapes.cache_clear()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """<class>/<video>/<frame>.png of a colour of the class and noise; 9 to 11 frames a video."""
    folder = tmp_path_factory.mktemp("classes")
    rng = np.random.default_rng(0)
    for kind in range(CLASSES):
        colour = rng.uniform(40, 200, 3)
        for video in range(VIDEOS):
            place = folder / f"class{kind}" / f"v{kind}{video}"
            place.mkdir(parents=True)
            for frame in range(9 + video):
                picture = np.clip(colour + rng.normal(0, 40, (SIDE, SIDE + 4, 3)), 0, 255)
                Image.fromarray(picture.astype(np.uint8)).save(place / f"{frame:03}.png")
    return folder


def run(root, workdir, goal="all", **values) -> str:
    return bring(goal, SMALL, root, workdir, **values)


def encoder(workdir) -> dict:
    return weights.encoder_variables(workdir, "r2plus1d_tiny", (1, 8, 16, 16, 3))


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, run(root, workdir)


def test_a_run_leaves_an_encoder_that_other_runs_can_start_from(whole):
    workdir, said = whole
    assert "2-way 1-shot 2-query with proto, on 3 classes; 2 others validate" in said and not (workdir / "embed").exists()
    lines = [json.loads(line) for line in (workdir / "meta_train/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4] and ["validation_loss" in line for line in lines] == [False, True] * 2
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    summary = json.loads((workdir / "meta_train/summary.json").read_text())
    assert summary["validation_loss"] == min(line["validation_loss"] for line in lines if "validation_loss" in line)
    assert len(summary["train_classes"]) == 3 and not set(summary["train_classes"]) & set(summary["validation_classes"])
    before = source_train.pretrained_variables(schema.from_flat(SMALL))
    moved = {name: jax.tree.leaves(jax.tree.map(lambda a, b: not np.array_equal(a, b), part, before["params"][name]))
             for name, part in encoder(workdir)["params"].items()}
    assert {name: all(changed) for name, changed in moved.items()} == {name: name.startswith("layer4") for name in moved}
    assert weights.run_encoder(workdir) == ("r2plus1d_tiny", "")
    assert f"--config.encoder.weights={workdir}\n" in said


def test_its_report_shows_the_training(whole):
    page, text = ((whole[0] / "report" / name).read_text() for name in ("index.html", "report.md"))
    summary = json.loads((whole[0] / "meta_train/summary.json").read_text())
    data = data_hash(prepared.load(whole[0] / "prepare")[0])
    for said in (page, text):
        assert f"Trained on 15 of 15 listed videos, data hash {data}." in said
        assert f"the lowest loss on the validation episodes, {summary['validation_loss']:.3f}" in said and "(chance 50 %)" in said
        assert "It trained for all of its 4 steps." in said and "4 steps of 4 episodes, 2-way 1-shot 2-query, with prototypes" in said
        assert f"3 classes trained on: {', '.join(summary['train_classes'])}." in said and "15 of 15 listed videos" in said
    assert page.count("<img") == 1 and "data:image/png;base64," in page and str(whole[0]) not in page


def test_a_killed_run_ends_bit_for_bit_as_one_that_was_not(root, whole, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    real = source_train._log

    def log(job, line):
        real(job, line)
        if line["step"] == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(source_train, "_log", log)
        with pytest.raises(Killed):
            run(root, tmp_path)
    assert "goes on from the checkpoint of step 2" in run(root, tmp_path)
    assert (tmp_path / "meta_train/log.jsonl").read_text() == (whole[0] / "meta_train/log.jsonl").read_text()
    for resumed, once in zip(*(jax.tree.leaves(encoder(folder)) for folder in (tmp_path, whole[0])), strict=True):
        np.testing.assert_array_equal(resumed, once)
    assert "meta_train: up to date, skipped" in run(root, tmp_path)


def test_a_run_that_is_asked_to_stop_saves_the_step_it_is_in(root, whole, tmp_path, monkeypatch):
    def asked(step):
        return KeyboardInterrupt() if len((tmp_path / "meta_train.partial/log.jsonl").read_text().splitlines()) == 3 else None

    with monkeypatch.context() as patch:
        patch.setattr(source_train, "deferred", lambda: contextlib.nullcontext(asked))
        with pytest.raises(KeyboardInterrupt):
            run(root, tmp_path)
    assert "goes on from the checkpoint of step 3" in run(root, tmp_path)
    for resumed, once in zip(*(jax.tree.leaves(encoder(folder)) for folder in (tmp_path, whole[0])), strict=True):
        np.testing.assert_array_equal(resumed, once)


def by_hand(loss: float, validation: list[float]):
    """A program that trains nothing: every step has that loss, and the validations have these."""
    state = episodic.initial_state({"kernel": jnp.ones(2)}, {"mean": jnp.ones(1)}, optax.sgd(0.1))
    left = iter(validation)
    return source_train.Program(lambda state, episodes, key: (state._replace(step=state.step + 1), dict.fromkeys(("loss", "accuracy"), jnp.full(4, loss))),
                                lambda params, statistics, episodes: (np.full(4, next(left)), np.zeros(4))), state


def test_it_stops_where_validation_no_longer_gets_better(root, tmp_path, monkeypatch):
    monkeypatch.setattr(source_train, "_program", lambda config: by_hand(1.0, [3.0, 2.0, 2.5, 2.0]))
    assert "stopped at step 8: 2 validations were no better" in run(root, tmp_path, source__steps=40, source__patience=2)
    summary = json.loads((tmp_path / "meta_train/summary.json").read_text())
    assert (summary["steps"], summary["validation_loss"]) == (8, 2.0)


def test_a_loss_that_is_not_finite_stops_with_advice(root, tmp_path, monkeypatch):
    monkeypatch.setattr(source_train, "_program", lambda config: by_hand(np.nan, []))
    with pytest.raises(WorkError, match="the loss of step 1 is nan.*--config.source.learning_rate"):
        run(root, tmp_path)


@pytest.mark.parametrize("goal, values, said", [
    ("all", {"source.way": 3}, "too few source classes for config.source.way=3: 5 have enough videos.*source.way=2 would fit"),
    ("all", {"source.query": 3}, "too few source classes: 0 have enough videos"),
    ("all", {"source.batch": 6}, "config.source.batch is 6, expected a multiple of the 4 devices"),
    ("all", {"source.freeze": "Mixed_4f"}, "config.source.freeze is 'Mixed_4f', expected a stage of r2plus1d_tiny"),
    ("evaluate", {}, "--stage=evaluate: config.source.steps is 4.*--config.encoder.weights=FOLDER, "),
    ("evaluate", {"encoder.stage": "layer4"}, "another run with --config.encoder.weights=FOLDER --config.encoder.stage=layer4, or set"),
])
def test_what_cannot_be_done_is_refused_before_training(root, tmp_path, goal, values, said):
    with pytest.raises(UsageError, match=said):
        run(root, tmp_path, goal, **{key.replace(".", "__"): value for key, value in values.items()})
    assert not (tmp_path / "meta_train").exists() and not (tmp_path / "meta_train.partial").exists()


def test_episodes_hold_a_clip_a_video_class_by_class_and_start_anywhere(whole):
    folder = whole[0] / "prepare"
    classes = source_classes(prepared.load(folder)[0], each=3, length=8)
    assert list(classes) == [f"class{i}" for i in range(CLASSES)]
    asked = dict(way=2, shot=1, query=2, batch=2, length=8, steps=6, seed=1, stream="test")
    feed = list(episodes_feed(folder, list(classes.values()), **asked))
    later = list(episodes_feed(folder, list(classes.values()), **asked, start_step=4))
    assert len(feed) == 6 and all(np.array_equal(a, b) for one, other in zip(feed[4:], later, strict=True) for a, b in zip(one, other, strict=True))
    colours = {name: np.mean([next(episodes_feed(folder, [classes[name]], **asked | {"way": 1})).support.mean(axis=(0, 1, 2, 3, 4))], axis=0)
               for name in classes}
    means, kinds = np.stack(list(colours.values())), []
    for episodes in feed:
        assert episodes.support.shape == (2, 2, 8, SIDE, SIDE, 3) and episodes.query.shape == (2, 4, 8, SIDE, SIDE, 3)
        nearest = [np.linalg.norm(side.mean(axis=(2, 3, 4))[:, :, None] - means, axis=-1).argmin(axis=-1) for side in episodes]
        assert np.array_equal(np.repeat(nearest[0], 2, axis=1), nearest[1]) and (nearest[0][:, 0] != nearest[0][:, 1]).all()
        kinds += nearest[0].ravel().tolist()
        for support, query in zip(*episodes):
            clips = [clip.tobytes() for clip in (*support, *query)]
            assert len(set(clips)) == len(clips)
    assert len(set(kinds)) == CLASSES


def test_classes_are_parted_and_videos_of_two_of_them_left_out():
    stored = [StoredSegment(Segment(f"v{i}", 0, 19, 0, category="ab"[i % 2], source=f"s{i // 2}", split="adapt"), 20, 0, 1) for i in range(8)]
    assert source_classes(stored, each=1, length=8) == {}
    own = [s._replace(segment=s.segment._replace(source="")) for s in stored]
    assert {name: len(videos) for name, videos in source_classes(own, each=4, length=8).items()} == {"a": 4, "b": 4}
    names = [f"c{i:02}" for i in range(20)]
    train, held = split_classes(names, way=2, share=0.2, seed=0)
    assert sorted(train + held) == names and len(held) == 4
    assert len(split_classes(names, way=5, share=0.2, seed=0)[1]) == 5 and len(split_classes(names, way=10, share=0.2, seed=0)[0]) == 10
    assert split_classes(names, way=2, share=0.2, seed=1)[1] != held
