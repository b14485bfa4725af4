"""What lies under a data root: annotation files by name, videos and frame folders, and why some of them cannot be used."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from acx_jax.contracts import Skipped
from acx_jax.data.media_files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, check_plain, image_files, natural_key
from acx_jax.errors import UsageError

_NO_MEDIA = frozenset(("thumbs.db", "desktop.ini"))
_NAMED_ELSEWHERE = VIDEO_SUFFIXES | IMAGE_SUFFIXES | {".npy", ".npz"}
Lost = Callable[[Skipped], None]
INNER = "images"  # a subfolder that the frames of a video may lie in


class Media(NamedTuple):
    """One video on disk: its name (of its file without the suffix, or of its folder) and its place."""

    name: str
    path: Path


def check_root(root: Path, expected: str) -> None:
    """Raises UsageError, which says what is `expected`, when there is no such folder."""
    if not root.is_dir():
        problem = "is a file, not a folder" if root.exists() else "does not exist: name your folder with --config.data.root=FOLDER"
        raise UsageError(f"data root {root} {problem}. Expected {expected}")


def hidden(name: str) -> bool:
    """Whether a name is one that file managers leave behind or keep from sight."""
    return name.startswith(".") or name.lower() in _NO_MEDIA


def find_files(root: Path, folders: Iterable[str], *patterns: str) -> list[Path]:
    """Files that match one of `patterns` (names with *), in the first of `folders` under `root` that has any; sorted."""
    for folder in folders:
        found = {path for pattern in patterns for path in (root / folder).glob(pattern) if path.is_file() and not hidden(path.name)}
        if found:
            return sorted(found, key=lambda path: natural_key(path.name))
    return []


def read_names(path: Path) -> list[str]:
    """The lines of a text file, without spaces around them and blank ones. Raises UsageError when it is no UTF-8 text."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def read_text(path: Path) -> str:
    """The text of an annotation file. Raises UsageError when it cannot be read as UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start}): is it the annotation file, and whole?") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UsageError when the file holds something else."""
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}; is the download whole?") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path} holds a {type(value).__name__}, expected an object {{...}}")
    return value


def folders_below(root: Path, lost: Lost = lambda item: None) -> Iterator[tuple[Path, list[str]]]:
    """Every folder from `root` on, and the names of its files. Links to folders are followed, no folder is entered twice. lost: told of folders that
    cannot be looked into, and of links to nothing whose names are none of a video, an image or an array."""
    entered = set()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=lambda error: lost(_unopened(root, error))):
        identity = os.stat(folder)[1:3]  # number on its device, and device
        if identity in entered:
            subfolders.clear()
            continue
        entered.add(identity)
        links = {name: os.path.islink(os.path.join(folder, name)) for name in subfolders if not hidden(name)}
        subfolders[:] = sorted(links, key=lambda name: (links[name], natural_key(name)))  # what links lead to may lie beside them
        for name in files:
            if not hidden(name) and not _has_suffix(name, _NAMED_ELSEWHERE) and (reason := dead_link(Path(folder, name))):
                lost(Skipped(printable(Path(folder, name).relative_to(root)), reason))
        yield Path(folder), files


def dead_link(path: Path) -> str:
    """Of a link to nothing, that it is one; "" of anything else."""
    if not path.is_symlink() or os.path.exists(path):
        return ""
    return f"it is a link to {printable(Path(os.readlink(path)))}, which is not there"


def also_lost(lost: Iterable[Skipped]) -> str:
    """What is to be added where no video is found: what could not be looked into."""
    return "".join(f"; {item}: {reason}" for item, reason in islice(lost, 3))


def _unopened(root: Path, error: OSError) -> Skipped:
    return Skipped(printable(Path(os.path.relpath(error.filename, root))), f"the folder cannot be looked into: {error.strerror}")


def media_below(root: Path, lost: Lost = lambda item: None) -> Iterator[Media]:
    """Video files and folders of images under `root`, in natural order; a folder called images is named after its parent. lost: as of
    `folders_below`."""
    for place, files in folders_below(root, lost):
        shown = [name for name in files if not hidden(name)]
        if place != root and any(_has_suffix(name, IMAGE_SUFFIXES) for name in shown):
            yield Media(place.parent.name if place.name == INNER else place.name, place)
        videos = sorted((name for name in shown if _has_suffix(name, VIDEO_SUFFIXES)), key=natural_key)
        yield from (Media(Path(name).stem, place / name) for name in videos)


def has_images(folder: Path) -> bool:
    """Whether a folder is there and holds an image."""
    try:
        return any(_has_suffix(name, IMAGE_SUFFIXES) and not hidden(name) for name in os.listdir(folder))
    except OSError:
        return False


def unusable(path: Path) -> str:
    """Why a video that is on disk cannot be read at all, as far as its place tells; "" if it can."""
    try:
        path.name.encode("utf-8")
        if path.is_dir():
            return _bad_folder(path)
        check_plain(path)
        return "" if path.stat().st_size else "the file is empty"
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def frame_numbers(folder: Path) -> list[int]:
    """Of the images of a folder that are named by their numbers, these, in no order."""
    stems = (os.path.splitext(name)[0] for name in os.listdir(folder) if _has_suffix(name, IMAGE_SUFFIXES))
    return [int(stem) for stem in stems if stem.isdecimal()]


def unlisted(root: Path, media: Iterable[Media], used: Iterable[Path], reason: str) -> list[Skipped]:
    """Names the videos on disk that are not used."""
    known = set(used)
    return [Skipped(printable(one.path.relative_to(root)), reason) for one in media if one.path not in known]


def printable(path: Path) -> str:
    """A path as text that JSON and a terminal take, whatever bytes it has."""
    return path.as_posix().encode("utf-8", "backslashreplace").decode()


def _has_suffix(name: str, suffixes: frozenset[str]) -> bool:
    return os.path.splitext(name)[1].lower() in suffixes


def _bad_folder(folder: Path) -> str:
    """Frames are counted by their order: one too many, or a gap in their numbers, would shift all that follow."""
    files = image_files(folder)
    if not files:
        return "the folder holds no images"
    unnumbered = [file for file in files if not file.stem.isdecimal()]
    if len(unnumbered) == len(files):
        return ""
    if unnumbered:
        return f"{unnumbered[0].name} would count as a frame, and its name is no number as those of others are: rename it, or take it away"
    return _badly_numbered(files, [int(file.stem) for file in files])


def _badly_numbered(files: list[Path], numbers: list[int]) -> str:
    """files: by their numbers, which rise."""
    steps = list(pairwise(numbers))
    twice = next((i for i, (a, b) in enumerate(steps) if a == b), None)
    if twice is not None:
        return f"{files[twice].name} and {files[twice + 1].name} are one frame: take one away"
    if numbers[0] > 1:
        return f"its first frame is number {numbers[0]}: the ones before it are missing"
    gap = next((a + 1 for a, b in steps if b > a + 1), None)
    return f"{numbers[-1] - numbers[0] + 1 - len(numbers)} frames are missing, the first is number {gap}" if gap is not None else ""
