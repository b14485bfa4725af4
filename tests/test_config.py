"""The schema, the configs that are built on it, and the ways in and out of it."""

import importlib.util
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as options
from hypothesis import strategies as st
from ml_collections import ConfigDict

from acx_jax import config as schema
from acx_jax import settings
from acx_jax.errors import UsageError
from acx_jax.models.encoders import ENCODERS
from acx_jax.stages.learners import LENGTH, OWN

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))


def synthetic(**values) -> ConfigDict:
    return schema.from_flat({"data.builder": "synthetic"} | values)


def built(path: Path) -> ConfigDict:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_files_build_and_hold(path):
    config = built(path)
    assert config.name == path.stem
    own = {} if config.data.builder == "synthetic" else {"data.root": "videos"}
    own |= {"encoder.weights": "random"} if config.encoder.weights.endswith(".pth") else {}  # a file that the user downloads
    assert schema.validate(schema.with_overrides(config, own)).is_locked


def test_there_are_the_configs_that_the_readme_names():
    assert {"demo", "folder", "tiny"} <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("key", settings.SCHEMA)
def test_defaults_are_in_range_and_explained(key):
    setting = settings.SCHEMA[key]
    assert type(setting.default) in (bool, int, float, str, tuple)
    assert setting.allows(setting.default)
    assert setting.range and setting.doc


def test_encoders_and_learners_are_those_that_exist():
    assert settings.ENCODER_STAGES == {name: spec.stages for name, spec in ENCODERS.items()}
    assert set(settings.LEARNERS) == OWN.keys() - {LENGTH}


def test_default_config_is_locked_all_the_way_down():
    config = schema.default_config()
    for group in (config, config.data, config.learners.mcp):
        with pytest.raises(AttributeError):
            group.nothing = 1


@pytest.mark.parametrize("key, nearest", [
    ("sede", "config.seed"), ("episodes.shots", "config.episodes.shot"), ("adapt.lr", "config.adapt."),
    ("evaluation.shot", "config.episodes.shot"), ("data.rot", "config.data.root"), ("", "config."),
])
def test_unknown_key_names_the_nearest(key, nearest):
    with pytest.raises(UsageError) as error:
        schema.with_overrides(schema.default_config(), {key: "1"})
    assert f"config.{key} is no setting" in str(error.value)
    assert f"did you mean {nearest}" in str(error.value)


def test_group_names_its_members():
    with pytest.raises(UsageError, match=r"config\.embed is no setting.*embed\.batch"):
        schema.with_overrides(schema.default_config(), {"embed": "1"})


@pytest.mark.parametrize("key, text, expected", [
    ("seed", "one", "a whole number"), ("seed", "1.5", "a whole number"), ("seed", "", "a whole number"),
    ("adapt.learning_rate", "fast", "a number"), ("adapt.train_norm", "maybe", "True or False"),
])
def test_text_of_a_wrong_type_is_named(key, text, expected):
    with pytest.raises(UsageError, match=rf"config\.{key} is '{text}', expected {expected}"):
        schema.with_overrides(schema.default_config(), {key: text})


@pytest.mark.parametrize("key, text, value", [
    ("adapt.train_norm", "false", False), ("adapt.train_norm", "True", True), ("learners.names", "mcp,proto", ("mcp", "proto")),
    ("learners.names", "('linear',)", ("linear",)), ("adapt.learning_rate", "1e-4", 1e-4), ("data.root", "a = b", "a = b"),
    ("seed", " 7 ", 7),
])
def test_text_is_read_as_the_type_of_its_setting(key, text, value):
    read = schema.flatten(schema.with_overrides(schema.default_config(), {key: text}))[key]
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize("key, value", [
    ("seed", -1), ("seed", 2**32), ("data.adapt_share", 0.95), ("adapt.learning_rate", 0.0), ("adapt.learning_rate", math.nan),
    ("adapt.temperature", math.inf), ("data.fps", math.nan), ("data.fps", -1.0), ("adapt.weight_decay", math.nan),
    ("episodes.count", 1), ("encoder.arch", "i4d"), ("learners.names", ()), ("learners.names", ("mcp", "mcp")),
    ("learners.names", ("smv",)), ("learners.names", ("propagation",)), ("learners.names", ("a..b",)), ("learners.names", ([],)),
])
def test_value_out_of_range_is_named(key, value):
    with pytest.raises(UsageError) as error:
        schema.validate(synthetic(**{key: value}))
    assert str(error.value).startswith(f"config.{key} is {value!r}, expected ")


@pytest.mark.parametrize("name, nearest", [("smv", "svm"), ("protos", "proto"), ("bdcspn", "bd_cspn")])
def test_an_unknown_learner_names_the_nearest(name, nearest):
    with pytest.raises(UsageError, match=rf"did you mean {nearest}\?"):
        schema.validate(synthetic(**{"learners.names": ("mcp", name)}))


@pytest.mark.parametrize("key, value", [("seed", "one"), ("seed", 1.5), ("seed", True), ("seed", None), ("learners.names", "mcp"), ("name", 3)])
def test_remembered_value_of_a_wrong_type_is_named(key, value):
    with pytest.raises(UsageError, match=rf"config\.{key} is {value!r}, expected"):
        schema.validate(synthetic(**{key: value}))


@pytest.mark.parametrize("values, named", [
    ({"adapt.steps": 10, "adapt.accumulate": 4}, "config.adapt.steps is 10, expected a multiple of config.adapt.accumulate = 4"),
    ({"data.builder": "folder"}, "config.data.root is empty"),
    ({"data.min_frames": 7}, "config.data.min_frames is 7"),
    ({"encoder.crop": 129}, "config.encoder.crop is 129"),
    ({"encoder.arch": "r2plus1d_18"}, "config.encoder.weights is 'i3d_kinetics400'"),
    ({"encoder.stage": "layer1"}, "config.encoder.stage is 'layer1', expected a stage of i3d: Conv3d_1a_7x7, "),
    ({"encoder.stage": "Mixed_3c", "adapt.freeze": "Mixed_4f"}, "config.adapt.freeze is 'Mixed_4f', and the encoder ends at 'Mixed_3c' (config.encoder.stage), "),
    ({"encoder.stage": "MaxPool3d_5a_2x2", "adapt.freeze": "Mixed_4f"}, "config.adapt.freeze is 'Mixed_4f', and the encoder ends at 'MaxPool3d_5a_2x2' (c"),
    ({"adapt.freeze": "Mixed_5c"}, "config.adapt.freeze is 'Mixed_5c', and the encoder ends at 'Mixed_5c', so that adaptation would train nothing of it: name"),
    ({"encoder.stage": "Mixed_3c", "adapt.steps": 0, "source.steps": 1, "source.freeze": "Mixed_3c"}, "config.source.freeze is 'Mixed_3c', and the encoder ends at 'Mixed_3c' (c"),
    ({"learners.mcp.hidden": 30}, "config.learners.mcp.hidden is 30"),
    ({"data.max_frames": 7}, "config.data.max_frames is 7"),
    ({"data.max_adapt_frames": 7}, "config.data.max_adapt_frames is 7"),
])
def test_settings_at_odds_are_named(values, named):
    with pytest.raises(UsageError) as error:
        schema.validate(synthetic(**values))
    assert str(error.value).startswith(named)


@pytest.mark.parametrize("values", [{"encoder.stage": "Mixed_3c", "adapt.freeze": "Mixed_3b"}, {"encoder.stage": "Mixed_3c", "adapt.freeze": "Mixed_4f", "adapt.steps": 0},
                                    {"encoder.stage": "Mixed_3c", "adapt.freeze": "Mixed_4f", "source.steps": 1}])
def test_an_encoder_may_end_behind_what_is_frozen_or_without_adaptation(values):
    config = synthetic(**values)
    assert schema.validate(config) is config


def test_values_at_their_limits_hold():
    config = synthetic(**{"seed": 2**32 - 1, "data.min_frames": 8, "encoder.crop": 128, "data.max_frames": 0, "adapt.steps": 0})
    assert schema.validate(config) is config


def test_keys_beside_the_schema_are_refused():
    config = synthetic()
    with config.unlocked():
        config.data.shortside = 64
    with pytest.raises(UsageError, match=r"config\.data\.shortside is no setting: did you mean config\.data\.short_side"):
        schema.validate(config)


def test_a_config_from_elsewhere_is_refused():
    with pytest.raises(UsageError, match="is missing: start from"):
        schema.validate(ConfigDict({"seed": 1}))


def test_overrides_leave_the_original_alone():
    config = schema.default_config()
    assert schema.with_overrides(config, {"seed": "5"}).seed == 5
    assert config.seed == 0


def values_of(default) -> st.SearchStrategy:
    """Any value of the default's type, in range or not."""
    return {bool: st.booleans(), int: st.integers(-(2**40), 2**40), float: st.floats(allow_nan=False), str: st.text(),
            tuple: st.lists(st.text(), max_size=4).map(tuple)}[type(default)]


@options(deadline=None)  # a busy machine is no failure
@given(st.fixed_dictionaries({}, optional={key: values_of(setting.default) for key, setting in settings.SCHEMA.items()}))
def test_flat_values_survive_json(values):
    expected = {key: setting.default for key, setting in settings.SCHEMA.items()} | values
    config = schema.from_flat(json.loads(json.dumps(values)))
    assert schema.flatten(config) == expected
    assert schema.from_flat(json.loads(json.dumps(schema.flatten(config)))) == config
