"""A bundle of another seed, other sizes and other counts, made with PyTorch: nothing of the recorded one is built into the checks."""

import json
from pathlib import Path

import numpy as np
import pytest

from acx_jax.models.weight_match import find_weights, to_tree
from acx_jax.published import backbones, context
from acx_jax.published.bundle import Bundle, named_parameter

torch = pytest.importorskip("torch")
GOLDEN = Path(__file__).parents[1] / "golden"
SEED, HIDDEN, GROUPS, WAY, COUNTS = 12345, 64, 16, 3, (2, 7)
WIDTH = 4 * GROUPS
SHAPES = {"backbone1.0.weight": (HIDDEN, 512 // 4, 3), "backbone1.0.bias": (HIDDEN,), "backbone1.2.sacle": (3,),
          "last_layer.weight": (WAY, HIDDEN), "last_layer.bias": (WAY,)}
for layer, shape in {"tconvs.0": (WIDTH, HIDDEN, 1), "tconvs.2": (WIDTH, 4, 3), "tconvs.4": (HIDDEN, WIDTH, 1),
                     "sconvs.0": (WIDTH, 2 * HIDDEN, 1, 1), "sconvs.2": (WIDTH, 4, 1, 1), "sconvs.4": (HIDDEN, WIDTH, 1, 1)}.items():
    SHAPES |= {f"backbone1.2.{layer}.weight": shape, f"backbone1.2.{layer}.bias": shape[:1]}


def torch_head(weights, x):
    """Pooled features [B, H] and logits [B, way] of clips [B, N, 512], as published.md tells it."""
    def conv(h, name, groups=1):
        layer = torch.nn.functional.conv1d if weights[f"{name}.weight"].ndim == 3 else torch.nn.functional.conv2d
        padding = weights[f"{name}.weight"].shape[2] // 2
        return layer(h, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=padding, groups=groups)

    h = conv(x.transpose(1, 2), "backbone1.0", 4).relu()  # [B, H, N]
    block = "backbone1.2"
    temporal = conv(conv(h, f"{block}.tconvs.0").relu(), f"{block}.tconvs.2", GROUPS).relu()
    temporal = conv(temporal, f"{block}.tconvs.4")
    nodes = h.transpose(1, 2)
    nearest = torch.cdist(nodes, nodes).topk(min(5, nodes.shape[1]), largest=False).indices  # [B, N, k]
    neighbours = torch.stack([batch[index] for batch, index in zip(nodes, nearest)])  # [B, N, k, H]
    edges = torch.cat([neighbours, nodes[:, :, None].expand_as(neighbours)], -1).permute(0, 3, 1, 2)
    edges = conv(conv(edges, f"{block}.sconvs.0").relu(), f"{block}.sconvs.2", GROUPS).relu()
    semantic = conv(edges, f"{block}.sconvs.4").amax(-1)
    feature = (temporal + h + semantic).relu().mean(-1)
    return feature, torch.nn.functional.linear(feature, weights["last_layer.weight"], weights["last_layer.bias"])


def test_a_head_of_another_seed_and_size_agrees(tmp_path, quick_compiler):
    weights = {name: torch.tensor(named_parameter(name, shape, SEED), requires_grad=True) for name, shape in SHAPES.items()}
    arrays = {}
    for n in COUNTS:
        x = np.random.default_rng(n).standard_normal((WAY, n, 512)).astype(np.float32)
        feature, logits = torch_head(weights, torch.tensor(x))
        loss = torch.nn.functional.cross_entropy(logits, torch.arange(WAY))
        used = [name for name in weights if not name.endswith("sacle")]
        gradients = torch.autograd.grad(loss, [weights[name] for name in used])
        arrays |= {f"x{n}": x, f"feature{n}": feature, f"logits{n}": logits, f"loss{n}": loss}
        arrays |= {f"grad{n}.{name}": gradient for name, gradient in zip(used, gradients)}
    np.savez(tmp_path / "mcp_default.npz", **{name: np.asarray(getattr(v, "detach", lambda v=v: v)()) for name, v in arrays.items()})
    (tmp_path / "mcp_shapes.json").write_text(json.dumps({"default": SHAPES}))
    (tmp_path / "bundle.json").write_text(json.dumps({"seed": SEED}))
    rows = list(context.head_outputs("default", Bundle(tmp_path)))
    assert [row.arrays for row in rows] == [2, 1, 2, 1, 2, 2 * (len(SHAPES) - 1)]
    assert not [row for row in rows if not row.ok]


def torch_stages(network, clips) -> list:
    """What follows each stage of a residual network, [B, C, T, H, W]."""
    x = torch.relu(network.stem_norm(network.stem(torch.tensor(clips).permute(0, 4, 1, 2, 3))))
    after = {"stem": x}
    for name in network.order:
        x = after[name.partition("_")[0]] = getattr(network, name)(x)
    return list(after.values())


def recorded_evaluation(network, classifier, clips) -> dict:
    with torch.no_grad():
        stages = torch_stages(network, clips)
        pooled = stages[-1].mean((2, 3, 4))
        return {"x": clips, "pooled": pooled, "logits": classifier(pooled)[:, :4], "stage_shapes": [list(s.shape) for s in stages],
                "stage_mean": [s.mean() for s in stages], "stage_std": [s.std(correction=0) for s in stages]}


def recorded_training(network, clips) -> dict:
    """One gradient in evaluation mode, then one pass in training mode, by the names of published state dicts."""
    loss = torch_stages(network, clips)[-1].mean((2, 3, 4)).square().mean()
    loss.backward()
    gradients = {"grad.stem.0.weight": network.stem.weight.grad, "grad.layer3.0.downsample.0.weight": network.layer3_block0.shortcut.weight.grad,
                 "grad.layer4.1.conv2.1.bias": network.layer4_block1.norm2.bias.grad} if not hasattr(network.stem, "spatial") else {
                 "grad.stem.0.weight": network.stem.spatial.weight.grad, "grad.layer3.0.downsample.0.weight": network.layer3_block0.shortcut.weight.grad}
    with torch.no_grad():
        pooled = torch_stages(network.train(), clips)[-1].mean((2, 3, 4))
    norm = network.layer4_block1.norm2
    return {"train_x": clips, "train_pooled": pooled, "grad_loss": loss, "after.layer4.1.conv2.1.running_mean": norm.running_mean,
            "after.layer4.1.conv2.1.running_var": norm.running_var} | gradients


@pytest.mark.parametrize("arch", ["mc3_18", *(pytest.param(arch, marks=pytest.mark.slow) for arch in ("r2plus1d_34", "r2plus1d_18", "r3d_18"))])
def test_a_backbone_of_another_seed_and_size_agrees(arch, tmp_path):
    from acx_jax.benchmark.peers import torch_encoders  # imports torch

    shapes = json.loads((GOLDEN / backbones.SHAPES).read_text())[arch] | {"fc.weight": [10, 512], "fc.bias": [10]}
    (tmp_path / backbones.SHAPES).write_text(json.dumps({arch: shapes}))
    (tmp_path / "bundle.json").write_text(json.dumps({"seed": SEED}))
    entries = Bundle(tmp_path).parameters(shapes)
    network = torch_encoders.build(arch, to_tree(find_weights(entries, arch, "")))
    classifier = lambda pooled: torch.nn.functional.linear(pooled, torch.tensor(entries["fc.weight"]), torch.tensor(entries["fc.bias"]))
    draw = np.random.default_rng(SEED)
    clips = {size: draw.standard_normal((batch, *shape, 3)).astype(np.float32)
             for size, batch, shape in (("8x40", 2, (8, 40, 40)), ("5x48", 3, (5, 48, 48)))}
    arrays = {f"{name}_{size}": value for size, x in clips.items() for name, value in recorded_evaluation(network, classifier, x).items()}
    arrays |= recorded_training(network, clips["8x40"])
    np.savez(tmp_path / f"backbone_{arch}.npz", **{name: np.asarray(getattr(v, "detach", lambda v=v: v)()) for name, v in arrays.items()})
    rows = list(backbones.backbone(arch, Bundle(tmp_path)))
    assert len(rows) == 2 * 5 + 4
    assert not [row for row in rows if not row.ok]
