"""The adaptation step in PyTorch: the views, the momentum contrast and the update of acx_jax, as a PyTorch user would write them."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acx_jax.benchmark.peers.torch_encoders import build
from acx_jax.contracts import Clips
from acx_jax.models.encoders import ENCODERS

LUMA = (0.299, 0.587, 0.114)
FACTORS = ((0.5, 1.5), (0.5, 1.5), (0.75, 1.25), (-0.5, 0.5))  # brightness, contrast, saturation, hue


class Projected(nn.Module):
    """Clips [B, T, S, S, 3] in [0, 1] -> unit vectors [B, D]."""

    def __init__(self, arch: str, params: Any, statistics: Any):
        super().__init__()
        spec = ENCODERS[arch]
        self.encoder = build(arch, {"params": params["encoder"], "batch_stats": statistics}).train()
        self.head = nn.Linear(*params["head"]["kernel"].shape)
        self.head.load_state_dict({"weight": torch.from_numpy(np.array(params["head"]["kernel"]).T.copy()),
                                   "bias": torch.from_numpy(np.array(params["head"]["bias"]))})
        self.register_buffer("mean", torch.tensor(spec.mean)), self.register_buffer("std", torch.tensor(spec.std))

    def forward(self, clips: Tensor) -> Tensor:
        x = ((clips - self.mean) / self.std).movedim(-1, 1)
        return F.normalize(self.head(self.encoder(x).float()), dim=-1)


class AdaptStep:
    """A call draws views, takes one step of SGD and returns the loss, which waits for the device."""

    def __init__(self, arch: str, params: Any, statistics: Any, clips: Clips, *, size: int, with_hue: bool, queue: int, temperature: float,
                 key_momentum: float, rate: float, momentum: float, decay: float, bfloat16: bool, compiled: bool, on_gpu: bool):
        self.device = torch.device("cuda" if on_gpu and torch.cuda.is_available() else "cpu")
        layout = torch.channels_last_3d if self.device.type == "cuda" else torch.contiguous_format
        self.query = Projected(arch, params, statistics).to(self.device, memory_format=layout)
        self.keys = copy.deepcopy(self.query).requires_grad_(False)
        self.encode_query, self.encode_key = (torch.compile(net) if compiled else net for net in (self.query, self.keys))
        plain = [p for p in self.query.parameters() if p.ndim == 1]
        kernels = [p for p in self.query.parameters() if p.ndim > 1]
        self.optimiser = torch.optim.SGD([{"params": kernels, "weight_decay": decay}, {"params": plain}], lr=rate, momentum=momentum)
        self.anchor, self.negative = (torch.from_numpy(x).to(self.device) for x in (clips.anchor, clips.negative))
        self.video = torch.from_numpy(clips.video).to(self.device)
        self.queue = torch.zeros(queue, self.query.head.out_features, device=self.device)
        self.queue_video, self.position = torch.full((queue,), -1, dtype=self.video.dtype, device=self.device), 0
        self.size, self.with_hue, self.temperature, self.key_momentum, self.bfloat16 = size, with_hue, temperature, key_momentum, bfloat16

    def __call__(self) -> float:
        with torch.no_grad():
            sources, bent = (self.anchor, self.negative, self.anchor), (True, False, False)
            anchor, negative, positive = (draw_views(clips, self.size, bent=b, with_hue=self.with_hue) for clips, b in zip(sources, bent))
        return self.learn(anchor, negative, positive)

    def learn(self, anchor: Tensor, negative: Tensor, positive: Tensor) -> float:
        """The step on given views [B, T, S, S, 3] in [0, 1]."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            with torch.no_grad():
                key = self.encode_key(positive)
            query, other = self.encode_query(anchor), self.encode_query(negative)
        loss = self.contrast(query, key, other)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(self.keys.parameters()), list(self.query.parameters()), 1 - self.key_momentum)
            self.remember(key)
        return loss.item()

    def contrast(self, query: Tensor, key: Tensor, other: Tensor) -> Tensor:
        """Cross-entropy of the positive among queue and negative, without empty places and keys of the own video."""
        absent = (self.queue_video == -1) | (self.queue_video == self.video[:, None])
        remembered = (query @ self.queue.T).masked_fill(absent, -math.inf)
        similar = torch.cat([(query * key).sum(1, keepdim=True), remembered, (query * other).sum(1, keepdim=True)], 1)
        return F.cross_entropy(similar / self.temperature, torch.zeros(len(query), dtype=torch.long, device=self.device))

    def remember(self, key: Tensor) -> None:
        """Overwrites the oldest keys."""
        places = (self.position + torch.arange(len(key), device=self.device)) % len(self.queue)
        self.queue[places], self.queue_video[places] = key, self.video
        self.position = (self.position + len(key)) % len(self.queue)


def draw_views(clips: Tensor, size: int, *, bent: bool, with_hue: bool) -> Tensor:
    """uint8 [B, T, H, H, 3] -> float [B, T, size, size, 3]: local warps where `bent`, crop, rotation, colours, drawn for each sample."""
    batch, side, device = len(clips), clips.shape[2], clips.device
    line = torch.arange(size, dtype=torch.float32, device=device)
    rows, columns = (x.expand(batch, size, size) for x in torch.meshgrid(line, line, indexing="ij"))
    if bent:
        rows, columns = bend(rows, columns)
    shift = torch.randint(0, side - size + 1, (2, batch, 1, 1), device=device)
    angle = torch.deg2rad(torch.empty(batch, 1, 1, device=device).uniform_(-10, 10))
    rows, columns, centre = rows + shift[0], columns + shift[1], (side - 1) / 2
    rows, columns = rows - centre, columns - centre
    rows, columns = angle.cos() * rows + angle.sin() * columns + centre, angle.cos() * columns - angle.sin() * rows + centre
    places = torch.stack([columns, rows], -1) * (2 / (side - 1)) - 1
    frames = clips.movedim(-1, 2).flatten(1, 2).float() / 255  # [B, T * 3, H, H]
    views = F.grid_sample(frames, places, mode="nearest", align_corners=True)
    views = views.unflatten(1, (-1, 3)).movedim(2, -1)
    return torch.stack([jitter(view, with_hue) for view in views])


def bend(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """One to three local shifts of each sample's grid."""
    batch, size = rows.shape[:2]
    count = torch.randint(1, 4, (batch, 1, 1), device=rows.device)
    for i in range(3):
        centre = torch.empty(2, batch, 1, 1, device=rows.device).uniform_(60 / 224 * size, 140 / 224 * size)
        shift = torch.empty(2, batch, 1, 1, device=rows.device).uniform_(10 / 224 * size, 20 / 224 * size)
        away = rows - centre[0], columns - centre[1]
        ratio = ((away[0] - shift[0]) ** 2 + (away[1] - shift[1]) ** 2) / (shift**2).sum(0)
        near = (away[0] >= -3 * shift[0]) & (away[0] < 3 * shift[0]) & (away[1] >= -3 * shift[1]) & (away[1] < 3 * shift[1])
        reach = torch.where(near & (i < count), 0.5 / (3 * ratio**2 + 1), 0.0)
        rows, columns = (rows - reach * shift[0]).clamp(0, size - 1), (columns - reach * shift[1]).clamp(0, size - 1)
    return rows, columns


def jitter(clip: Tensor, with_hue: bool) -> Tensor:
    """Brightness, contrast, saturation and hue in random order, one draw for all frames [T, H, W, 3]."""
    luma = torch.tensor(LUMA, device=clip.device)
    for change in torch.randperm(4 if with_hue else 3).tolist():
        factor = float(torch.empty(()).uniform_(*FACTORS[change]))
        if change == 0:
            clip = clip * factor
        elif change == 1:
            mean = (clip @ luma).mean((-2, -1))[:, None, None, None]
            clip = mean + factor * (clip - mean)
        elif change == 2:
            grey = (clip @ luma)[..., None]
            clip = grey + factor * (clip - grey)
        else:
            clip = turn_hue(clip, factor)
        clip = clip.clamp(0, 1)
    return clip


def turn_hue(clip: Tensor, turn: float) -> Tensor:
    """Turns the hue by a share of the circle, by way of HSV."""
    value, least = clip.amax(-1), clip.amin(-1)
    chroma = value - least
    red, green, blue = clip.unbind(-1)
    below = torch.where(chroma == 0, 1.0, chroma)
    hue = torch.where(value == red, (green - blue) / below, torch.where(value == green, 2 + (blue - red) / below, 4 + (red - green) / below))
    sector = (hue + 6 * turn)[..., None] + torch.tensor([5.0, 3.0, 1.0], device=clip.device)
    sector = sector % 6
    return value[..., None] - chroma[..., None] * torch.minimum(sector, 4 - sector).clamp(0, 1)
