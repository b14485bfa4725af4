"""Quirks of the published system, each a setting: what it did beside what is done here."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from acx_jax import config as schema
from acx_jax.contracts import ABNORMAL, NORMAL, Segment
from acx_jax.data.decode import resize
from acx_jax.data.episodes import largest_query, sample_episodes
from acx_jax.data.feeds import centre_crop
from acx_jax.data.splits import assign_splits
from acx_jax.errors import UsageError

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
    "adapt.crop": ("squeeze", "random"),
    "adapt.jitter": ("last", "all"),
    "adapt.warp": ("batch", "sample"),
    "adapt.schedule": ("step", "cosine"),
    "adapt.decay_norms": (True, False),
    "learners.pool": ("middle", "mean"),
    "episodes.protocol": ("published", "disjoint"),
}


def config(name: str):
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


@pytest.mark.parametrize("key", DIFFER)
def test_the_two_configs_differ_as_said(key):
    assert tuple(schema.flatten(config(name))[key] for name in ("dota_published", "dota")) == DIFFER[key]


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
        queries[name] = largest_query(segments, shot=5, query=30, protocol=protocol)
        drawn = sample_episodes(segments, count=40, shot=5, query=most, seed=0, protocol=protocol)
        met = [len(np.intersect1d(sources[known], sources[asked])) for known, asked in zip(drawn.support, drawn.query)]
        assert all(met) if name == "dota_published" else not any(met)
        assert all(len(np.unique(np.r_[known, asked])) == 2 * (5 + most) for known, asked in zip(drawn.support, drawn.query))
        assert np.array_equal(np.array([s.label for s in segments])[drawn.query], np.tile(np.repeat([0, 1], most), (40, 1)))
    assert queries == {"dota_published": 19, "dota": 18}


@pytest.mark.parametrize("each, said", [(5, "shot=4 would fit"), (1, "label more videos")])
def test_published_episodes_of_too_few_segments_are_refused_with_what_would_fit(each, said):
    segments = [Segment(f"v{i}", 0, 30, label) for i in range(each) for label in (NORMAL, ABNORMAL)]
    with pytest.raises(UsageError, match=said):
        largest_query(segments, shot=5, query=15, protocol="published")
