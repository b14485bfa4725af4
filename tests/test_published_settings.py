"""Quirks of the published system, each a setting: what it did beside what is done here."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest
from data.media import grey_frames, write_frames
from PIL import Image

from acx_jax import config as schema
from acx_jax.contracts import ABNORMAL, NORMAL, Graphs, Segment, Support
from acx_jax.data.builders.named import list_data
from acx_jax.data.scaling import resize
from acx_jax.data.episodes import largest_queries, possible_way, sample_episodes
from acx_jax.data.window_feed import centre_crop
from acx_jax.data.splits import assign_splits
from acx_jax.errors import UsageError
from acx_jax.fewshot import baselines
from acx_jax.stages import evaluate, pipeline

CONFIGS = Path(__file__).parents[1] / "configs"
# Setting -> what configs/dota_published.py and configs/dota.py make of it.
DIFFER = {
    "data.split": ("published", "official"),
    "data.width": (340, 0),
    "data.resample": ("nearest", "bilinear"),
    "adapt.queue": (16384, 1024),
    "adapt.queue_start": ("uniform", "empty"),
    "adapt.loss": ("nce", "info_nce"),
    "adapt.exclude_own": (False, True),
    "adapt.negative": ("wrapping", "apart"),
    "adapt.motion_broken": ("none", "any"),
    "adapt.crop": ("squeeze", "random"),
    "adapt.jitter": ("last", "all"),
    "adapt.warp": ("batch", "sample"),
    "adapt.schedule": ("step", "cosine"),
    "adapt.decay_norms": (True, False),
    "learners.pool": ("middle", "mean"),
    "episodes.protocol": ("published", "disjoint"),
    "episodes.way": (5, 2),
    "episodes.reported": ("best", "mean"),
    "data.events": ("last", "each"),
    "learners.proto.class_order": ("position", "label"),
}

SAME = "the same in both"
# Row of the design's table of quirks -> the settings that hold it.
ROWS = {
    "evaluation resize": ("data.width", "data.resample"),
    "adaptation crop": ("adapt.crop",),
    "colour jitter": ("adapt.jitter",),
    "anchor view": ("adapt.warp",),
    "negative clip": ("adapt.negative",),
    "motion-broken negative": ("adapt.motion_broken",),
    "loss": ("adapt.loss", "adapt.queue", "adapt.queue_start", "adapt.exclude_own"),
    "momentum encoder": SAME,
    "support/query": ("episodes.protocol",),
    "adaptation data": ("data.split",),
    "episode flags": ("episodes.way",),
    "decision": SAME,
    "reported model": ("episodes.reported",),
    "UCF-Crime features": ("data.events",),
    "ProtoNet on features": ("learners.proto.class_order",),
}


def config(name: str):
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


@pytest.mark.parametrize("key", DIFFER)
def test_the_two_configs_differ_as_said(key):
    assert tuple(schema.flatten(config(name))[key] for name in ("dota_published", "dota")) == DIFFER[key]


def test_every_quirk_has_settings_that_differ_or_is_the_same_in_both():
    settings = {key for keys in ROWS.values() if keys != SAME for key in keys}
    assert settings <= DIFFER.keys()
    others = {"adapt.schedule", "adapt.decay_norms", "learners.pool"}  # told in words beside the table
    assert DIFFER.keys() - settings == others


def test_no_quirk_of_the_design_is_left_out(real_data):
    design = (real_data.parent / "design.md").read_text()
    rows = design.split("| where | published behaviour | default here |\n|---|---|---|\n")[1].split("\n\n")[0].splitlines()
    assert [row.split("|")[1].strip() for row in rows] == list(ROWS)


def test_published_features_of_several_events_overwrite_each_other(tmp_path):
    (tmp_path / "Temporal_Anomaly_Annotation_for_Testing_Videos.txt").write_text(
        "Abuse028_x264.mp4 Abuse 30 60 90 120\nNormal_Videos_003_x264.mp4 Normal -1 -1 -1 -1\n")
    for name in ("Abuse028_x264", "Normal_Videos_003_x264"):
        write_frames(tmp_path / name, grey_frames(60))
    starts = {}
    for name in ("dota_published", "dota"):
        listing = list_data("ucf_crime", tmp_path, split="official", fps=10.0, annotations="all", events=config(name).data.events)
        starts[name] = [(s.video, s.start) for s in listing.segments]
        assert [reason for _, reason in listing.skipped] == ["a later one of its video and label takes its place, as "
                                                             "config.data.events='last' asks"] * (name == "dota_published")
    normal, late = ("Normal_Videos_003_x264", 0), ("Abuse028_x264", 29)
    assert starts == {"dota_published": [late, normal], "dota": [("Abuse028_x264", 9), late, normal]}


def test_published_prototypes_are_of_mixed_up_classes():
    vectors = np.array([[0.0], [1], [2], [10], [11], [12]], np.float32)  # in turns: 0 10 1 | 11 2 12
    support = Support(Graphs(vectors[:, None], np.ones((6, 1), bool)), np.repeat(np.arange(2, dtype=np.int32), 3))
    for name, expected in (("dota_published", [11 / 3, 25 / 3]), ("dota", [1, 11])):
        learner = baselines.proto(features=1, way=2, pool="mean", **config(name).learners.proto)
        means = learner.adapt(learner.init(jax.random.key(0)), support, jax.random.key(0))
        np.testing.assert_allclose(means[:, 0], expected, rtol=1e-6)


def test_of_five_published_classes_there_are_two_and_the_best_model_is_named_beside_the_mean():
    assert [possible_way(config(name).episodes.way) for name in ("dota_published", "dota")] == [2, 2]
    row = {"learner": "proto", "features": "adapted", "category": "all", "ego_involved": "all", "way": 2, "query": 9, "query_abnormal": 9,
           "accuracy": 0.7, "accuracy_ci95": 0.01, "accuracy_max": 0.9333, "auroc": 0.8, "average_precision": 0.8, "recall_normal": 0.7, "recall_abnormal": 0.7}
    said = {name: "\n".join(evaluate.table([row], reported=config(name).episodes.reported)) for name in ("dota_published", "dota")}
    assert "0.700 +- 0.010" in said["dota_published"] and "0.700 +- 0.010" in said["dota"]
    assert "0.933" in said["dota_published"] and "chosen on its queries" in said["dota_published"]
    assert "0.933" not in said["dota"] and "chosen" not in said["dota"]


def test_published_frames_are_stretched_and_the_corrected_ones_keep_their_aspect():
    data, crop = config("dota_published").data, config("dota_published").encoder.crop
    frame = np.zeros((720, 1280, 3), np.uint8)
    frame[260:460, 540:740] = 255  # a square
    published = resize(frame, short_side=data.short_side, width=data.width, resample=data.resample)
    kept = resize(frame, short_side=data.short_side, resample=data.resample)
    assert published.shape == (256, 340, 3) and kept.shape == (256, 455, 3)
    nearest = np.asarray(Image.fromarray(frame).resize((340, 256), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(centre_crop(published[None], crop)[0], nearest[16:240, 58:282])
    sides = [(image.any(axis=(1, 2)).sum(), image.any(axis=(0, 2)).sum()) for image in (published, kept)]
    assert sides[0][0] - sides[0][1] > 15 and abs(sides[1][0] - sides[1][1]) <= 1


def test_published_adaptation_sees_the_evaluated_segments_and_the_corrected_one_does_not():
    segments = [Segment(f"v{i}", 0, 30, label, split="adapt" if i < 4 else "evaluate") for i in range(8) for label in (NORMAL, ABNORMAL)]
    shared = {}
    for name in ("dota_published", "dota"):
        split = assign_splits(segments, adapt_share=0.5, seed=0, how=config(name).data.split)
        videos = {part: {s.video for s in split if s.split == part} for part in ("adapt", "evaluate")}
        shared[name] = videos["adapt"] & videos["evaluate"]
    assert shared == {"dota_published": {"v4", "v5", "v6", "v7"}, "dota": set()}


def test_published_episodes_have_siblings_on_both_sides_and_corrected_ones_none():
    segments = [Segment(f"v{i}", 0, 30, label, source=f"s{i % 12}") for i in range(24) for label in (NORMAL, ABNORMAL)]
    sources, queries = np.array([s.source for s in segments]), {}
    for name, most in (("dota_published", 19), ("dota", 14)):
        protocol = config(name).episodes.protocol
        queries[name] = largest_queries(segments, shot=5, queries=(30, 30), protocol=protocol)
        drawn = sample_episodes(segments, count=40, shot=5, queries=(most, most), seed=0, protocol=protocol)
        met = [len(np.intersect1d(sources[known], sources[asked])) for known, asked in zip(drawn.support, drawn.query)]
        assert all(met) if name == "dota_published" else not any(met)
        assert all(len(np.unique(np.r_[known, asked])) == 2 * (5 + most) for known, asked in zip(drawn.support, drawn.query))
        assert np.array_equal(np.array([s.label for s in segments])[drawn.query], np.tile(np.repeat([0, 1], most), (40, 1)))
    assert queries == {"dota_published": (19, 19), "dota": (18, 18)}


@pytest.mark.parametrize("each, said", [(5, "shot=4 would fit"), (1, "label more videos")])
def test_published_episodes_of_too_few_segments_are_refused_with_what_would_fit(each, said):
    segments = [Segment(f"v{i}", 0, 30, label) for i in range(each) for label in (NORMAL, ABNORMAL)]
    with pytest.raises(UsageError, match=said):
        largest_queries(segments, shot=5, queries=(15, 15), protocol="published")


def test_the_published_variant_with_augmented_support_is_two_settings_and_redoes_no_other_stage():
    said = (CONFIGS / "dota_published.py").read_text()
    flags = dict(flag.removeprefix("--config.").split("=") for flag in said.split() if ".augmented=" in flag)
    assert flags == {"embed.augmented": "20", "episodes.augmented": "10"}
    plain = schema.with_overrides(config("dota_published"), {"encoder.weights": "random", "data.root": "DoTA"})
    variant = schema.validate(schema.with_overrides(plain, flags))
    changed = {name for name, stage in pipeline.stages_of(plain).items() if stage.settings(plain) != pipeline.stages_of(variant)[name].settings(variant)}
    assert changed == {"evaluate"} and pipeline.stages_of(variant).keys() - pipeline.stages_of(plain).keys() == {"augment"}
