"""Shards of the reading of `prepare` that run again after its merge has begun."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from runs import bring
from test_adapting_rows import SMALL

from acx_jax import config as schema
from acx_jax.data import prepared
from acx_jax.data.builders import parts, records
from acx_jax.runtime import workers
from acx_jax.runtime.run_log import RunLog
from acx_jax.stages import videos

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from media import grey_frames, write_frames, write_table  # noqa: E402


def test_a_shard_leaves_a_merge_that_has_begun_as_it_is(tmp_path: Path, monkeypatch) -> None:
    names = [f"v{i}" for i in range(6)]
    for name in names:
        write_frames(tmp_path / "in" / name, grey_frames(10, (16, 16)), suffix=".bmp")
    root = write_table(tmp_path / "in", *(f"{name},0,9,normal,evaluate" for name in names), header="video,start,end,label,split")
    settings = SMALL | {"data.max_bad_share": 0.5}
    monkeypatch.setattr(records, "FEW", 0)
    monkeypatch.setattr(records, "SHARD_BYTES", 20_000)  # three videos a file, whether five are there or six

    def reading(function, tasks, **_):
        for index, result in records.serially(function, tasks):
            yield index, workers.Died("killed") if function is parts.write and tasks[index].video.name == dying else result

    def merged_once(*arguments):
        merge(*arguments)
        raise KeyboardInterrupt

    dying, merge = "v0", parts.merge
    monkeypatch.setattr(workers, "work", reading)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(parts, "merge", merged_once)
        bring("prepare", settings, root, tmp_path)
    dying = ""
    config = schema.validate(schema.from_flat(settings | {"data.root": str(root)}))
    videos.read_shard(0, 6, config=config, workdir=tmp_path, log=RunLog(terminal=io.StringIO()))
    bring("prepare", settings, root, tmp_path)
    stored, clips = prepared.load(tmp_path / "prepare")[0], prepared.open_records(tmp_path / "prepare", "evaluate")
    assert [s.segment.video for s in stored] == [clips[i]["video"].decode() for i in range(len(clips))] == names[1:]
