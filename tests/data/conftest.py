"""Records that several tests of feeds read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from media import write_frames, write_table

from acx_jax.contracts import Coverage
from acx_jax.data import prepared
from acx_jax.data.builders import records
from acx_jax.data.builders.folder import list_folder
from acx_jax.data.builders.reading import Reading
from acx_jax.data.splits import assign_splits

LENGTH, STRIDE = 8, 4


def coded_frames(video: int, count: int) -> list[np.ndarray]:
    """16 x 24 frames whose red is the video, green the frame's number and blue the column."""
    frame = np.zeros((count, 16, 24, 3), np.uint8)
    frame[..., 0], frame[..., 1], frame[..., 2] = video, np.arange(count)[:, None, None], np.arange(24)
    return list(frame)


@pytest.fixture(scope="session")
def coded(tmp_path_factory) -> Path:
    """Prepared records of `coded_frames`: videos 0 to 3 adapt (3 is too short for a negative), 4 and 5 evaluate."""
    root, out = (tmp_path_factory.mktemp(name) for name in ("in", "out"))
    rows = ["0,0,99,normal,adapt", "1,0,19,normal,adapt", "1,30,59,normal,adapt", "1,60,79,abnormal,adapt", "2,0,22,normal,adapt",
            "2,15,40,normal,adapt", "3,2,11,normal,adapt", "4,0,89,normal,evaluate", "4,90,99,abnormal,evaluate", "5,3,17,abnormal,evaluate"]
    for video in range(6):
        write_frames(root / str(video), coded_frames(video, 100), suffix=".bmp")
    listing = list_folder(write_table(root, *rows, header="video,start,end,label,split"))
    listing = listing._replace(segments=assign_splits(listing.segments, adapt_share=0, seed=0))
    reading = Reading(LENGTH, STRIDE, 0.0, 16, "nearest", 0, 8, {"adapt": 0, "evaluate": 0})
    built = records.build(listing, out / prepared.RECORDS, reading, folder=out / "parts", max_bad_share=0.0)
    value = prepared.to_json(built.stored, Coverage(6, 6, 10, 9, (), ()), prepared.Windows(LENGTH, STRIDE), {})
    (out / prepared.SEGMENTS).write_text(json.dumps(value))
    return out
