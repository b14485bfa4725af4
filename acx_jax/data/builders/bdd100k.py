"""BDD100K (Yu et al., CVPR 2020): 100,000 ordinary drives of 40 seconds. Nothing in it is labelled abnormal: adaptation only.

    any folders with <video>.mov, ... such as bdd100k/videos/train/, or with a folder of frames a video
"""

from __future__ import annotations

from pathlib import Path

from acx_jax.contracts import NORMAL, TO_THE_END, Segment, Skipped
from acx_jax.data.builders.listing import Listing
from acx_jax.data.builders.tree import also_lost, check_root, media_below, printable, unusable
from acx_jax.errors import UsageError

_EXPECTED = "videos (.mov, .mp4, ...), in any subfolders"


def list_bdd100k(root: Path) -> Listing:
    """Every video under `root` as one normal segment to adapt on, or skipped by name. Raises UsageError when there is none."""
    check_root(root, _EXPECTED)
    lost: list[Skipped] = []
    places = {printable(one.path.relative_to(root)): one.path for one in media_below(root, lost.append)}
    if not places:
        raise UsageError(f"data root {root} holds no video{also_lost(lost)}. Expected {_EXPECTED}")
    reasons = {name: unusable(path) for name, path in places.items()}
    usable = [name for name, reason in reasons.items() if not reason]
    return Listing(
        segments=tuple(Segment(name, 0, TO_THE_END, NORMAL, source=name, split="adapt") for name in usable),
        paths={name: places[name] for name in usable},
        skipped=(*lost, *(Skipped(name, reason) for name, reason in reasons.items() if reason)),
        videos_listed=len(places), segments_listed=len(places),
        missing=tuple(name for name, reason in reasons.items() if reason))
