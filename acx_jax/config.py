"""The one schema: every setting with its default, its allowed values and what it means."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from acx_jax.errors import UsageError

_RESNET_STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")
_I3D_STAGES = (
    "Conv3d_1a_7x7", "MaxPool3d_2a_3x3", "Conv3d_2b_1x1", "Conv3d_2c_3x3", "MaxPool3d_3a_3x3", "Mixed_3b", "Mixed_3c",
    "MaxPool3d_4a_3x3", "Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f", "MaxPool3d_5a_2x2", "Mixed_5b", "Mixed_5c",
)
ENCODER_STAGES = {"i3d": _I3D_STAGES} | dict.fromkeys(
    ("r2plus1d_tiny", "r2plus1d_18", "r2plus1d_34", "r3d_18", "mc3_18"), _RESNET_STAGES)
LEARNERS = ("mcp", "proto", "linear")


class Setting(NamedTuple):
    """One setting: `allows(value)` says whether a value of the default's type is in range, `range` says it in words."""

    default: Any
    allows: Callable[[Any], bool]
    range: str
    doc: str


def _between(low: float, high: float = float("inf")) -> tuple[Callable[[Any], bool], str]:
    return lambda value: low <= value <= high, f"from {low}" if high == float("inf") else f"from {low} to {high}"


def _one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in names, "one of " + ", ".join(names)


def _some_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: 0 < len(value) and all(value.count(x) == 1 and x in names for x in value), "some of " + ", ".join(names)


def _positive() -> tuple[Callable[[Any], bool], str]:
    return lambda value: 0 < value < float("inf"), "above 0"


_ANY = (lambda value: True, "any text")
_EITHER = (lambda value: True, "True or False")

SCHEMA: dict[str, Setting] = {
    "name": Setting("", *_ANY, "name of the configuration; that of its file if left empty"),
    "seed": Setting(0, *_between(0, 2**32 - 1), "seed of everything random: split, scenes, training, episodes"),
    "data.builder": Setting("folder", *_one_of("folder", "synthetic"), "where videos come from"),
    "data.root": Setting("", *_ANY, "folder: your videos, with segments.csv or the subfolders normal/ and abnormal/"),
    "data.fps": Setting(0.0, *_between(0, 1000), "frames a second to read videos at; 0 keeps each video's own rate"),
    "data.short_side": Setting(128, *_between(16, 2160), "pixels of the shorter side of stored frames"),
    "data.resample": Setting("bilinear", *_one_of("nearest", "bilinear", "bicubic"), "filter that resizes frames"),
    "data.clip_frames": Setting(8, *_between(2, 64), "frames of a clip, the encoder's unit"),
    "data.clip_stride": Setting(4, *_between(1, 64), "frames from one clip of a segment to the next"),
    "data.min_frames": Setting(8, *_between(1), "shorter segments are left out; at least data.clip_frames"),
    "data.max_frames": Setting(124, *_between(0), "longer segments keep their first so many frames in evaluation; 0 keeps all"),
    "data.max_adapt_frames": Setting(1000, *_between(0), "the same for segments used in adaptation"),
    "data.adapt_share": Setting(0.3, *_between(0, 0.9), "share of the videos to adapt on where no split column says so"),
    "data.max_bad_share": Setting(0.1, *_between(0, 1), "a larger share of unusable videos stops the run"),
    "data.videos": Setting(60, *_between(4, 100000), "synthetic: number of videos"),
    "data.scene_width": Setting(176, *_between(32, 1920), "synthetic: width of a video in pixels"),
    "data.scene_height": Setting(128, *_between(32, 1080), "synthetic: height of a video in pixels"),
    "encoder.arch": Setting("i3d", *_one_of(*ENCODER_STAGES), "video encoder"),
    "encoder.weights": Setting("i3d_kinetics400", *_one_of("i3d_kinetics400", "random"), "weights it starts from"),
    "encoder.crop": Setting(112, *_between(16, 1080), "side of the square the encoder sees; at most data.short_side"),
    "encoder.dtype": Setting("float32", *_one_of("float32", "bfloat16"), "number format the encoder computes in"),
    "adapt.steps": Setting(100, *_between(0), "training steps on normal clips; 0 leaves the encoder as it is"),
    "adapt.batch": Setting(8, *_between(1), "clips a step, over all devices"),
    "adapt.learning_rate": Setting(0.003, *_positive(), "peak learning rate (SGD, cosine to 0)"),
    "adapt.momentum": Setting(0.9, *_between(0, 0.9999), "of SGD"),
    "adapt.weight_decay": Setting(1e-4, *_between(0, 1), "of all weights"),
    "adapt.temperature": Setting(0.07, *_positive(), "of the contrastive loss"),
    "adapt.queue": Setting(1024, *_between(0), "negative keys remembered from earlier steps"),
    "adapt.key_momentum": Setting(0.999, *_between(0, 1), "share of the key encoder kept at each step"),
    "adapt.projection": Setting(128, *_between(2), "dimensions of the contrastive space"),
    "adapt.train_norm": Setting(True, *_EITHER, "batch statistics in training; False keeps the pretrained ones"),
    "adapt.freeze": Setting("", *_ANY, "last stage of the encoder that keeps its weights, such as Mixed_4f; empty trains all"),
    "adapt.checkpoint_every": Setting(10, *_between(1), "steps between checkpoints"),
    "embed.batch": Setting(8, *_between(1), "clips encoded at once, over all devices"),
    "episodes.count": Setting(200, *_between(2), "episodes to evaluate"),
    "episodes.shot": Setting(5, *_between(1, 50), "labelled segments a class in an episode"),
    "episodes.query": Setting(15, *_between(1, 100), "queries a class, at most: fewer where the data allow no more"),
    "episodes.chunk": Setting(10, *_between(1), "episodes fitted at once, over all devices"),
    "learners.names": Setting(LEARNERS, *_some_of(*LEARNERS), "learners to compare"),
    "learners.pool": Setting("mean", *_one_of("mean", "middle"), "proto, linear: a segment's vector is the mean, or the middle clip"),
    "learners.mcp.hidden": Setting(128, *_between(4), "width of the graph, a multiple of 4"),
    "learners.mcp.groups": Setting(32, *_between(1), "groups of the inner convolutions, 4 channels each"),
    "learners.mcp.neighbours": Setting(5, *_between(1, 64), "semantic neighbours of a node, itself included"),
    "learners.mcp.blocks": Setting(1, *_between(1, 8), "context blocks"),
    "learners.mcp.pool": Setting("mean", *_one_of("mean", "max"), "over the nodes"),
    "learners.mcp.scaled_paths": Setting(False, *_EITHER, "learnt scales of the three paths"),
    "learners.mcp.epochs": Setting(301, *_between(1), "passes over the support set"),
    "learners.mcp.batch": Setting(4, *_between(1), "segments a step"),
    "learners.mcp.learning_rate": Setting(0.01, *_positive(), "of Adam"),
    "learners.linear.epochs": Setting(301, *_between(1), "passes over the support set"),
    "learners.linear.batch": Setting(4, *_between(1), "segments a step"),
    "learners.linear.learning_rate": Setting(0.01, *_positive(), "of SGD, momentum 0.9, dampening 0.9"),
    "learners.linear.weight_decay": Setting(1e-3, *_between(0, 1), "of SGD"),
    "report.samples": Setting(6, *_between(0, 50), "best and worst segments shown, each"),
}


def default_config() -> ConfigDict:
    """Every setting at its default; locked, so that an unknown key is an error."""
    config = ConfigDict()
    for key, setting in SCHEMA.items():
        _place(config, key, setting.default)
    return config.lock()


def flatten(config: ConfigDict) -> dict[str, Any]:
    """{'a.b': value} of every setting, in the schema's order. Raises UsageError when `config` has other keys."""
    for key in _keys(config):
        _check_known(key)
    missing = SCHEMA.keys() - set(_keys(config))
    if missing:
        raise UsageError(f"config.{min(missing)} is missing: start from acx_jax.config.default_config()")
    return {key: _find(config, key) for key in SCHEMA}


def with_overrides(config: ConfigDict, overrides: dict[str, str]) -> ConfigDict:
    """A copy of `config` with the text values of `overrides`, each read as the type of its setting.

    Raises UsageError naming an unknown key (and the nearest right one) or a value of another type.
    """
    changed = config.copy_and_resolve_references()
    for key, text in overrides.items():
        _check_known(key)
        _place(changed, key, _parse(key, text))
    return changed.lock()


def from_flat(values: dict[str, Any]) -> ConfigDict:
    """The inverse of `flatten`, of values that came from JSON. Raises UsageError for unknown keys or wrong types."""
    config = default_config()
    for key, value in values.items():
        _check_known(key)
        try:
            _place(config, key, tuple(value) if isinstance(value, list) else value)
        except TypeError:
            raise _wrong_type(key, value) from None
    return config


def validate(config: ConfigDict) -> ConfigDict:
    """Returns `config`; raises UsageError for the first setting of a wrong type, out of range, or at odds with another."""
    for key, value in flatten(config).items():
        setting = SCHEMA[key]
        if type(value) is not type(setting.default):
            raise _wrong_type(key, value)
        if not setting.allows(value):
            raise UsageError(f"config.{key} is {value!r}, expected {setting.range}  ({setting.doc})")
    for holds, message in _relations(config):
        if not holds:
            raise UsageError(message)
    return config


def _relations(config: ConfigDict) -> list[tuple[bool, str]]:
    data, encoder, mcp = config.data, config.encoder, config.learners.mcp
    return [
        (data.builder != "folder" or data.root != "",
         "config.data.root is empty: say where your videos are with --config.data.root=FOLDER"),
        (data.min_frames >= data.clip_frames,
         f"config.data.min_frames is {data.min_frames}, expected at least config.data.clip_frames = {data.clip_frames}"),
        (encoder.crop <= data.short_side,
         f"config.encoder.crop is {encoder.crop}, expected at most config.data.short_side = {data.short_side}"),
        ((encoder.weights == "i3d_kinetics400") <= (encoder.arch == "i3d"),
         f"config.encoder.weights is 'i3d_kinetics400', which fits config.encoder.arch='i3d', not {encoder.arch!r}: "
         "choose --config.encoder.weights=random"),
        (config.adapt.freeze in ("", *ENCODER_STAGES[encoder.arch]),
         f"config.adapt.freeze is {config.adapt.freeze!r}, expected a stage of {encoder.arch}: "
         f"{', '.join(ENCODER_STAGES[encoder.arch])}; --config.adapt.freeze= trains all"),
        (mcp.hidden % 4 == 0, f"config.learners.mcp.hidden is {mcp.hidden}, expected a multiple of 4"),
        (not 0 < data.max_frames < data.min_frames,
         f"config.data.max_frames is {data.max_frames}, expected 0 or at least config.data.min_frames = {data.min_frames}"),
        (not 0 < data.max_adapt_frames < data.min_frames,
         f"config.data.max_adapt_frames is {data.max_adapt_frames}, expected 0 or at least "
         f"config.data.min_frames = {data.min_frames}"),
    ]


def _check_known(key: str) -> None:
    if key in SCHEMA:
        return
    inside = [name for name in SCHEMA if name.startswith(key + ".")]
    same_leaf = [name for name in SCHEMA if name.split(".")[-1] == key.split(".")[-1]]
    nearest = difflib.get_close_matches(key, same_leaf or SCHEMA, n=1, cutoff=0.0)
    hint = "it is a group: name one of " + ", ".join(inside) if inside else f"did you mean config.{nearest[0]}?"
    raise UsageError(f"config.{key} is no setting: {hint}")


def _parse(key: str, text: str) -> Any:
    default = SCHEMA[key].default
    try:
        if isinstance(default, bool):
            return {"true": True, "1": True, "false": False, "0": False}[text.strip().lower()]
        if isinstance(default, tuple):
            return tuple(part.strip(" '\"") for part in text.strip("()[] ").split(",") if part.strip(" '\""))
        return type(default)(text)
    except (ValueError, KeyError):
        raise _wrong_type(key, text) from None


def _wrong_type(key: str, value: Any) -> UsageError:
    names = {bool: "True or False", int: "a whole number", float: "a number", str: "text", tuple: "names with commas between"}
    return UsageError(f"config.{key} is {value!r}, expected {names[type(SCHEMA[key].default)]}")


def _keys(config: ConfigDict, group: str = "") -> list[str]:
    """'a.b' of every value that is no group."""
    return [key for name, value in config.items()
            for key in (_keys(value, f"{group}{name}.") if isinstance(value, ConfigDict) else [group + name])]


def _find(config: ConfigDict, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config


def _place(config: ConfigDict, key: str, value: Any) -> None:
    *groups, leaf = key.split(".")
    with config.unlocked():
        for group in groups:
            if group not in config:
                config[group] = ConfigDict()
            config = config[group]
        with config.unlocked():
            config[leaf] = value
