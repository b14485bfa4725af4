"""Finds a network's weights among the entries of a file, checks every one, and turns them into Flax variables."""
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from acx_jax.models.encoders import Variables
from acx_jax.models.torch_files import WeightsError
from acx_jax.models.weight_names import ARCHS, CONTEXT_HEAD, COUNTER, LEAVES, Shape, classifier, from_torch_layout
from acx_jax.models.weight_place import Place, fits, locate

SHOWN = 5  # names in a message
ENOUGH = 0.9  # share of a network's entries that lets a file look like that network


class Found(NamedTuple):
    """A network's weights and what became of a file's entries.

    Attributes:
      variables: our path, such as params/stem/spatial/kernel -> float32 array; with the classifier if the file has one.
      style: how the file calls its entries.
      prefix: what stands before their names in the file.
      others: what else may stand there, for names that are there as often; the shortest was taken, or else the first of the file.
      mapped: names of the entries that were taken.
      left_over: names beside them that belong nowhere.
      elsewhere: first part of other names in the file -> number of entries.
      classes: of the classifier; 0 without one.
    """

    arch: str
    variables: dict[str, np.ndarray]
    style: str
    prefix: str
    others: tuple[str, ...]
    mapped: tuple[str, ...]
    left_over: tuple[str, ...]
    elsewhere: dict[str, int]
    classes: int


def _some(names: Any) -> str:
    """A few names in words."""
    names = sorted(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _likeness(entries: Mapping[str, Any], arch: str) -> int:
    """How many entries of `arch` a file has in their right shapes; 0 when too few for it to be of that network."""
    place = locate(entries, arch)
    right = sum(name in entries and fits(place, path, entries[name]) for path, name in place.names.items())
    return right if right >= ENOUGH * len(place.names) else 0


def _other_arch(entries: Mapping[str, Any], arch: str) -> str:
    """What other network a file looks like, in words; nothing where it nearly is the one that was asked for."""
    scores = {other: _likeness(entries, other) for other in ARCHS if other != arch}
    other = max(scores, key=scores.__getitem__)
    if scores[other] or not _likeness(entries, arch):
        return f"; it looks like {other}" if scores[other] else f"; it looks like none of {', '.join(ARCHS)}"
    return ""


def check_place(entries: Mapping[str, Any], arch: str, source: str) -> Place:
    """Where the weights of `arch` lie among a file's entries; looks at names, types and shapes alone.

    Raises:
      WeightsError: an entry is missing, no array of floats or of another shape; the message names it, and the network that the file looks like.
    """
    place = locate(entries, arch)
    missing = [name for name in place.names.values() if name not in entries]
    if missing:
        beside = {name for name in entries if name.startswith(place.prefix) and not name.endswith(COUNTER)} - set(place.names.values())
        raise WeightsError(f"{source}: {len(missing)} of the {len(place.names)} entries of {arch} are missing: {_some(missing)}"
                           + (f"; left over are {len(beside)}: {_some(beside)}" if beside else "") + _other_arch(entries, arch))
    for path, name in place.names.items():
        if not jnp.issubdtype(entries[name].dtype, np.floating):
            raise WeightsError(f"{source}: entry {name} is of type {entries[name].dtype}, not of floats")
        if not fits(place, path, entries[name]):
            raise WeightsError(f"{source}: entry {name} has shape {tuple(entries[name].shape)}, needed is {place.file_shape(path)}"
                               + _other_arch(entries, arch))
    return place


def find_weights(entries: Mapping[str, Any], arch: str, source: str) -> Found:
    """The weights of a network among a file's entries.

    Args:
      entries: name -> array, as `read_entries` gives them; the network's may lie anywhere in it, under any prefix.
      arch: a name in `ENCODERS`, or "context_head".
      source: file or what else the entries come from, for messages.
    Raises:
      WeightsError: as `check_place`, or an entry is damaged, not finite or a negative variance; the message names it.
    """
    place = check_place(entries, arch, source)
    beside = {name for name in entries if name.startswith(place.prefix)} - set(place.names.values())
    scales = _absent_scales(arch, place)
    left_over = sorted(name for name in beside if not _is_neutral(name, entries, scales, source))
    elsewhere = Counter(re.split(r"[/.]", name)[0] for name in entries if not name.startswith(place.prefix))
    variables = {path: _value(entries[name], place, path, source) for path, name in place.names.items()}
    if arch == CONTEXT_HEAD:
        variables = _without_neutral_scales(variables)
    return Found(arch, variables, place.style.title, place.prefix, place.others, tuple(place.names.values()), tuple(left_over), dict(elsewhere),
                 _classes(arch, place.shapes))


def _classes(arch: str, shapes: Mapping[str, Shape]) -> int:
    """Of an encoder's classifier, 0 without one."""
    layers = {} if arch == CONTEXT_HEAD else classifier(arch, 1)
    return sum(shapes[path][0] for path in layers if path in shapes and path.endswith("bias"))


def _absent_scales(arch: str, place: Place) -> set[str]:
    """Names of the scales that PyTorch's norms have and I3D's have not."""
    means = [name for path, name in place.names.items() if path.endswith("/mean")] if arch == "i3d" and place.style.torch else []
    return {name.removesuffix(LEAVES["mean"]) + LEAVES["scale"] for name in means}


def _is_neutral(name: str, entries: Mapping[str, Any], scales: set[str], source: str) -> bool:
    """Whether an entry without a place here changes nothing: a counter, or the scale of I3D's norms while it is 1."""
    if name in scales and not (_read(entries[name], name, source) == 1).all():
        raise WeightsError(f"{source}: entry {name} is not 1 everywhere: the norms of I3D have no scale here")
    return name.endswith(COUNTER) or name in scales


def _read(entry: Any, name: str, source: str) -> np.ndarray:
    """The array itself, which may only now be read from the file."""
    try:
        return np.asarray(entry)
    except Exception as error:  # a damaged file may raise any exception at all
        raise WeightsError(f"{source}: entry {name} is damaged ({type(error).__name__}: {error})") from None


def _value(entry: Any, place: Place, path: str, source: str) -> np.ndarray:
    name = place.names[path]
    with np.errstate(over="ignore"):
        value = _read(entry, name, source).astype(np.float32)
    if not np.isfinite(value).all():
        raise WeightsError(f"{source}: entry {name} holds values that are not finite as float32")
    if path.endswith("/var") and (value < 0).any():
        raise WeightsError(f"{source}: entry {name} holds negative values, and is a variance")
    shape = place.shapes[path]
    return np.ascontiguousarray(from_torch_layout(value, shape) if place.style.torch else value.reshape(shape))


def _without_neutral_scales(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A context head's scales are in every published file, used or not; while they are 1 both come to the same."""
    scales = [path for path in variables if path.endswith("/scales")]
    neutral = all((variables[path] == 1).all() for path in scales)
    return {path: value for path, value in variables.items() if not (neutral and path in scales)}


def to_tree(found: Found, *, with_classifier: bool = False) -> Variables:
    """{"params": ..., "batch_stats": ...} of found weights as trees of float32 arrays of JAX."""
    leave_out = set() if with_classifier or found.arch == CONTEXT_HEAD else classifier(found.arch, 1).keys()
    kept = {path: jnp.asarray(value) for path, value in found.variables.items() if path not in leave_out}
    return traverse_util.unflatten_dict(kept, sep="/")


def from_torch_names(arch: str, state_dict: Mapping[str, np.ndarray], source: str = "state dict") -> Variables:
    """Variables of an encoder from the entries of its PyTorch state dict, without the classifier.

    Raises WeightsError as `find_weights`.
    """
    return to_tree(find_weights(state_dict, arch, source))
