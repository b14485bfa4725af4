"""A user's own folder: segments.csv beside the videos, or the subfolders normal/ and abnormal/, with sources.csv beside them or not."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from acx_jax.contracts import ABNORMAL, LABELS, NORMAL, TO_THE_END, Segment, Skipped
from acx_jax.data.builders import sources, table
from acx_jax.data.builders.listing import Listing
from acx_jax.data.builders.tree import Media, dead_link, hidden, media_below, printable, unlisted, unusable
from acx_jax.data.media_files import VIDEO_SUFFIXES, check_plain, image_files, natural_key
from acx_jax.errors import UsageError

TABLE = "segments.csv"
FRAMES = "frames"  # a subfolder that videos named in the table may lie in
_EXPECTED = (f"expected {TABLE} with the columns {','.join(table.REQUIRED)}, or subfolders {LABELS[NORMAL]}/ and "
             f"{LABELS[ABNORMAL]}/ with a video file or a folder of images for each segment")


def list_folder(root: Path) -> Listing:
    """Lists the segments under `root`; everything in its table or class folders is either a segment or skipped by name.

    Raises UsageError when there is no such folder, it has neither layout, or its table cannot be understood.
    """
    entries = _entries(root)
    dead = {entry.name: reason for entry in entries if (reason := dead_link(entry))}
    classes = [entry for entry in entries if entry.is_dir() and entry.name.lower() in LABELS]
    if any(entry.name == TABLE for entry in entries):
        return _list_table(root)
    if classes:
        return _list_classes(root, classes, dead)
    found = ", ".join(entry.name + (f" ({dead[entry.name]})" if entry.name in dead else "") for entry in entries[:5]) + (", ..." if len(entries) > 5 else "")
    raise UsageError(f"data root {root} " + (f"holds {found}" if entries else "is empty") + f": {_EXPECTED}")


def has_table(root: Path) -> bool:
    """Whether the folder is laid out by a table."""
    return (root / TABLE).exists()


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, without hidden files, in natural order."""
    try:
        entries = [entry for entry in folder.iterdir() if not hidden(entry.name)]
    except FileNotFoundError:
        raise UsageError(f"data root {folder} does not exist: name your folder with --config.data.root=FOLDER") from None
    except NotADirectoryError:
        raise UsageError(f"data root {folder} is a file, not a folder: {_EXPECTED}") from None
    except OSError as error:
        raise UsageError(f"data root {folder} cannot be read: {error.strerror}") from None
    return sorted(entries, key=lambda entry: natural_key(entry.name))


def _list_table(root: Path) -> Listing:
    rows, too_wide, columns = table.read_table(root / TABLE)
    parsed = [table.parse_row(row) for row in rows]
    names = {table.short_name(row.cells.get("video", "")) for row in rows} - {""}
    paths = {name: path for name in sorted(names) if (path := _find_video(root, name)) is not None}
    extra, lost = _unlisted(root, paths.values())
    present, absent = _on_disk([item for item in parsed if isinstance(item, table.Placed)], paths, root)
    present = table.with_video_splits(present)
    distinct, repeats = table.without_repeats(present)
    kept, contradictions = table.without_contradictions(distinct)
    gone = [item.segment for item in parsed if isinstance(item, table.Placed) and item.segment.video not in paths]
    of_video = Counter(segment.video for segment in gone)
    unparsed = [item for item in parsed if isinstance(item, Skipped)]
    return Listing(
        segments=tuple(item.segment for item in kept), paths=paths,
        skipped=(*too_wide, *unparsed, *absent, *repeats, *contradictions, *lost),
        videos_listed=len(names), segments_listed=len(rows) + len(too_wide),
        notes=(*_extra_columns(columns), *_numbering(paths), *_unread_sources(root), *_not_in_table(extra)), missing=tuple(sorted(names - paths.keys())),
        absent={s.video: (s.source, of_video[s.video]) for s in gone}, extra=extra,
        adapting=tuple(dict.fromkeys(s.video for s in (*(item.segment for item in present), *gone) if s.split == "adapt")),
    )


def _on_disk(placed: Sequence[table.Placed], paths: dict[str, Path], root: Path) -> tuple[list[table.Placed], list[Skipped]]:
    """Parts rows whose video is there from those whose video is not; two names of one video become its first name."""
    first_name: dict[Path, str] = {}
    present, absent = [], []
    for segment, place in placed:
        if segment.video in paths:
            name = first_name.setdefault(paths[segment.video], segment.video)
            source = name if segment.source == segment.video else segment.source
            present.append(table.Placed(segment._replace(video=name, source=source), place))
        else:
            absent.append(Skipped(f"{place} ({segment.video} {segment.start}..{segment.end})", _absence(root, segment.video)))
    return present, absent


def _absence(root: Path, name: str) -> str:
    """Why there is no video of a name."""
    there = next((path for path in _places(root, name) if os.path.lexists(path)), None)
    return (there and unusable(there)) or f"no video file and no folder of images {name} under the root or its {FRAMES}/"


def _find_video(root: Path, name: str) -> Path | None:
    """The file or frame folder of a name."""
    return None if table.name_problem(name) else next((path for path in _places(root, name) if _is_video(path)), None)


def _places(root: Path, name: str) -> list[Path]:
    """Where a video of a name may lie: under the root or root/frames, in whichever Unicode form the disk has it."""
    forms = dict.fromkeys([name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))])
    return [folder / form for folder in (root, root / FRAMES) for form in forms]


def _is_video(path: Path) -> bool:
    try:
        return path.is_file() or (path.is_dir() and bool(image_files(path)))
    except OSError:  # a name too long for the disk, a folder that may not be read
        return False


def _extra_columns(columns: Sequence[str]) -> Iterator[str]:
    if columns:
        yield f"{TABLE}: columns without a meaning here are ignored: {', '.join(columns)}"


def _numbering(paths: Mapping[str, Path]) -> Iterator[str]:
    """A note on folders whose numbers have gaps or doubles: one's own may hold a part of the frames on purpose."""
    reasons = {name: reason for name, path in paths.items() if path.is_dir() and (reason := unusable(path))}
    if reasons:
        name, reason = next(iter(reasons.items()))
        yield f"{len(reasons)} folders are read image by image, whatever their numbers say, e.g. {name}: {reason}"


def _unread_sources(root: Path) -> Iterator[str]:
    if (root / sources.FILE).exists():
        yield f"{sources.FILE} is not read: beside {TABLE}, sources stand in its column source"


def _unlisted(root: Path, used: Iterable[Path]) -> tuple[tuple[str, ...], list[Skipped]]:
    """Videos on disk that the table does not name, by their places; what could not be looked into."""
    listed, lost = set(used), []
    others = sorted(one.path for one in media_below(root, lost.append) if one.path not in listed)
    return _places_under(root, others), lost


def _not_in_table(extra: Sequence[str]) -> Iterator[str]:
    if extra:
        yield f"{len(extra)} videos on disk are not in {TABLE}, e.g. {extra[0]}"


def _places_under(root: Path, paths: Iterable[Path]) -> tuple[str, ...]:
    return tuple(printable(path.relative_to(root)) for path in paths)


def _list_classes(root: Path, classes: Sequence[Path], dead: dict[str, str]) -> Listing:
    """classes: the folders of both labels, in whatever case they are written; those of one label are one class. dead: links to nothing beside them."""
    of_label = sorted((LABELS.index(folder.name.lower()), folder) for folder in classes)
    entries = [(label, entry) for label, folder in of_label for entry in _entries(folder)]
    listed = [(label, entry) for label, entry in entries if _may_be_video(entry)]
    extra = _places_under(root, (entry for _, entry in entries if not _may_be_video(entry)))
    if not listed:
        raise UsageError(f"data root {root} has {', '.join(f'{f.name}/' for f in classes)} without a video in "
                         f"{'them' if len(classes) > 1 else 'it'}" + (f" (but {len(extra)} other files)" if extra else "")
                         + f": {_EXPECTED}")
    videos = [(label, printable(entry.relative_to(root)), entry) for label, entry in listed]
    reasons = {name: _unusable(entry) for _, name, entry in videos}
    source_of = sources.read_sources(root / sources.FILE)
    unknown = sources.unknown(source_of, set(reasons))
    usable = [(label, name, entry) for label, name, entry in videos if not reasons[name]]
    lost: list[Skipped] = []
    below = [one for one in media_below(root, lost.append) if one.path not in classes]
    elsewhere = [one for one in below if one.path.relative_to(root).parts[0].lower() not in LABELS]
    return Listing(
        segments=tuple(Segment(name, 0, TO_THE_END, label, source=source_of.get(name, name)) for label, name, _ in usable),
        paths={name: entry for _, name, entry in usable},
        skipped=(*(Skipped(name, reason) for name, reason in reasons.items() if reason),
                 *unlisted(root, elsewhere, [], f"it lies in neither {LABELS[NORMAL]}/ nor {LABELS[ABNORMAL]}/"),
                 *_within(root, below, {entry for _, _, entry in usable}), *(item for item in lost if item.item not in reasons)),
        videos_listed=len(listed), segments_listed=len(listed),
        notes=(*_no_class(classes, dead), *_numbering({name: entry for _, name, entry in usable}), *_no_videos(extra), *sources.in_words(unknown)),
        missing=tuple(name for name, reason in reasons.items() if reason), extra=(*extra, *(f"{sources.FILE}: {name}" for name in unknown)),
    )


def _within(root: Path, media: Sequence[Media], used: set[Path]) -> list[Skipped]:
    """Names what lies in folders that are taken for one video, for their images."""
    inside = {one.path: next((folder for folder in one.path.parents if folder in used), None) for one in media}
    return [Skipped(printable(path.relative_to(root)), f"it lies in {printable(folder.relative_to(root))}, which is one video of its images: "
                    "put it beside that folder") for path, folder in inside.items() if folder and path not in used]


def _may_be_video(entry: Path) -> bool:
    """Whether an entry of a class folder is a folder, a link to what is not there and may have been one, for it has no suffix of a file (.txt; but
    day.02 may be a folder), or a video by its name."""
    return entry.is_dir() or entry.suffix.lower() in VIDEO_SUFFIXES or (not any(map(str.isalpha, entry.suffix)) and bool(dead_link(entry)))


def _unusable(entry: Path) -> str:
    """Why a video cannot be used; empty if it can."""
    try:
        entry.name.encode("utf-8")
        if not entry.is_dir():
            check_plain(entry)
            return ""
        if image_files(entry):
            return ""
        inside = sum(1 for _ in media_below(entry))
        return "the folder holds no images" + (f", but {inside} videos: put them beside it" if inside else "")
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def _no_class(classes: Sequence[Path], dead: dict[str, str]) -> Iterator[str]:
    for name in LABELS:
        if name not in {folder.name.lower() for folder in classes}:
            reason = next((reason for link, reason in dead.items() if link.lower() == name), "")
            yield f"{name}/ is not there: {reason}" if reason else f"there is no folder {name}/"


def _no_videos(extra: Sequence[str]) -> Iterator[str]:
    if extra:
        yield f"{len(extra)} files that are no videos are ignored, e.g. {extra[0]}"
