"""The TFDS data set that all videos end up in: ArrayRecord files of blocks of frames, raw or as JPEGs, without TensorFlow."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from google.protobuf.message import DecodeError
from tensorflow_datasets.core import dataset_builder
from tensorflow_datasets.proto import tf_example_pb2

from acx_jax.data.jpegs import encode
from acx_jax.errors import WorkError

tfds.disable_progress_bar()
_MOST = (1 << 31) - (1 << 20)  # bytes of frames in a record: protobuf's limit, less room for the rest
_OPTIONS = "group_size:1,uncompressed"  # each record is read alone; compressing frames costs more time than it saves, JPEGs gain nothing


class Storage(NamedTuple):
    """How frames are stored: kind "raw", or "jpeg" of a quality from 1 to 100."""

    kind: str
    quality: int


RAW = Storage("raw", 0)


class _LocalInfo(tfds.core.DatasetInfo):
    """Asks no server what it knows of the data set."""

    def initialize_from_bucket(self) -> None:
        """Leaves the info as it is."""


def fields(storage: Storage) -> tfds.features.FeaturesDict:
    """The fields of a record, one block of a segment.

    frames: uint8 [T, H, W, 3], or, stored as JPEGs, jpeg: uint8 [bytes], one after the other, ends: int64 [T], where each ends, and
    size: int64 [2], H and W. block: index within the segment. first_frame: of the block, in the segment. start: of the segment, in the
    video. label: 0 normal, 1 abnormal. video: name.
    """
    number, whole = tfds.features.Scalar(np.int64), tfds.features.Encoding.BYTES
    pictures = {"frames": tfds.features.Tensor(shape=(None, None, None, 3), dtype=np.uint8, encoding=whole)} if storage.kind == "raw" else {
        "jpeg": tfds.features.Tensor(shape=(None,), dtype=np.uint8, encoding=whole), "ends": tfds.features.Tensor(shape=(None,), dtype=np.int64),
        "size": tfds.features.Tensor(shape=(2,), dtype=np.int64)}
    return tfds.features.FeaturesDict(pictures | {"block": number, "first_frame": number, "start": number, "label": number,
                                                  "video": tfds.features.Text()})


def serialised(record: dict[str, Any], features: tfds.features.FeaturesDict, storage: Storage) -> bytes:
    """A record with `frames`, uint8 [T, H, W, 3], as it lies in its file: a tf.train.Example of `features`, which are `fields(storage)`.

    Raises WorkError for one of more than 2 GB."""
    frames = record["frames"]
    if storage.kind != "raw":
        data, ends, size = encode(frames, storage.quality)
        return features.serialize_example({key: value for key, value in record.items() if key != "frames"} | {"jpeg": data, "ends": ends, "size": size})
    if frames.nbytes > _MOST:
        raise WorkError(f"a record would hold {len(frames)} frames of {frames.shape[2]}x{frames.shape[1]}, {frames.nbytes / 1e9:.1f} GB, more than the 2 GB that can "
                        "be read again: lower --config.data.short_side, --config.data.clip_frames or --config.data.clip_stride")
    example = tf_example_pb2.Example.FromString(features.serialize_example(record | {"frames": frames[:0]}))
    example.features.feature["frames/shape"].int64_list.value[0] = len(frames)
    del example.features.feature["frames/value"]
    entry = _field(1, b"frames/value") + _field(2, *_field(1, *_field(1, frames.tobytes())))
    return b"".join([example.SerializeToString(), *_field(1, *_field(1, *entry))])  # messages in a row are read as one


def _field(number: int, *parts: bytes) -> list[bytes]:
    """Parts of a field of a protobuf message. The frames are put in by it, for TFDS copies them five times on their way, which takes as long as scaling them."""
    size, head = sum(map(len, parts)), bytearray([number << 3 | 2])
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return [bytes([*head, size]), *parts]


def video_of(data: bytes) -> str:
    """The video of a record as it lies in its file. Raises ValueError for what is none."""
    try:
        return tf_example_pb2.Example.FromString(data).features.feature["video"].bytes_list.value[0].decode()
    except (DecodeError, IndexError) as error:
        raise ValueError(f"no record of a clip: {error}") from None


@contextlib.contextmanager
def record_file(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Gives what adds a record to a new ArrayRecord file; it is on disk when the block ends. Raises WorkError where it cannot be written."""
    writer = None
    try:
        writer = array_record_module.ArrayRecordWriter(str(path), _OPTIONS)
        yield writer.write
        writer.close()
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except RuntimeError as error:  # what ArrayRecord calls a full disk
        if path.name not in str(error):
            raise
        raise WorkError(f"records cannot be written: {error}: free some space and run the same command, it goes on from here") from None
    finally:
        if writer is not None and writer.is_open():
            with contextlib.suppress(RuntimeError):  # it has been reported
                writer.close()


class ClipRecords(dataset_builder.FileReaderBuilder):
    """Splits `adapt` and `evaluate` (one without records is left out), one record a block of a segment, in order; see `fields`.

    TFDS's own writer holds a whole split in memory, starts over when it is killed, and beyond 1 GB asks for TensorFlow; here the files are
    written beforehand, and this says what they are.
    """

    name = "clips"
    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, data_dir: Path, storage: Storage):
        self._storage = storage
        super().__init__(data_dir=str(data_dir), file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        return _LocalInfo(builder=self, disable_shuffling=True, features=fields(self._storage))

    def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
        raise NotImplementedError("records are written by acx_jax.data.builders.records")

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        return Path(self.data_path)

    def file(self, split: str, shard: int, shards: int) -> Path:
        """The record file `shard` of `shards` of a split."""
        return Path(str(self._template(split).sharded_filepath(shard_index=shard, num_shards=shards)))

    def describe(self, lengths: dict[str, Sequence[int]], sizes: dict[str, int]) -> None:
        """Writes what makes the files a data set. lengths: records of each shard, sizes: bytes, by split."""
        self.info.set_splits(tfds.core.SplitDict([
            tfds.core.SplitInfo(name=split, shard_lengths=list(counts), num_bytes=sizes[split], filename_template=self._template(split))
            for split, counts in lengths.items() if counts]))
        self.info.write_to_directory(self.data_path)

    def _template(self, split: str) -> tfds.core.ShardedFileTemplate:
        return tfds.core.ShardedFileTemplate(data_dir=self.data_path, dataset_name=self.name, split=split,
                                             filetype_suffix=self.info.file_format.file_suffix)
