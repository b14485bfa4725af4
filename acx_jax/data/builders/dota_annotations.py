"""DoTA's annotations, from its metadata files or from one JSON file a video, and its split files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from acx_jax.contracts import ABNORMAL, NORMAL, Segment, Skipped
from acx_jax.data.builders.tree import find_files, read_json, read_names
from acx_jax.errors import UsageError

FOLDERS = (".", "dataset", "metadata", "annotations", "dataset/annotations")
SPLIT_OF = {"train": "adapt", "val": "evaluate"}
_LONGEST = 255  # bytes of a name
_NUMBERS = ("anomaly_start", "anomaly_end", "num_frames")
UNASKED = "it is in neither split file"  # the only reason to leave out an annotated video that is no fault
_EGO = {"ego": "yes", "other": "no"}


class Clip(NamedTuple):
    """One annotated video of DoTA, at 10 frames a second.

    first: its first frame in the video it was cut from, counted from 1. frames: how many it is said to have. The anomaly is
    frames anomaly_start .. anomaly_end - 1, counted from 0. subset: "train", "val" or "" (not said).
    """

    name: str
    first: int | None
    frames: int
    anomaly_start: int
    anomaly_end: int
    category: str
    ego_involved: str
    subset: str

    @property
    def source(self) -> str:
        """The video on the web that it was cut from."""
        return self.name.rsplit("_", 1)[0]

    def segments(self, split: str) -> list[Segment]:
        """The abnormal segment, then the normal one before it; what follows the anomaly is not used."""
        facts = (self.category, self.ego_involved, self.source, split)
        abnormal = Segment(self.name, self.anomaly_start, self.anomaly_end - 1, ABNORMAL, *facts)
        normal = [Segment(self.name, 0, self.anomaly_start - 1, NORMAL, *facts)] if self.anomaly_start > 0 else []
        return [abnormal, *normal]


class Annotations(NamedTuple):
    """Every annotated video that can be understood, by name, and why the others cannot."""

    clips: dict[str, Clip]
    skipped: tuple[Skipped, ...]


def read_annotations(root: Path) -> Annotations:
    """Reads metadata_train.json and metadata_val.json, or, where there are none, <video>.json of every video.

    Raises UsageError when there is neither, or a metadata file is no JSON object.
    """
    clips, skipped = {}, []
    for name, record, place in _records(root):
        clip = _parse(name, record)
        name = name if _is_a_name(name) else ascii(name)[1:-1]
        if isinstance(clip, str):
            skipped.append(Skipped(f"{name} ({place})", clip))
        elif name in clips:
            skipped.append(Skipped(f"{name} ({place})", "it is annotated twice: the first is used"))
        else:
            clips[name] = clip
    return Annotations(clips, tuple(skipped))


def read_splits(root: Path, clips: dict[str, Clip]) -> tuple[dict[str, str], list[Skipped]]:
    """The official split ("adapt" for train, "evaluate" for val) of every video, and the names that have none or two.

    From train_split.txt and val_split.txt, or, where there are none, from the annotations. Raises UsageError when neither says.
    """
    files = {subset: find_files(root, FOLDERS, f"*{subset}_split.txt") for subset in SPLIT_OF}
    if not any(files.values()):
        named = {name: SPLIT_OF[clip.subset] for name, clip in clips.items() if clip.subset in SPLIT_OF}
        if clips and not named:
            raise UsageError(f"{root}: neither train_split.txt and val_split.txt nor the annotations say which videos are for "
                             "training and which for validation: add the files, or split by source with --config.data.split=source")
        return named, [Skipped(name, "its annotation names no subset") for name in clips if name not in named]
    said = {subset: [name for file in found for name in read_names(file)] for subset, found in files.items()}
    both = set(said["train"]) & set(said["val"])
    named = {name: SPLIT_OF[subset] for subset, names in said.items() for name in names if name not in both}
    return {n: s for n, s in named.items() if n in clips}, [
        *(Skipped(name, "it is in both split files") for name in sorted(both)),
        *(Skipped(name, "it is in a split file and has no annotation that can be used") for name in named if name not in clips),
        *(Skipped(name, UNASKED) for name in clips if name not in named and name not in both)]


def _records(root: Path) -> Iterator[tuple[str, Any, str]]:
    """(video, what is said of it, where)."""
    metadata = find_files(root, FOLDERS, "metadata_train.json", "metadata_val.json", "DoTA_metadata_*.json")
    for file in metadata:
        yield from ((name, record, file.name) for name, record in read_json(file).items())
    single = [] if metadata else find_files(root, ("annotations", "dataset/annotations"), "*.json")
    for file in single:
        try:
            yield file.stem, read_json(file), file.name
        except UsageError as error:
            yield file.stem, str(error).removeprefix(f"{file} "), file.name
    if not metadata and not single:
        raise UsageError(f"{root} has no annotations of DoTA: expected metadata_train.json and metadata_val.json, or "
                         "annotations/<video>.json, and the frames in frames/<video>/000000.jpg, ...")


def _parse(name: str, record: Any) -> Clip | str:
    """The video that a record describes, or what is wrong with the record."""
    if not isinstance(record, dict):
        return f"its annotation {record}" if isinstance(record, str) else f"its annotation is a {type(record).__name__}, not an object"
    missing = [key for key in _NUMBERS if key not in record]
    if missing:
        return f"its annotation lacks {', '.join(missing)}"
    wrong = [key for key in (*_NUMBERS, "video_start") if type(record.get(key, 0)) is not int]
    if wrong:
        return f"{wrong[0]} of its annotation is {record[wrong[0]]!r}, expected a whole number"
    start, end, frames = (record[key] for key in _NUMBERS)
    if not 0 <= start < end:
        return f"its anomaly runs from {start} to before {end}: expected 0 <= anomaly_start < anomaly_end"
    if "/" in name or "_" not in name or not _is_a_name(name):
        return "its name is none of DoTA's: expected SOURCE_NUMBER"
    kind = _kind(record)
    if isinstance(kind, str):
        return kind
    return Clip(name, record.get("video_start"), frames, start, end, *kind, subset=str(record.get("subset", "")))


def _is_a_name(text: str) -> bool:
    """Whether a disk could have a file of that name, and a terminal show it."""
    return "\0" not in text and len(text.encode("utf-8", "replace")) <= _LONGEST and text.encode("utf-8", "ignore").decode() == text


def _kind(record: dict[str, Any]) -> tuple[str, str] | str:
    """(category, ego involved) from "ego: turning", or from accident_name and ego_involve."""
    who, _, category = str(record.get("anomaly_class", "")).partition(":")
    if who.strip() in _EGO and category.strip():
        return category.strip(), _EGO[who.strip()]
    category, ego = record.get("accident_name") or record.get("anomaly_class"), record.get("ego_involve")
    if isinstance(category, str) and isinstance(ego, bool):
        return category.strip(), "yes" if ego else "no"
    return "its annotation lacks anomaly_class, such as 'ego: turning' (or accident_name and ego_involve)"
