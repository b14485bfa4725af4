"""Videos and sources that the config leaves out of a data set."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from acx_jax.contracts import Skipped
from acx_jax.data.builders.listing import Listing
from acx_jax.errors import UsageError

_REASON = "it is named in config.data.exclude"


def without(listing: Listing, exclude: Sequence[str]) -> Listing:
    """Leaves out the videos, missing ones among them, whose name or source is in `exclude`; they count as listed no more.

    Raises UsageError for a name of no video and no source; where videos are missing, whose sources may not be known, that is a note.
    """
    names = frozenset(exclude)
    notes = _unknown(listing, exclude)
    if not names:
        return listing
    out = [s for s in listing.segments if s.video in names or s.source in names]
    kept = tuple(s for s in listing.segments if s.video not in names and s.source not in names)
    gone = [name for name in listing.missing if name in names or listing.absent.get(name, (name,))[0] in names]
    videos = {s.video for s in out} - {s.video for s in kept}
    return listing._replace(
        segments=kept, missing=tuple(name for name in listing.missing if name not in gone), notes=(*listing.notes, *notes),
        skipped=(*(item for item in listing.skipped if not _is_of(item, gone)), *(Skipped(str(s), _REASON) for s in out),
                 *(Skipped(name, _REASON) for name in gone)),
        adapting=tuple(name for name in listing.adapting if name not in videos | names),
        videos_listed=listing.videos_listed - len(videos) - len(gone),
        segments_listed=listing.segments_listed - len(out) - sum(listing.absent.get(name, (name, 1))[1] for name in gone))


def _unknown(listing: Listing, exclude: Sequence[str]) -> list[str]:
    """Notes on the names that exclude nothing."""
    known = {name for s in listing.segments for name in (s.video, s.source)} | {*listing.missing}
    known |= {source for source, _ in listing.absent.values()} | {item.split(" (")[0] for item, _ in listing.skipped}
    said = []
    for name in exclude:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
            said.append(f"config.data.exclude names {name!r}, which is no video and no source" + (f"; the nearest is {near[0]!r}" if near else ""))
    if said and not listing.missing:
        raise UsageError(said[0])
    return said


def _is_of(item: Skipped, names: Sequence[str]) -> bool:
    """Whether a line is of one of the videos: under its name, as 'name (place)', 'place (name)' or 'place (name start..end)'."""
    return any(item.item == name or item.item.startswith(f"{name} (") or any(f"({name}{end}" in item.item for end in (" ", ")", ".mp4)")) for name in names)
