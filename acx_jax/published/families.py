"""The checks there are, by family: a new family is one line here."""

from __future__ import annotations

from acx_jax.published import backbones, context, contrast, fewshot, heads, real_frames, transforms, warp
from acx_jax.published.bundle import Check

FAMILIES: dict[str, dict[str, Check]] = {
    "backbones": backbones.CHECKS,
    "context": context.CHECKS,
    "contrast": contrast.CHECKS,
    "fewshot": fewshot.CHECKS,
    "heads": heads.CHECKS,
    "i3d": real_frames.CHECKS,
    "transforms": transforms.CHECKS,
    "warp": warp.CHECKS,
}


def checks(only: str | None = None) -> dict[str, Check]:
    """All checks by name, or those that `only` names: a family or a single check. Raises KeyError for an unknown name."""
    everything = {name: check for family in FAMILIES.values() for name, check in family.items()}
    if only is None:
        return everything
    return FAMILIES[only] if only in FAMILIES else {only: everything[only]}
