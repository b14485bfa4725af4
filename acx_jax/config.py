"""The configuration: defaults, overrides and checks of the settings that acx_jax.settings lists."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from acx_jax.errors import UsageError
from acx_jax.settings import ENCODER_STAGES, LEARNERS, NAMED_WEIGHTS, SCHEMA


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
            hint = _nearest_learner(key, value)
            raise UsageError(f"config.{key} is {value!r}, expected {setting.range}{hint}  ({setting.doc})")
    for holds, message in _relations(config):
        if not holds:
            raise UsageError(message)
    return config


def _relations(config: ConfigDict) -> list[tuple[bool, str]]:
    data, encoder, episodes, mcp = config.data, config.encoder, config.episodes, config.learners.mcp
    return [
        (data.builder == "synthetic" or data.root != "",
         "config.data.root is empty: say where your videos are with --config.data.root=FOLDER"),
        (data.min_frames >= data.clip_frames,
         f"config.data.min_frames is {data.min_frames}, expected at least config.data.clip_frames = {data.clip_frames}"),
        (encoder.crop <= data.short_side,
         f"config.encoder.crop is {encoder.crop}, expected at most config.data.short_side = {data.short_side}"),
        (data.width == 0 or data.width >= data.short_side,
         f"config.data.width is {data.width}, expected 0 or at least config.data.short_side = {data.short_side}"),
        ((encoder.weights == "i3d_kinetics400") <= (encoder.arch == "i3d"),
         f"config.encoder.weights is 'i3d_kinetics400', which fits config.encoder.arch='i3d', not {encoder.arch!r}: "
         "choose --config.encoder.weights=random, or the path of weights"),
        (encoder.weights in NAMED_WEIGHTS or Path(encoder.weights).exists(),
         f"config.encoder.weights is {encoder.weights!r}, expected {', '.join(NAMED_WEIGHTS)} or the path of a weight file or folder: "
         "there is no such file"),
        (encoder.stage in ("", *ENCODER_STAGES[encoder.arch]),
         f"config.encoder.stage is {encoder.stage!r}, expected a stage of {encoder.arch}: {', '.join(ENCODER_STAGES[encoder.arch])}; "
         "--config.encoder.stage= takes all"),
        (config.adapt.steps == 0 or data.builder == "features" or not _ends_within(config, config.adapt.freeze),
         f"config.encoder.stage is {encoder.stage!r}, and config.adapt.freeze keeps all up to {config.adapt.freeze!r}, so that adaptation trains "
         "nothing of the encoder: name an earlier stage, or leave adaptation out with --config.adapt.steps=0"),
        (config.source.steps == 0 or not _ends_within(config, config.source.freeze),
         f"config.encoder.stage is {encoder.stage!r}, and config.source.freeze keeps all up to {config.source.freeze!r}, so that nothing is "
         "trained: name an earlier stage"),
        (config.adapt.freeze in ("", *ENCODER_STAGES[encoder.arch]),
         f"config.adapt.freeze is {config.adapt.freeze!r}, expected a stage of {encoder.arch}: "
         f"{', '.join(ENCODER_STAGES[encoder.arch])}; --config.adapt.freeze= trains all"),
        (config.source.freeze in ("", *ENCODER_STAGES[encoder.arch]),
         f"config.source.freeze is {config.source.freeze!r}, expected a stage of {encoder.arch}: "
         f"{', '.join(ENCODER_STAGES[encoder.arch])}; --config.source.freeze= trains all"),
        (config.source.steps == 0 or data.builder != "features",
         "config.source.steps trains an encoder, and config.data.builder='features' has no videos: leave one of them out"),
        (config.adapt.warp != "batch" or encoder.crop <= 256,
         f"config.adapt.warp is 'batch', the published warp, which takes config.encoder.crop up to 256, not {encoder.crop}"),
        (config.adapt.motion_broken == "none" or config.adapt.objective == "dsm",
         f"config.adapt.motion_broken is {config.adapt.motion_broken!r}, which only config.adapt.objective='dsm' takes, not "
         f"{config.adapt.objective!r}"),
        (config.adapt.objective not in ("vicreg", "triplet") or config.adapt.batch >= 2,
         f"config.adapt.batch is 1, and config.adapt.objective={config.adapt.objective!r} compares the clips of a batch: at least 2 are needed"),
        (config.adapt.objective != "moco" or config.adapt.queue >= config.adapt.batch,
         f"config.adapt.queue is {config.adapt.queue}, and config.adapt.objective='moco' has no other negatives: expected at least "
         f"config.adapt.batch = {config.adapt.batch}"),
        (config.adapt.result != "best" or config.probe.share > 0,
         "config.adapt.result is 'best', which a probe tells: set --config.probe.share, such as 0.2"),
        (config.probe.share + config.meta.share <= 0.9 or not config.meta.steps,
         f"config.probe.share={config.probe.share} and config.meta.share={config.meta.share} leave too little to evaluate: expected 0.9 or less in all"),
        (episodes.classes == "labels" or not config.meta.steps,
         "config.meta.steps trains on normal and abnormal, which config.episodes.classes='categories' does not evaluate: leave one of them out"),
        (episodes.classes == "labels" or not episodes.rows,
         "config.episodes.rows are parts of two classes, normal and abnormal: leave them out with config.episodes.classes='categories'"),
        (not (config.meta.learn_rates and config.meta.method == "reptile"),
         "config.meta.learn_rates is True, which config.meta.method='reptile' cannot do: it does not look through the inner steps"),
        (config.meta.method != "anil" or config.meta.learner in ("mcp", "two_layer"),
         f"config.meta.method is 'anil', which config.meta.learner={config.meta.learner!r} does not take: it has one layer alone"),
        (config.adapt.steps % config.adapt.accumulate == 0,
         f"config.adapt.steps is {config.adapt.steps}, expected a multiple of config.adapt.accumulate = {config.adapt.accumulate}: the last "
         "steps would change nothing"),
        (config.episodes.augmented <= config.embed.augmented or data.builder == "features",
         f"config.episodes.augmented is {config.episodes.augmented}, more than config.embed.augmented = {config.embed.augmented} holds for each segment: "
         f"raise the latter, which keeps those that are there, or ask for at most {config.embed.augmented}"),
        (config.embed.augmented == 0 or data.builder != "features",
         f"config.embed.augmented is {config.embed.augmented}, which encodes videos, and config.data.builder='features' has none: leave it at 0; "
         "augmented sequences that lie beside given features need config.episodes.augmented alone"),
        (mcp.hidden % 4 == 0, f"config.learners.mcp.hidden is {mcp.hidden}, expected a multiple of 4"),
        (not 0 < data.max_frames < data.min_frames,
         f"config.data.max_frames is {data.max_frames}, expected 0 or at least config.data.min_frames = {data.min_frames}"),
        (not 0 < data.max_adapt_frames < data.min_frames,
         f"config.data.max_adapt_frames is {data.max_adapt_frames}, expected 0 or at least "
         f"config.data.min_frames = {data.min_frames}"),
    ]


def _ends_within(config: ConfigDict, frozen: str) -> bool:
    """Whether the encoder ends with or before a frozen stage; False where either is no stage, which is told elsewhere."""
    stages, last = ENCODER_STAGES[config.encoder.arch], config.encoder.stage or ENCODER_STAGES[config.encoder.arch][-1]
    return frozen in stages and last in stages and stages.index(last) <= stages.index(frozen)


def _nearest_learner(key: str, value: Any) -> str:
    """A hint for a learner's name that is nearly right."""
    names = [name for name in value if isinstance(name, str)] if key == "learners.names" else []
    nearest = [near for name in names if name not in LEARNERS for near in difflib.get_close_matches(name, LEARNERS, n=1)]
    return f"; did you mean {nearest[0]}?" if nearest else ""


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
