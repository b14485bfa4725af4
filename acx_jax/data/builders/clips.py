"""The TFDS data set that all videos end up in: ArrayRecord files of blocks of decoded frames, written without TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_builder, file_adapters

from acx_jax.contracts import SPLITS, Segment, Skipped, StoredSegment
from acx_jax.data.builders.cutting import Broken, Cut, cut_segments
from acx_jax.data.builders.listing import Listing
from acx_jax.data.decode import frames, resize
from acx_jax.data.windows import block_ranges
from acx_jax.errors import WorkError

tfds.disable_progress_bar()


class Built(NamedTuple):
    """stored: the segments of the first split, then those of the second, each in the order of its records."""

    stored: tuple[StoredSegment, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


class _Reading(NamedTuple):
    """How videos are read and cut: see `build`."""

    length: int
    stride: int
    fps: float
    short_side: int
    resample: str
    width: int
    min_frames: int
    keep: dict[str, int]  # frames of a segment to keep, by split; 0: all


@dataclasses.dataclass
class _Tally:
    """What came of the videos read so far."""

    stored: list[StoredSegment] = dataclasses.field(default_factory=list)
    skipped: list[Skipped] = dataclasses.field(default_factory=list)
    unusable: list[str] = dataclasses.field(default_factory=list)
    shortened: int = 0


class _LocalInfo(tfds.core.DatasetInfo):
    """Asks no server what it knows of the data set."""

    def initialize_from_bucket(self) -> None:
        """Leaves the info as it is."""


class Clips(dataset_builder.FileReaderBuilder):
    """Splits `adapt` and `evaluate` (one without examples is left out), one example a block of a segment, in order.

    frames: uint8 [T, H, W, 3]. segment: index into the stored segments. block: index within the segment. first_frame: of
    the block, in the segment. label: 0 normal, 1 abnormal. video: name.

    TFDS's own writer holds a whole split in memory, and beyond 1 GB asks for TensorFlow; this one streams.
    """

    name = "clips"
    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, data_dir: Path, examples: dict[str, Iterable[dict[str, Any]]]):
        self._examples = examples
        super().__init__(data_dir=str(data_dir))

    def _info(self) -> tfds.core.DatasetInfo:
        number = tfds.features.Scalar(np.int64)
        return _LocalInfo(builder=self, disable_shuffling=True, features=tfds.features.FeaturesDict({
            "frames": tfds.features.Tensor(shape=(None, None, None, 3), dtype=np.uint8, encoding=tfds.features.Encoding.BYTES),
            "segment": number, "block": number, "first_frame": number, "label": number, "video": tfds.features.Text(),
        }))

    def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
        infos = [self._write_split(name, examples) for name, examples in self._examples.items()]
        self.info.set_splits(tfds.core.SplitDict([info for info in infos if info.shard_lengths]))

    def _log_download_bytes(self) -> None:
        """Says nothing: nothing is downloaded, and progress is the caller's to show."""

    def _log_download_done(self) -> None:
        """Says nothing."""

    def _write_split(self, split: str, examples: Iterable[dict[str, Any]]) -> tfds.core.SplitInfo:
        """Writes one file, or none where there is no example."""
        template = tfds.core.ShardedFileTemplate(data_dir=self.data_path, dataset_name=self.name, split=split,
                                                 filetype_suffix=self.info.file_format.file_suffix)
        file = Path(template.sharded_filepath(shard_index=0, num_shards=1))
        written: list[int] = []
        adapter = file_adapters.ADAPTER_FOR_FORMAT[self.info.file_format]
        try:
            adapter.write_examples(file, self._serialized(examples, written))
        except RuntimeError as error:  # what ArrayRecord calls a full disk
            if file.name not in str(error):
                raise
            raise WorkError(f"records cannot be written: {error}") from None
        if not written:
            file.unlink(missing_ok=True)
        return tfds.core.SplitInfo(name=split, shard_lengths=[len(written)] if written else [], num_bytes=sum(written),
                                   filename_template=template)

    def _serialized(self, examples: Iterable[dict[str, Any]], written: list[int]) -> Iterator[tuple[int, bytes]]:
        for key, example in enumerate(examples):
            data = self.info.features.serialize_example(example)
            written.append(len(data))
            yield key, data


def build(listing: Listing, out: Path, *, length: int, stride: int, fps: float, short_side: int, resample: str,
          min_frames: int, max_frames: int, max_adapt_frames: int, max_bad_share: float,
          advance: Callable[..., None], width: int = 0) -> Built:
    """Decodes each video of the listing once, in order, and writes its segments' frames under `out`.

    length, stride: frames of a window and from one to the next. fps: 0 for each video's own. short_side: pixels of stored
    frames, which keep their aspect or, with a width above 0, are stretched to it. min_frames: shorter segments are skipped.
    max_frames, max_adapt_frames: frames to keep of a segment in evaluation and adaptation, 0 for all. advance(1, note): called after each video.

    Memory holds the segments open at a time of one video. Raises WorkError once more than `max_bad_share` of the listed
    videos are missing or cannot be read.
    """
    keep = dict(zip(SPLITS, (max_adapt_frames, max_frames)))
    reading = _Reading(length, stride, fps, short_side, resample, width, max(min_frames, length), keep)
    tally = _Tally(unusable=list(listing.missing))
    _check_share(listing, tally, max_bad_share)

    def after_video(video: str) -> None:
        _check_share(listing, tally, max_bad_share)
        advance(1, video)

    examples = {split: _examples(listing, split, reading, tally, after_video) for split in SPLITS}
    Clips(data_dir=out, examples=examples).download_and_prepare(
        file_format="array_record", download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return Built(tuple(tally.stored), tuple(tally.skipped), tuple(_notes(listing, tally, reading)))


def _examples(listing: Listing, split: str, reading: _Reading, tally: _Tally,
              after_video: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """The records of one split."""
    of_video: dict[str, list[Segment]] = {}
    for segment in listing.segments:
        if segment.split == split:
            of_video.setdefault(segment.video, []).append(segment)
    first_record = 0
    for video, segments in of_video.items():
        before = len(tally.stored)
        for cut in _cuts(listing.paths[video], listing.offsets.get(video, 0), segments, reading, tally):
            ranges = block_ranges(len(cut.frames), length=reading.length, stride=reading.stride)
            tally.stored.append(StoredSegment(cut.segment, len(cut.frames), first_record, len(ranges)))
            first_record += len(ranges)
            yield from _blocks(cut, ranges, number=len(tally.stored) - 1)
        if tally.unusable[-1:] == [video] and len(tally.stored) > before:
            tally.unusable.pop()  # broken, but not before some of its segments had passed
        after_video(video)


def _cuts(path: Path, first: int, segments: list[Segment], reading: _Reading, tally: _Tally) -> Iterator[Cut]:
    """The usable segments of a video; what came of the others goes to the tally."""
    shrink = partial(resize, short_side=reading.short_side, resample=reading.resample, width=reading.width)
    for event in cut_segments(frames(path, fps=reading.fps, first=first), segments, keep=reading.keep[segments[0].split],
                              min_frames=reading.min_frames, shrink=shrink):
        if isinstance(event, Cut):
            tally.shortened += len(event.frames) <= event.segment.end - event.segment.start
            yield event
        elif isinstance(event, Broken):
            tally.unusable.append(segments[0].video)
        else:
            tally.skipped.append(event)


def _blocks(cut: Cut, ranges: list[tuple[int, int]], *, number: int) -> Iterator[dict[str, Any]]:
    for block, (start, stop) in enumerate(ranges):
        yield {"frames": cut.frames[start:stop], "segment": number, "block": block, "first_frame": start,
               "label": cut.segment.label, "video": cut.segment.video}


def _check_share(listing: Listing, tally: _Tally, max_bad_share: float) -> None:
    bad, listed = len(tally.unusable), listing.videos_listed
    if bad > max_bad_share * listed:
        reasons = [f"{s.item}: {s.reason}" for s in tally.skipped[-1:]]
        first = ", ".join(tally.unusable[:5]) + (", ..." if bad > 5 else "")
        raise WorkError(f"{bad} of {listed} listed videos ({bad / listed:.0%}) are missing or cannot be read, more than "
                        f"{max_bad_share:.0%}: {first}" + "".join(f" ({r})" for r in reasons)
                        + ". Repair them, take them out, or raise --config.data.max_bad_share")


def _notes(listing: Listing, tally: _Tally, reading: _Reading) -> Iterator[str]:
    if tally.unusable:
        yield f"{len(tally.unusable)} of {listing.videos_listed} listed videos are missing or cannot be read"
    if tally.shortened:
        yield (f"{tally.shortened} segments are longer than what is kept of them: the first {reading.keep['evaluate'] or 'all'} "
               f"frames in evaluation, {reading.keep['adapt'] or 'all'} in adaptation")
    folders = sum(path.is_dir() for path in listing.paths.values())
    if reading.fps and folders:
        yield f"{folders} videos are folders of images: they have no times, so {reading.fps:g} frames a second does not apply"
