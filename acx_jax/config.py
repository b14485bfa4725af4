"""The configuration: defaults, overrides and checks of the settings that acx_jax.settings lists."""

from __future__ import annotations

import difflib
from typing import Any

from ml_collections import ConfigDict

from acx_jax.errors import UsageError
from acx_jax.relations import relations
from acx_jax.settings import LEARNERS, SCHEMA


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
    for holds, message in relations(config):
        if not holds:
            raise UsageError(message)
    return config


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
