"""Weights from where a user has them: a file of any kind, a converted folder, an adapted run; and weights out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from safetensors.numpy import save

from acx_jax.errors import UsageError, WorkError
from acx_jax.models.encoders import ENCODERS, check_clip_shape
from acx_jax.models.torch_files import WeightsError
from acx_jax.models.weight_files import Entries, flatten, read_entries
from acx_jax.models.weight_match import Found, check_place, find_weights, to_tree
from acx_jax.models.weight_names import to_torch
from acx_jax.runtime import sums
from acx_jax.runtime.checkpoints import is_variables, load_arrays, mend
from acx_jax.runtime.files import replacing, write_json

T = TypeVar("T")
WEIGHTS, SUMMARY = "weights.safetensors", "weights.json"
FILE_SUFFIXES = (".pth", ".pt", ".ckpt", ".tar", ".npz", ".npy", ".pkl", ".pickle", ".bin", ".h5", ".hdf5", ".msgpack", ".json", ".zip")
TRAINED = ("adapt", "meta_train")  # the stages of a run that leave an encoder


def read(path: Path, arch: str) -> Found:
    """The weights of `arch` at `path`: a weight file, a folder that `write_folder` made, or a run or its adapt/encoder or meta_train/encoder.

    Raises UsageError naming file and entry when there are none, or not those of `arch`, WorkError when what this program wrote was changed since.
    """
    return _judged(find_weights, path, arch)


def check(path: Path, arch: str) -> None:
    """Raises as `read` for all that names and shapes tell: quick, for a look before long work."""
    _judged(check_place, path, arch)


def _judged(judge: Callable[[Entries, str, str], T], path: Path, arch: str) -> T:
    place = _place(path)
    _check_whole(place)
    try:
        return judge(_entries(place), arch, str(place))
    except WeightsError as error:
        raise UsageError(str(error)) from None


def _place(path: Path) -> Path:
    """The file or the folder of an Orbax tree that `path` stands for."""
    for candidate in (path, path / WEIGHTS, *(path / stage / "encoder" for stage in TRAINED), path / "encoder"):
        if candidate.is_file() or is_variables(candidate):
            return candidate
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    raise UsageError(f"{path}: a folder without weights: expected {WEIGHTS}, or a run with adapt/encoder or meta_train/encoder")


def _check_whole(place: Path) -> None:
    """Raises WorkError where the bytes at a place are not those that were written there, as far as that was noted."""
    if place.is_dir():
        again = f"in the run of which it is, {mend(place.parent)}" if (place.parent / "checkpoints").is_dir() else "copy it anew from where it came from"
        if changed := sums.changed(place):
            raise WorkError(f"{place} is damaged ({changed}): {again}")
    elif place.name == WEIGHTS and (place.parent / SUMMARY).exists():
        _check_converted(place, place.parent / SUMMARY)


def _check_converted(file: Path, noted: Path) -> None:
    try:
        summary = json.loads(noted.read_text())
        digest = summary.get("sha256")  # older versions noted none
    except (OSError, ValueError, AttributeError) as error:
        raise WorkError(f"{noted} is damaged ({type(error).__name__}: {error}): write {file.parent} anew from the weights that it was made of") from None
    if digest not in (None, sums.sha256(file)):
        raise WorkError(f"{file} is damaged (its bytes are not those that were written): write it anew, with python -m acx_jax.pretrained --from "
                        f"{summary.get('source')} --arch {summary.get('arch')} --to {file.parent}")


def _entries(place: Path) -> Entries:
    if place.is_file():
        return read_entries(place)
    try:
        return flatten(load_arrays(place))
    except Exception as error:  # Orbax raises what its stores raise
        raise WeightsError(f"{place}: damaged or truncated ({type(error).__name__}: {' '.join(str(error).split())[:200]})") from None


def encoder_variables(path: Path, arch: str, clip_shape: tuple[int, ...]) -> dict[str, Any]:
    """The variables of an encoder from weights at `path`, for clips [B, T, H, W, 3]. Raises as `read`, ValueError for the clips."""
    check_clip_shape(ENCODERS[arch], clip_shape)
    return to_tree(read(path, arch))


def run_encoder(path: Path) -> tuple[str, str]:
    """The encoder that the run behind `path`, its folder or one that `read` takes, has trained, and the stage it was to end at ("": its last); ("", "")
    where it is no run."""
    for folder in (*(path / stage for stage in TRAINED), path, *([path.parent] if path.name == "encoder" else [])):
        try:
            own = json.loads((folder / "stage.json").read_text())["depends"]["settings"]["encoder"]
            return str(own["arch"]), str(own.get("stage", ""))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return "", ""


def digest(path: Path) -> str:
    """Of the content of the weights at `path`, whatever they are called. Raises UsageError when there are none."""
    place = _place(path)
    files = [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())
    return hashlib.sha256("".join(map(sums.sha256, files)).encode()).hexdigest()[:16]


def is_torch_file(target: Path) -> bool:
    """Whether weights that go to `target` go to a file in PyTorch's names."""
    return target.suffix.lower() == ".safetensors"


def write(found: Found, target: Path, summary: dict[str, Any]) -> None:
    """Writes weights, whole or not at all: PyTorch's names to a target that ends in .safetensors, else a folder.

    The folder holds our names and `summary`, and is what config.encoder.weights takes. A link stays one: what it leads to is written.
    Raises UsageError as `check_target`, WorkError when the network has no PyTorch form.
    """
    place = check_target(target)
    if is_torch_file(target):
        _write_torch(found, place)
    else:
        _write_folder(found, place, summary)


def _write_torch(found: Found, target: Path) -> None:
    try:
        content = save(to_torch(found.arch, found.variables), metadata={"format": "pt", "arch": found.arch})
    except ValueError as error:
        raise WorkError(f"{target}: cannot be written: {error}") from None
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as file:
        file.write(content)


def _write_folder(found: Found, target: Path, summary: dict[str, Any]) -> None:
    new = target.with_name(f".{target.name}.{os.getpid()}.new")
    new.mkdir(parents=True)
    try:
        with replacing(new / WEIGHTS) as file:
            file.write(save(found.variables, metadata={"arch": found.arch}))
        write_json(new / SUMMARY, summary | {"sha256": sums.sha256(new / WEIGHTS)})
        _put(new, target)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _put(new: Path, target: Path) -> None:
    """Gives the folder `new` the place of `target`; where that fails, what was there is there again."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        if target.exists():
            target.rename(old)
        new.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def check_target(target: Path) -> Path:
    """The place that `target` names, links followed.

    Raises UsageError when weights cannot go there: a folder with other things in it, the folder of the process, a file in its
    place, or the name of a kind of file that is not written.
    """
    try:
        place = target.resolve()
    except RuntimeError:
        raise UsageError(f"{target} is a link that leads back to itself") from None
    if is_torch_file(target):
        if place.is_dir():
            raise UsageError(f"{target} is a folder: name a file")
    elif place.exists() and not place.is_dir():
        raise UsageError(f"{target} is a file: name a folder, or a file that ends in .safetensors")
    elif target.suffix.lower() in FILE_SUFFIXES:
        raise UsageError(f"{target}: files that end in {target.suffix} are not written: name a folder, or a file that ends in .safetensors")
    elif place.is_dir() and {file.name for file in place.iterdir()} - {WEIGHTS, SUMMARY}:
        raise UsageError(f"{target} holds other files: name a new folder")
    elif Path.cwd().is_relative_to(place):
        raise UsageError(f"{target} is the folder that this runs in, which cannot be replaced: name a new folder")
    return place
