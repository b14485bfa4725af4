"""DoTA, Detection of Traffic Anomaly (Yao et al., arXiv 2004.03044): dash-cam videos, an anomaly in each, at 10 frames a second.

    frames/<video>/000000.jpg, ... or frames/<video>/images/000000.jpg, ...   or   videos/<source>.mp4, cut by video_start
    metadata_train.json, metadata_val.json, train_split.txt, val_split.txt    or   annotations/<video>.json
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from acx_jax.contracts import Segment, Skipped
from acx_jax.data.builders.dota_annotations import UNASKED, Clip, read_annotations, read_splits
from acx_jax.data.builders.listing import Listing
from acx_jax.data.builders.tree import INNER, Lost, Media, check_root, frame_numbers, has_images, media_below, printable, unusable
from acx_jax.errors import UsageError

FPS = 10  # of the annotation, and of the frames that are handed out
FRAME_FOLDERS, VIDEO_FOLDERS = ("frames", "."), ("videos", "raw_videos")
_UNKNOWN = "there is no annotation of it"
_EXPECTED = "DoTA's metadata_train.json and metadata_val.json (or annotations/<video>.json) and its frames/<video>/%06d.jpg"


def list_dota(root: Path, *, official: bool, fps: float) -> Listing:
    """Lists the normal and the abnormal segment of every video: abnormal [anomaly_start, anomaly_end - 1], normal before it.

    official: name the splits, training videos adapt and validation videos evaluate; else no split is named. fps: the rate
    that raw videos will be read at. Every video that is annotated, named in a split file or on disk is listed or skipped by
    name. Raises UsageError when there are no annotations or, for raw videos, another rate than theirs is asked for.
    """
    check_root(root, _EXPECTED)
    clips, unreadable = read_annotations(root)
    splits, unsplit = read_splits(root, clips) if official else (dict.fromkeys(clips, ""), [])
    files = {one.name: one.path for base in VIDEO_FOLDERS for one in media_below(root / base) if not one.path.is_dir()}
    places = {name: _find(root, clip, files) for name, clip in clips.items() if name in splits}
    reasons = {name: _problem(path) for name, path in places.items()}
    reasons |= _without_frame_0({name: places[name] for name, reason in reasons.items() if not reason}, clips)
    usable = [name for name, reason in reasons.items() if not reason]
    paths = {name: places[name] for name in usable}
    offsets = {name: clips[name].first - 1 for name in usable if _is_raw(paths[name], clips[name])}
    _check_rate([path for path in paths.values() if not path.is_dir()], fps)
    lost: list[Skipped] = []
    misread = _misread(clips, unreadable, unsplit)
    extra = _extra(root, clips, {*_names(unreadable)}, places.values(), lost.append)
    segments, outside = _parted((segment for name in usable for segment in clips[name].segments(splits[name])), clips, offsets)
    unknown = [item for item, reason in extra if reason == _UNKNOWN]
    return Listing(
        segments=tuple(segments), paths=paths,
        skipped=(*lost, *unreadable, *unsplit, *(Skipped(name, reason) for name, reason in reasons.items() if reason), *outside, *extra),
        videos_listed=len({*clips, *_names((*unreadable, *unsplit))}),
        segments_listed=sum(len(clips[name].segments("")) for name in clips) + len(misread.keys() - clips.keys()),
        notes=(*_beyond(clips[name] for name in usable if name not in offsets),
               *([f"{len(unknown)} videos on disk have no annotation, e.g. {unknown[0]}"] if unknown else [])),
        missing=(*misread, *(name for name, reason in reasons.items() if reason)), offsets=offsets,
        absent=misread | {name: _absent(clips[name]) for name, reason in reasons.items() if reason}, folder_fps=FPS)


def _misread(clips: dict[str, Clip], unreadable: Iterable[Skipped], unsplit: Iterable[Skipped]) -> dict[str, tuple[str, int]]:
    """Listed videos whose annotation or split cannot be used, as `Listing.absent` has them."""
    names = [name for name in _names(unreadable) if name not in clips] + [name for name, reason in unsplit if reason != UNASKED]
    return {name: _absent(clips[name]) if name in clips else (name.rsplit("_", 1)[0], 1) for name in names}


def _names(items: Iterable[Skipped]) -> list[str]:
    """Of videos that are named as 'NAME (FILE)'."""
    return [item.split(" (")[0] for item, _ in items]


def _absent(clip: Clip) -> tuple[str, int]:
    return clip.source, len(clip.segments(""))


def _parted(segments: Iterable[Segment], clips: dict[str, Clip], offsets: dict[str, int]) -> tuple[list[Segment], list[Skipped]]:
    """Segments, but for those of parts of longer files that their part ends before, which are named."""
    reasons = {s: _outside(s, clips[s.video].frames) if s.video in offsets else "" for s in segments}
    return [s for s, reason in reasons.items() if not reason], [Skipped(str(s), reason) for s, reason in reasons.items() if reason]


def _find(root: Path, clip: Clip, files: dict[str, Path]) -> Path | None:
    """The frame folder of a video, else the file it is, else the longer one it is a part of; None where there is none."""
    folders = [root / base / clip.name / inner for base in FRAME_FOLDERS for inner in (INNER, ".")]
    whole = files.get(clip.name) or (files.get(clip.source) if clip.first else None)
    empty = next((folder for folder in folders if folder.is_dir()), None)
    return next((folder for folder in folders if has_images(folder)), whole or empty)


def _problem(path: Path | None) -> str:
    if path is None:
        return f"it is not there: no {FRAME_FOLDERS[0]}/<video>/, no {VIDEO_FOLDERS[0]}/<source> file"
    return unusable(path)


def _without_frame_0(places: dict[str, Path], clips: dict[str, Clip]) -> dict[str, str]:
    """What is wrong with folders that begin with frame 1, where others begin with frame 0, as the authors' do, and that lack a frame."""
    numbers = {name: frame_numbers(path) for name, path in places.items() if path.is_dir()}
    first = {name: min(found, default=-1) for name, found in numbers.items()}
    if 0 not in first.values():
        return {}
    return {name: f"its first frame is number 1, and it has {len(found)} of {clips[name].frames}, counted from 0: frame 0 is missing"
            for name, found in numbers.items() if first[name] == 1 and len(found) < clips[name].frames}


def _is_raw(path: Path, clip: Clip) -> bool:
    return not path.is_dir() and path.stem == clip.source


def _outside(segment: Segment, frames: int) -> str:
    """Why a segment of a video of so many frames, cut from a longer file, is not to be read, in the words of one that has a file of its own; or ""."""
    begins = "starts" if segment.start >= frames else "ends"
    return f"it {begins} beyond the video's last frame, {frames - 1}" if segment.end >= frames else ""


def _check_rate(files: list[Path], fps: float) -> None:
    if files and fps != FPS:
        raise UsageError(f"config.data.fps is {fps:g}, but DoTA is annotated at {FPS} frames a second and {len(files)} of its videos are "
                         f"to be read from files such as {files[0].name}: set --config.data.fps={FPS}")


def _beyond(clips: Iterable[Clip]) -> list[str]:
    wrong = [clip for clip in clips if clip.anomaly_end > clip.frames]
    return [f"{clip.name}: its anomaly is annotated to frame {clip.anomaly_end - 1}, but it is said to have {clip.frames} frames "
            f"(0..{clip.frames - 1}): used only if the frames are there" for clip in wrong]


def _extra(root: Path, clips: dict[str, Clip], unreadable: set[str], used: Iterable[Path | None], lost: Lost) -> list[Skipped]:
    """Videos on disk that are not annotated, or not readably, and second copies of those that are."""
    known, sources = {path for path in used if path is not None}, {clip.source for clip in clips.values()}
    unused = [one for one in media_below(root, lost) if one.path not in known]
    return [Skipped(printable(one.path.relative_to(root)), _why_unused(one, clips, unreadable, sources)) for one in unused]


def _why_unused(one: Media, clips: dict[str, Clip], unreadable: set[str], sources: set[str]) -> str:
    if one.name in unreadable:
        return "it has no annotation that can be used"
    if one.name in clips or one.name in sources:
        return "it is not used: the annotated video is left out, or lies elsewhere too"
    return _UNKNOWN
