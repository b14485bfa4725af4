"""How large the records of a listing will be, from a look at its videos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from acx_jax.contracts import TO_THE_END, Segment
from acx_jax.data.builders.clips import Storage
from acx_jax.data.builders.reading import Reading
from acx_jax.data.probe import Probe

ADVICE = "set --config.data.storage=jpeg, lower config.data.short_side or config.data.max_frames, or put --workdir on another disk"
JPEG_SHARE = 1 / 5  # of the raw bytes that JPEGs of quality 95 take, at most, of small frames of real footage


def words(count: int) -> str:
    """Bytes as people say them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def video_frames(found: Probe, fps: float) -> int:
    """Frames that a video gives when it is read at `fps`, 0 for its own rate, as far as known; images have no rate and come all."""
    return round(found.frames * fps / found.fps) if fps and found.fps else found.frames


def frames_of(segment: Segment, found: Probe, fps: float, offset: int = 0) -> int:
    """Frames of a segment as far as known; its frame 0 is the frame `offset` of what is read of the file."""
    if segment.end != TO_THE_END:
        return segment.end - segment.start + 1
    return max(0, video_frames(found, fps) - offset - segment.start)


def bytes_of(segments: Iterable[Segment], probes: Mapping[str, Probe], reading: Reading, storage: Storage) -> int:
    """Bytes of the records of `segments`, at most, as far as the videos among `probes`, by name, tell."""
    raw = sum(_kept(s, probes[s.video], reading) * _frame_bytes(probes[s.video], reading)
              for s in segments if s.video in probes and not probes[s.video].problem)
    return raw if storage.kind == "raw" else int(raw * JPEG_SHARE)


def _kept(segment: Segment, found: Probe, reading: Reading) -> int:
    frames, most = frames_of(segment, found, reading.fps), reading.keep[segment.split]
    return min(frames, most) if most else frames


def _frame_bytes(found: Probe, reading: Reading) -> int:
    short, long = sorted((found.width, found.height))
    return 3 * reading.short_side * (reading.width or round(reading.short_side * long / max(short, 1)))
