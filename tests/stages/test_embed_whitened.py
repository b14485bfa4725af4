"""The features `whitened`: what the map is learnt from, stopped runs, and the way into an evaluation."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from adapt_case import job, prepare
from runs import compiled_once

from acx_jax import config as schema
from acx_jax.contracts import Segment
from acx_jax.data import prepared
from acx_jax.data.feature_store import FeatureWriter
from acx_jax.errors import UsageError, WorkError
from acx_jax.models import pretrained
from acx_jax.models.whitening import Whitening, apply_map, whitening
from acx_jax.runtime.checkpoints import save_variables
from acx_jax.runtime.stopping import Terminated
from acx_jax.stages import augment, embed, embed_whitened, stamps, support
from acx_jax.stages.job import Job

pytestmark = pytest.mark.usefixtures("quick_compiler")
NORMAL = [Segment(f"n{i}", 0, 19, 0, split="adapt") for i in range(3)]  # of 4 windows each
OTHERS = [Segment("a", 0, 19, 1, split="adapt"), *(Segment(f"e{i}", 0, 19, i % 2, split="evaluate") for i in range(3))]


def prepared_of(segments: list[Segment], factory: pytest.TempPathFactory) -> Path:
    """A workdir whose adaptation handed on other random weights than it started from."""
    made = prepare(segments, factory)
    (made / "adapt").mkdir()
    (made / "adapt" / "summary.json").write_text('{"adapted": true}')
    save_variables(made / "adapt" / "encoder", pretrained.load("random", "r2plus1d_tiny", jax.random.key(1), (1, 8, 16, 16, 3)))
    return made


@pytest.fixture(scope="module", autouse=True)
def one_program():
    """The stage's encoder, compiled once for all tests."""
    with compiled_once(embed):
        yield


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    return prepared_of([*NORMAL, *OTHERS], tmp_path_factory)


def asked(workdir: Path, out: str, **values) -> Job:
    made = job(workdir, out)
    with made.config.unlocked():
        made.config.embed.update({"whiten": 0.5, "batch": 4} | values)
    return made


@pytest.fixture(scope="module")
def whole(workdir) -> Job:
    made = asked(workdir, "embed")
    embed.run(made)
    return made


def vectors(of: Job, name: str) -> np.ndarray:
    return np.load(of.out / name / "vectors.npy")


def map_of(of: Job) -> Whitening:
    return embed_whitened.load_map(of.out)[1]


def test_the_map_is_learnt_from_the_adapted_encoders_vectors_of_normal_videos_and_whitens_its_set(workdir, whole):
    assert vectors(whole, "normals").shape == (12, 128) and embed_whitened.load_map(whole.out)[0] == "adapted"
    for held, expected in zip(map_of(whole), whitening(vectors(whole, "normals"), 0.5), strict=True):
        np.testing.assert_allclose(held, expected, rtol=1e-9)
    expected = np.concatenate(list(apply_map(vectors(whole, "adapted"), map_of(whole))))
    assert np.array_equal(vectors(whole, "whitened"), expected) and not np.allclose(expected, vectors(whole, "adapted"), rtol=0.01)
    assert {name: len(of.vectors) for name, of in embed.load_sets(workdir).items()} == {"pretrained": 12, "adapted": 12, "whitened": 12}
    assert json.loads((whole.out / "summary.json").read_text())["whitened"] == {"of": "adapted", "normals": 12, "weight": 0.5}
    said = whole.log._terminal.getvalue()
    assert "embed normals: 12 windows of 3 segments" in said and "whitened by 12 windows of normal segments" in said


def test_no_other_video_and_no_abnormal_segment_enters_the_map(whole, tmp_path_factory):
    """The normal adapting videos alone are the same; all others have changed, or are there no more."""
    others = [segment._replace(label=1 - segment.label) for segment in OTHERS if segment.split == "evaluate"]
    changed = asked(prepared_of([*NORMAL, *others, others[0]._replace(video="more")], tmp_path_factory), "changed")
    embed.run(changed)
    assert not np.isclose(vectors(changed, "adapted")[:12], vectors(whole, "adapted"), rtol=1e-3).all()
    assert vectors(changed, "normals").tobytes() == vectors(whole, "normals").tobytes() and np.array_equal(map_of(changed).by, map_of(whole).by)


def test_at_most_so_many_windows_spread_over_all_segments(workdir, whole):
    few = asked(workdir, "few", normals=7)
    embed.run(few)
    first_and_last = [0, 3, 4, 7, 8, 11]  # 2 of the 4 windows of each of 3 segments: 3 would be 9 windows
    np.testing.assert_allclose(vectors(few, "normals"), vectors(whole, "normals")[first_and_last], rtol=1e-4, atol=1e-5)
    assert [s.segment.video for s in embed_whitened.normals(asked(workdir, "x", normals=2).config, embed._stored(few, "adapt"))[0]] == ["n0", "n2"]


@pytest.mark.parametrize("asked_to_stop", [True, False])
def test_a_run_that_ends_within_the_normals_goes_on_there(workdir, whole, monkeypatch, asked_to_stop):
    stopped = asked(workdir, f"stopped{asked_to_stop}")
    append, feed, fed = FeatureWriter.append, embed.windows_feed, []

    class Killed(BaseException):
        pass

    def in_the_normals(self, values):
        append(self, values)
        if self._folder.name == "normals" and asked_to_stop:
            os.kill(os.getpid(), signal.SIGTERM)
        elif self._folder.name == "normals":
            raise Killed

    monkeypatch.setattr("acx_jax.data.feature_store.FLUSH_EVERY", 1)
    monkeypatch.setattr(FeatureWriter, "append", in_the_normals)
    with pytest.raises(Terminated if asked_to_stop else Killed):
        embed.run(stopped)
    assert not (stopped.out / "whitened").exists()
    assert ("embed normals: asked to stop, 4 windows are saved" in stopped.log._terminal.getvalue()) == asked_to_stop
    monkeypatch.setattr(FeatureWriter, "append", append)
    monkeypatch.setattr(embed, "windows_feed", lambda *given, **options: fed.append(options["start_batch"]) or feed(*given, **options))
    embed.run(stopped)
    assert fed == [3, 3, 1]
    for name in ("pretrained", "adapted", "normals", "whitened"):
        assert vectors(stopped, name).tobytes() == vectors(whole, name).tobytes()


def test_copies_of_the_whitened_set_are_mapped_copies(workdir, whole, monkeypatch):
    copies = [features._replace(vectors=features.vectors + 1) for features in [embed.load_sets(workdir)["adapted"]]]
    monkeypatch.setattr(augment, "load_copies", lambda of, name: {"adapted": copies}[name])
    [copy] = support._copies(workdir, "whitened")
    away, by = map_of(whole)
    np.testing.assert_allclose(copy.vectors, (vectors(whole, "adapted").astype(np.float64) + 1 - away) @ by, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("normal", [0, 1])
def test_too_few_normal_windows_leave_the_whitening_out_and_it_is_said(workdir, monkeypatch, normal):
    kept, whole = prepared.load(workdir / "prepare"), asked(workdir, f"too_few{normal}")
    one = [s._replace(frames=8) for s in kept[0] if s.segment in NORMAL[:normal]]
    monkeypatch.setattr(prepared, "load", lambda folder: ([s for s in kept[0] if s.segment in OTHERS] + one, kept[1]))
    embed.run(whole)
    assert sorted(path.name for path in whole.out.iterdir()) == ["adapted", "pretrained", "summary.json"]
    assert "nothing is whitened: the normal segments of the adaptation split have fewer than 2 windows" in whole.log._terminal.getvalue()
    assert "whitened" not in json.loads((whole.out / "summary.json").read_text())


def test_videos_in_which_nothing_varies_are_named(workdir, whole):
    still = asked(workdir, "still")
    embed.run(still)
    np.save(still.out / "normals" / "vectors.npy", np.ones((12, 128), np.float32))
    with pytest.raises(WorkError, match="config.embed.whiten=0.5 learns from, all 12 vectors are the same.*--config.embed.whiten=0"):
        embed_whitened.write(still, "adapted")


def test_a_broken_map_says_what_to_do(tmp_path):
    (tmp_path / embed_whitened.MAP).write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(WorkError, match="whitening.npz.*delete .* and run the same command again"):
        embed_whitened.load_map(tmp_path)


def config_of(**values):
    return schema.from_flat({key.replace("__", "."): value for key, value in values.items()})


def test_settings_of_runs_without_it_stay_and_given_features_are_refused():
    assert embed.settings(config_of(embed__normals=10)) == embed.settings(config_of()) and embed.settings(config_of()).keys() == {"seed", "encoder"}
    assert embed.settings(config_of(embed__whiten=0.1)) == embed.settings(config_of()) | {"embed.whiten": 0.1, "embed.normals": 4000, "embed.map": "2"}
    with pytest.raises(UsageError, match="config.embed.whiten is 0.1.*config.data.builder='features' has no such split"):
        schema.validate(config_of(data__builder="features", data__root="x", embed__whiten=0.1))


@pytest.mark.parametrize("other, fed_from", [({"embed.whiten": 0.1}, [3, 3, 3]), ({"seed": 1}, [0, 0, 0])])
def test_another_whitening_encodes_nothing_again_and_another_encoder_all(workdir, whole, monkeypatch, other, fed_from):
    feed, fed, weight = embed.windows_feed, [], other.get("embed.whiten", 0.5)
    again = asked(workdir, f"again{weight}", whiten=weight)
    for folder, settings in ((whole.out, embed.settings(whole.config)), (again.out, embed.settings(whole.config) | other)):
        (folder / "stage.json").write_text(json.dumps({"fingerprint": "0", "depends": {"settings": settings, "stages": {"adapt": "0"}}}))
    monkeypatch.setattr(embed, "windows_feed", lambda *given, **options: fed.append(options["start_batch"]) or feed(*given, **options))
    embed.run(again)
    assert fed == fed_from
    assert ("embed normals: 12 windows of 3 segments, which were there" in again.log._terminal.getvalue()) == (fed_from[0] == 3)
    np.testing.assert_allclose(map_of(again).by, whitening(vectors(whole, "normals"), weight).by, rtol=1e-9)
    assert vectors(again, "adapted").tobytes() == vectors(whole, "adapted").tobytes()
    assert not list(again.out.glob("*.taken"))


def test_why_it_is_redone_names_what_users_set_and_a_new_map_in_words():
    def changes(old: dict, new: dict) -> str:
        return stamps.changes(*({"depends": {"settings": settings}} for settings in (old, new)))

    without, weak, strong = (embed.settings(config_of(embed__whiten=weight)) for weight in (0.0, 0.1, 0.2))
    assert changes(without, strong) == "config.embed.whiten was 0.0, is 0.2" and changes(weak, without) == "config.embed.whiten was 0.1, is 0.0"
    assert changes(weak, strong) == "config.embed.whiten was 0.1, is 0.2"
    earlier = {key: value for key, value in weak.items() if key != "embed.map"}
    assert changes(earlier, weak) == changes(weak | {"embed.map": "0"}, weak) == "the whitening is computed in another way than before"
    assert changes(without, without | {"embed.normals": 4000}) == "settings are noted that were not"


@pytest.mark.parametrize("text", ["{", "[]", "{}", None])
def test_a_damaged_summary_of_the_adaptation_is_named_with_what_to_do(workdir, text):
    summary = workdir / "adapt" / "summary.json"
    whole = summary.read_text()
    try:
        summary.unlink() if text is None else summary.write_text(text)
        with pytest.raises(WorkError, match=f"{summary} is damaged .*: rename {summary.parent} to adapt.partial and run the same command again"):
            embed.weights_of(job(workdir, "damaged"))
    finally:
        summary.write_text(whole)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_the_next_batch_is_on_its_way_when_a_result_is_taken(count):
    made, taken = [], []
    for value in embed._one_ahead(made.append(i) or i for i in range(count)):
        taken.append(value)
        assert len(made) == min(len(taken) + 1, count)
    assert taken == made == list(range(count))
