"""The encoder that the config names, for the stages that use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from acx_jax import randomness
from acx_jax.errors import UsageError
from acx_jax.models import pretrained
from acx_jax.models.encoders import ENCODERS, EncoderSpec, cut
from acx_jax.stages import weights


def settings(config: ConfigDict) -> dict[str, Any]:
    """What of the config the encoder's vectors depend on."""
    own = config.encoder.to_dict()
    if not own["stage"]:  # so that what was made before there was the setting is not redone
        own.pop("stage")
    return own


def inputs(config: ConfigDict) -> dict[str, Any]:
    """What of files the encoder's vectors depend on: the content of its weights, where the config names a path."""
    path = config.encoder.weights
    return {"weights": None if path in pretrained.WEIGHTS else weights.digest(Path(path))}


def check_weights(config: ConfigDict) -> None:
    """Raises UsageError when the config names a path whose weights are not those of its encoder, or a run that trained a shorter part of it."""
    if config.encoder.weights not in pretrained.WEIGHTS:
        weights.check(Path(config.encoder.weights), config.encoder.arch)
        _check_stage(config)


def _check_stage(config: ConfigDict) -> None:
    own, stages = config.encoder, ENCODERS[config.encoder.arch].stages
    trained = weights.run_encoder(Path(own.weights))[1] or stages[-1]
    if trained in stages and stages.index(trained) < stages.index(own.stage or stages[-1]):
        raise UsageError(f"config.encoder.weights is {own.weights!r}, a run that trained the encoder up to {trained!r} alone, and config.encoder.stage is "
                         f"{own.stage!r}: what lies behind does not fit what was trained. Set --config.encoder.stage={trained}; to use both all the same, "
                         "give the weights that python -m acx_jax.pretrained writes of that run")


def taken_over(config: ConfigDict, folder: Any) -> str:
    """The settings with which another run starts from the encoder that the run in `folder`, of this config, trains."""
    stage = f" --config.encoder.stage={config.encoder.stage}" if config.encoder.stage else ""
    return f"--config.encoder.weights={folder}{stage}"


def spec_of(config: ConfigDict) -> EncoderSpec:
    """The encoder, which ends where the config says."""
    spec, stage = ENCODERS[config.encoder.arch], config.encoder.stage
    return cut(spec, stage) if stage else spec


def compute_dtype(config: ConfigDict) -> Any:
    """The number format that the encoder computes in."""
    return jnp.dtype(config.encoder.dtype)


def pretrained_variables(config: ConfigDict) -> dict[str, Any]:
    """The variables that adaptation starts from. Raises UsageError when they cannot be had or the clips do not fit."""
    shape = (1, config.data.clip_frames, config.encoder.crop, config.encoder.crop, 3)
    name, arch = config.encoder.weights, config.encoder.arch
    try:
        if name not in pretrained.WEIGHTS:
            return weights.encoder_variables(Path(name), arch, shape)
        return pretrained.load(name, arch, randomness.stream(config.seed, "encoder"), shape)
    except ValueError as error:
        raise UsageError(f"config.encoder: {error}") from None
