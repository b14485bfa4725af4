"""Records of small frame folders and videos, made as `prepare` makes them, without its stage."""

from __future__ import annotations

from pathlib import Path

from acx_jax.data import prepared
from acx_jax.data.builders import clips, reading, records
from acx_jax.data.builders.folder import list_folder
from acx_jax.data.splits import assign_splits


def read_as(max_frames: int = 124, max_adapt_frames: int = 1000, **changes) -> reading.Reading:
    given = dict(length=8, stride=4, fps=0.0, short_side=16, resample="nearest", width=0, min_frames=8,
                 keep={"adapt": max_adapt_frames, "evaluate": max_frames})
    return reading.Reading(**given | changes)


def listed(root: Path) -> records.Listing:
    listing = list_folder(root)
    return listing._replace(segments=assign_splits(listing.segments, adapt_share=0.0, seed=0))


def build(root: Path, out: Path, max_bad_share: float = 0.1, storage=clips.RAW, **changes) -> records.Built:
    return records.build(listed(root), out / prepared.RECORDS, read_as(**changes), folder=out / "parts", max_bad_share=max_bad_share, storage=storage)
