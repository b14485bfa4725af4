"""Orbax checkpoints of a training run: saved as it goes, resumed from the newest."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from acx_jax.errors import WorkError
from acx_jax.runtime import sums
from acx_jax.runtime.quiet import quieten_orbax

KEPT = 2

quieten_orbax()


class Checkpoints:
    """The checkpoints in one folder, by step; the newest KEPT stay. Writing overlaps with training."""

    def __init__(self, folder: Path, *, every: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder.absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, save_interval_steps=every, create=False, multiprocessing_options=_alone())
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def restore_newest(self, like: Any, say: Callable[[str], None] = lambda line: None) -> Any | None:
        """The newest state that can be read, shaped like `like`, as arrays of NumPy; None when there is none.

        Damaged ones are named to `say` and put aside, in a folder beside this one. Raises OSError where the disk cannot be read.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._restore(step, like)
            except Exception as error:  # whatever a damaged file makes the readers below Orbax raise
                if _may_pass(error):
                    raise
                say(f"the checkpoint of step {step} is damaged and put aside ({_in_short(error)})")
                self._put_aside(step)
        return None

    def _put_aside(self, step: int) -> None:
        aside = self._folder.with_name(f"{self._folder.name}.damaged")
        aside.mkdir(exist_ok=True)
        shutil.rmtree(aside / str(step), ignore_errors=True)
        (self._folder / str(step)).rename(aside / str(step))
        self._manager.reload()

    def _restore(self, step: int, like: Any) -> Any:
        shaped = {"state": _with_elements(like), "digest": np.zeros(32, np.uint8)}
        restored = self._manager.restore(step, args=ocp.args.StandardRestore(shaped))
        if not np.array_equal(restored["digest"], _digest(restored["state"])):
            raise ValueError("its bytes are not those that were saved")
        return jax.tree.map(lambda x, empty: x if empty.size else empty, restored["state"], like)

    def due(self, step: int) -> bool:
        """Whether `save` would save after this step by itself."""
        return self._manager.should_save(step)

    def save(self, step: int, state: Callable[[], Any], *, now: bool = False) -> None:
        """Saves what `state()` gives after every `every`-th step, or `now`; at others it is not even called."""
        if self._manager.should_save(step) or (now and step not in self._manager.all_steps()):
            with full_disk(self._folder):
                self._manager.save(step, args=ocp.args.StandardSave(_sealed(state())), force=now)

    def wait(self) -> None:
        """Until what is being written is there."""
        with full_disk(self._folder):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for what is being written."""
        self.wait()
        self._manager.close()


def _may_pass(error: Exception) -> bool:
    """Whether it is the machine's trouble and not the file's."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno not in (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR))


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Raises OSError of a disk that is full, or of a quota or a limit that is used up, where the writers below Orbax say so in words of their own."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number), str(folder)) from error
        raise


def _sealed(tree: Any) -> dict[str, Any]:
    """What is saved of a state: it, and the digest of its bytes, for nothing below notices a byte that the disk changed."""
    state = _with_elements(tree)
    return {"state": state, "digest": _digest(state)}


def _digest(state: Any) -> np.ndarray:
    """Of the bytes of the leaves in any order, for a named tuple that is saved may be read as a dictionary; uint8 [32]."""
    leaves = (np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data for leaf in jax.tree.leaves(state))
    return np.frombuffer(hashlib.sha256(b"".join(sorted(hashlib.sha256(leaf).digest() for leaf in leaves))).digest(), np.uint8)


def _alone() -> ocp.options.MultiprocessingOptions:
    """Nothing is waited for of other processes that train with this one: it reads and writes by itself."""
    process = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"process_{process}")


def _with_elements(tree: Any) -> Any:
    """The tree as arrays of NumPy, a zero in place of those without elements, such as a queue of no keys: Orbax refuses them."""
    return jax.tree.map(lambda x: np.array(x) if x.size else np.zeros((), x.dtype), tree)  # a view would change once the buffer is donated


def save_variables(folder: Path, variables: Any) -> None:
    """Writes one tree of arrays, replacing what is there."""
    with full_disk(folder), ocp.StandardCheckpointer(multiprocessing_options=_alone()) as checkpointer:
        checkpointer.save(folder.absolute(), jax.tree.map(np.asarray, variables), force=True)
    sums.write_sums(folder)


def is_variables(folder: Path) -> bool:
    """Whether `save_variables` wrote the folder, which may be damaged."""
    return (folder / "_METADATA").is_file() or (folder / sums.SUMS).is_file()


def load_arrays(folder: Path) -> Any:
    """Reads a tree of any shapes, written on any number of devices, as arrays of NumPy."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with ocp.StandardCheckpointer(multiprocessing_options=_alone()) as checkpointer:
        tree = checkpointer.metadata(folder.absolute()).item_metadata.tree
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), tree)
        return jax.tree.map(np.asarray, checkpointer.restore(folder.absolute(), shapes))


def load_variables(folder: Path, like: Any, *, stage: Path | None = None) -> Any:
    """Reads a tree shaped like `like` that lies in the output of `stage` (none: the folder above). Raises WorkError where it is damaged, OSError
    where the disk cannot be read."""
    if changed := sums.changed(folder):
        raise WorkError(f"{folder} is damaged ({changed}): {mend(stage or folder.parent)}")
    try:
        with ocp.StandardCheckpointer(multiprocessing_options=_alone()) as checkpointer:
            return checkpointer.restore(folder.absolute(), jax.tree.map(ocp.utils.to_shape_dtype_struct, like))
    except Exception as error:  # whatever a damaged file makes the readers below Orbax raise
        if _may_pass(error):
            raise
        raise WorkError(f"{folder} is damaged ({_in_short(error)}): {mend(stage or folder.parent)}") from error


def mend(stage: Path) -> str:
    """What has a stage write its output anew."""
    if stage.suffix == ".partial":
        return f"delete {stage} and run the same command again"
    partial = stage.with_name(f"{stage.name}.partial")
    first = f"rename {partial}, which is of other settings, to another name first; then " if partial.exists() else ""
    return f"{first}rename {stage} to {partial.name} and run the same command again: it is written anew from the checkpoints there"


def _in_short(error: Exception) -> str:
    reason = str(error).strip().splitlines()[:1]
    return f"{type(error).__name__}: {' '.join(reason)[:120]}"
