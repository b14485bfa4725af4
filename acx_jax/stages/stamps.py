"""Stamps: what the output of a stage was made from, noted beside it, and what differs between two of them, in words.

A stamp is {"fingerprint": digest of what it depends on, "depends": {"settings", "inputs", "stages": fingerprints, "version"}}.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from acx_jax import __version__
from acx_jax.runtime.files import write_json
from acx_jax.settings import SCHEMA
from acx_jax.stages.job import STAMP

DIGITS = 16  # of a fingerprint
REVISIONS = {"embed.map": "the whitening is computed in another way than before"}  # of ways to compute, which no user sets
Stamp = dict[str, Any]


def make(*, settings: dict[str, Any], inputs: Any, stages: dict[str, str]) -> Stamp:
    """The stamp of what depends on these settings, inputs from outside, and stages, given by their fingerprints."""
    depends = {"settings": settings, "inputs": inputs, "stages": stages, "version": __version__}
    depends = json.loads(json.dumps(depends, sort_keys=True))
    digest = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
    return {"fingerprint": digest[:DIGITS], "depends": depends}


def write(folder: Path, stamp: Stamp) -> None:
    """Notes what a folder is made from."""
    write_json(folder / STAMP, stamp)


def read(folder: Path) -> Stamp | None:
    """What a folder was made from; None where nothing readable says so."""
    try:
        stamp = json.loads((folder / STAMP).read_text())
        return stamp if re.fullmatch("[0-9a-f]+", stamp["fingerprint"]) and isinstance(stamp["depends"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fingerprint(folder: Path) -> str | None:
    """Of what a folder was made from."""
    return (read(folder) or {}).get("fingerprint")


def why(before: Stamp | None, stamp: Stamp, damage: str, *, interrupted: bool) -> str:
    """Why a stage is run whose output has the stamp `before`, None where there is none, and is to have `stamp`."""
    if interrupted:
        return "goes on where it was interrupted"
    if before is None:
        return "starts"
    if damage:
        return f"is redone: {damage}"
    return f"is redone: {changes(before, stamp)}"


def changes(before: Stamp, stamp: Stamp) -> str:
    """What differs between two stamps, in words; the first four of it."""
    found = _differences(before.get("depends", {}), stamp["depends"], "")
    changed = [line for line in found if line not in REVISIONS.values()] or found or ["settings are noted that were not"]  # one comes with its setting
    return "; ".join(changed[:4]) + (f" and {len(changed) - 4} more" if len(changed) > 4 else "")


def _differences(old: Any, new: Any, path: str) -> list[str]:
    """Names of what differs between two stamps' contents, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [line for key in sorted(old.keys() | new.keys())
                for line in _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)]
    if old == new:
        return []
    if path.startswith("settings."):
        key = path.removeprefix("settings.")
        before, now = (SCHEMA[key].default if value is None and key in SCHEMA else value for value in (old, new))  # some are noted only where they matter
        told = REVISIONS.get(key, f"config.{key} was {before!r}, is {now!r}")
        return [told] if before != now else []
    if path.startswith("stages."):
        return [f"{path.removeprefix('stages.')} changed"]
    return [{"inputs": "the videos or their table changed",
             "inputs.weights": "the file of config.encoder.weights changed", "version": f"acx_jax was {old}, is {new}"}.get(path, f"{path} changed")]
