"""Orbax checkpoints of a training run: saved as it goes, resumed from the newest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

KEPT = 2


class Checkpoints:
    """The checkpoints in one folder, by step; the newest KEPT stay. Writing overlaps with training."""

    def __init__(self, folder: Path, *, every: int):
        folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, save_interval_steps=every, create=False, multiprocessing_options=_alone())
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def restore_newest(self, like: Any, say: Callable[[str], None] = lambda line: None) -> Any | None:
        """The newest state that can be read, shaped like `like`, as arrays of NumPy; None when there is none. Damaged ones are named to `say` and removed."""
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._restore(step, like)
            except Exception as error:  # whatever a damaged file makes the readers below Orbax raise
                reason = str(error).strip().splitlines()[:1]
                say(f"the checkpoint of step {step} is damaged and left out ({type(error).__name__}: {' '.join(reason)[:120]})")
                self._manager.delete(step)
        return None

    def _restore(self, step: int, like: Any) -> Any:
        restored = self._manager.restore(step, args=ocp.args.StandardRestore(_with_elements(like)))
        return jax.tree.map(lambda x, empty: x if empty.size else empty, restored, like)

    def due(self, step: int) -> bool:
        """Whether `save` would save after this step by itself."""
        return self._manager.should_save(step)

    def save(self, step: int, state: Callable[[], Any], *, now: bool = False) -> None:
        """Saves what `state()` gives after every `every`-th step, or `now`; at others it is not even called."""
        if self._manager.should_save(step) or (now and step not in self._manager.all_steps()):
            self._manager.save(step, args=ocp.args.StandardSave(_with_elements(state())), force=now)

    def wait(self) -> None:
        """Until what is being written is there."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for what is being written."""
        self.wait()
        self._manager.close()


def _alone() -> ocp.options.MultiprocessingOptions:
    """Nothing is waited for of other processes that train with this one: it reads and writes by itself."""
    process = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"process_{process}")


def _with_elements(tree: Any) -> Any:
    """The tree as arrays of NumPy, a zero in place of those without elements, such as a queue of no keys: Orbax refuses them."""
    return jax.tree.map(lambda x: np.array(x) if x.size else np.zeros((), x.dtype), tree)  # a view would change once the buffer is donated


def save_variables(folder: Path, variables: Any) -> None:
    """Writes one tree of arrays, replacing what is there."""
    with ocp.StandardCheckpointer(multiprocessing_options=_alone()) as checkpointer:
        checkpointer.save(folder.absolute(), jax.tree.map(np.asarray, variables), force=True)


def is_variables(folder: Path) -> bool:
    """Whether `save_variables` wrote the folder."""
    return (folder / "_METADATA").is_file()


def load_arrays(folder: Path) -> Any:
    """Reads a tree of any shapes, written on any number of devices, as arrays of NumPy."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with ocp.StandardCheckpointer(multiprocessing_options=_alone()) as checkpointer:
        tree = checkpointer.metadata(folder.absolute()).item_metadata.tree
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), tree)
        return jax.tree.map(np.asarray, checkpointer.restore(folder.absolute(), shapes))


def load_variables(folder: Path, like: Any) -> Any:
    """Reads a tree shaped like `like`."""
    with ocp.StandardCheckpointer(multiprocessing_options=_alone()) as checkpointer:
        return checkpointer.restore(folder.absolute(), jax.tree.map(ocp.utils.to_shape_dtype_struct, like))
