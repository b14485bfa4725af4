"""What every data set is brought into before its videos are read: segments, where their videos lie, what was left out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from acx_jax.contracts import Segment, Skipped
from acx_jax.data.media_files import image_files


class Listing(NamedTuple):
    """The segments of a data set, as far as its table and its folders tell.

    segments: in the table's order; `split` is "" where the table does not say, `end` may be TO_THE_END. paths: video name ->
    file or frame folder, for every listed video that is there. videos_listed and segments_listed also count what was
    skipped. notes: for people, on what is no fault of one row. missing: listed videos that are not there. offsets: of a
    video that is part of a longer file, the frame of the file that is its frame 0. absent: of missing videos, their source and
    how many segments are listed of them, where these are not the video itself and one. folder_fps: frames a second that
    folders of images are known to hold, 0 where that is not known. extra: what lies under the root and is no part of the data, by
    its place there; `notes` tell how much it is. adapting: videos that a table of the user's own gives to adaptation, usable or not.
    """

    segments: tuple[Segment, ...]
    paths: dict[str, Path]
    skipped: tuple[Skipped, ...]
    videos_listed: int
    segments_listed: int
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    offsets: dict[str, int] = {}
    absent: dict[str, tuple[str, int]] = {}
    folder_fps: float = 0.0
    extra: tuple[str, ...] = ()
    adapting: tuple[str, ...] = ()


def absence(listing: Listing, name: str) -> str:
    """Why a video is counted as missing."""
    return next((f"{name}: {reason}" for item, reason in listing.skipped if item == name or item.startswith(f"{name} (")), f"{name} is not there")


def fingerprint(listing: Listing) -> str:
    """16 hex digits that change with the segments, what was skipped, and the name, size or time of any file in use.

    The folder the data lie in is not part of it: moved data keep their fingerprint.
    """
    videos = dict.fromkeys(segment.video for segment in listing.segments)
    files = [[video, file_facts(listing.paths[video])] for video in videos]
    facts = json.dumps([listing.segments, listing.skipped, listing.videos_listed, files, *([listing.offsets] if listing.offsets else [])])
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def file_facts(path: Path) -> list[list]:
    """Name, bytes and time of change of a video's file, or of each image of its folder, links to nothing among them."""
    return [[file.name, *size_and_time(file)] for file in (image_files(path) if path.is_dir() else [path])]


def size_and_time(file: Path) -> tuple[int, int]:
    """Bytes and time of change, in nanoseconds, of a file; -1 and 0 where there is none."""
    try:
        stat = file.stat()
    except OSError:
        return -1, 0
    return stat.st_size, stat.st_mtime_ns
