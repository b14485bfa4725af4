"""The data sets by the name that the config gives them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from acx_jax.contracts import Skipped
from acx_jax.data.builders.bdd100k import list_bdd100k
from acx_jax.data.builders.dota import list_dota
from acx_jax.data.builders.excluding import without
from acx_jax.data.builders.features import list_features
from acx_jax.data.builders.folder import list_folder
from acx_jax.data.builders.kinetics import list_kinetics
from acx_jax.data.builders.listing import Listing
from acx_jax.data.builders.ucf_crime import Look, list_ucf_crime, serially

_PLAIN = {"folder": list_folder, "bdd100k": list_bdd100k, "kinetics": list_kinetics,  # those that need to know the root alone
          "features": lambda root: list_features(root).listing}


def list_data(builder: str, root: Path, *, split: str, fps: float, annotations: str, exclude: Sequence[str] = (),
              events: str = "each", look: Look = serially) -> Listing:
    """Lists the data set `builder` under `root`; arguments as of the settings data.*, and how to open video files that must be for that.

    Raises UsageError when there is no such data set under `root`, or `exclude` names what is not in it.
    """
    if builder == "dota":
        listing = list_dota(root, official=split == "official", fps=fps)
    elif builder == "ucf_crime":
        listing = list_ucf_crime(root, fps=fps, via=annotations == "all", look=look, unopened=exclude)
    else:
        listing = _PLAIN[builder](root)
    listing = without(listing, exclude)
    return _last_of_each(listing) if events == "last" else listing


def _last_of_each(listing: Listing) -> Listing:
    """One segment a video and label, the last listed: the published code kept features in one file of each, written over."""
    kept = {(s.video, s.label): s for s in listing.segments}
    out = [s for s in listing.segments if kept[s.video, s.label] != s]
    skipped = tuple(Skipped(str(s), "a later one of its video and label takes its place, as config.data.events='last' asks") for s in out)
    segments = tuple(s for s in listing.segments if kept[s.video, s.label] == s)
    return listing._replace(segments=segments, skipped=listing.skipped + skipped)
