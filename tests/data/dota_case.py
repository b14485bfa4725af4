"""Small trees of DoTA, for tests of its builder."""

from __future__ import annotations

import json
from pathlib import Path

from acx_jax.data.builders.dota import list_dota

RECORD = {"video_start": 11, "video_end": 50, "anomaly_start": 12, "anomaly_end": 20, "anomaly_class": "ego: turning",
          "num_frames": 40, "subset": "train"}


def write_metadata(root: Path, records: dict, subset: str = "train") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / f"metadata_{subset}.json").write_text(json.dumps(records))
    return root


def add_frames(root: Path, *names: str, count: int = 40, inner: str = "") -> Path:
    for name in names:
        folder = root / "frames" / name / inner
        folder.mkdir(parents=True)
        for i in range(count):
            (folder / f"{i:06d}.jpg").write_bytes(b"jpeg")
    return root


def listed(root: Path, **changes):
    return list_dota(root, **{"official": True, "fps": 10.0} | changes)
