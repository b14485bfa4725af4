"""The published evaluation's fitting in PyTorch: one segment at a time through a fresh head, one episode after the other."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

WAY, HIDDEN, GROUPS, NEIGHBOURS = 2, 128, 32, 5


class ContextHead(nn.Module):
    """The published head: [1, P, N] -> [1, way]."""

    def __init__(self, features: int):
        super().__init__()
        self.stem = nn.Conv1d(features, HIDDEN, 3, padding=1, groups=4)
        self.temporal = nn.Sequential(
            nn.Conv1d(HIDDEN, HIDDEN, 1), nn.ReLU(), nn.Conv1d(HIDDEN, HIDDEN, 3, padding=1, groups=GROUPS), nn.ReLU(),
            nn.Conv1d(HIDDEN, HIDDEN, 1))
        self.semantic = nn.Sequential(
            nn.Conv2d(2 * HIDDEN, HIDDEN, 1), nn.ReLU(), nn.Conv2d(HIDDEN, HIDDEN, 1, groups=GROUPS), nn.ReLU(),
            nn.Conv2d(HIDDEN, HIDDEN, 1))
        self.classifier = nn.Linear(HIDDEN, WAY)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        semantic = self.semantic(edges(x)).max(dim=-1).values
        x = F.relu(self.temporal(x) + x + semantic)
        return self.classifier(x.mean(dim=-1))


def edges(x: Tensor) -> Tensor:
    """Every node's nearest neighbours, each beside the node: [1, C, N] -> [1, 2C, N, k]."""
    squares = (x**2).sum(dim=1)
    distances = squares[:, :, None] + squares[:, None] - 2 * x.transpose(1, 2) @ x
    nearest = distances.topk(min(NEIGHBOURS, x.shape[-1]), largest=False).indices[0]
    return torch.cat([x[:, :, nearest], x[..., None].expand(-1, -1, -1, nearest.shape[-1])], dim=1)


def score_episode(support: list[np.ndarray], labels: np.ndarray, query: list[np.ndarray], *, epochs: int, batch: int,
                  learning_rate: float, seed: int, device: str) -> np.ndarray:
    """Fits a fresh head on segments [N, P] and returns the logits of the queries, float32 [Q, way]."""
    torch.manual_seed(seed)
    head = ContextHead(support[0].shape[1]).to(device)
    optimiser = torch.optim.Adam(head.parameters(), lr=learning_rate)
    known, asked = ([torch.from_numpy(x.T.copy())[None].to(device) for x in graphs] for graphs in (support, query))
    targets = torch.from_numpy(labels.astype(np.int64)).to(device)
    for _ in range(epochs):
        for picked in torch.randperm(len(known)).split(batch):
            loss = F.cross_entropy(torch.cat([head(known[i]) for i in picked]), targets[picked.to(device)])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        return torch.cat([head(x) for x in asked]).cpu().numpy()
