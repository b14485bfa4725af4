"""The compiled step of the adaptation, as a config wants it."""

from __future__ import annotations

from typing import Any

import optax
from ml_collections import ConfigDict

from acx_jax import randomness
from acx_jax.models.encoders import trainable
from acx_jax.models.operations import training_flops
from acx_jax.runtime import devices
from acx_jax.selfsup import projection, schemes, training
from acx_jax.selfsup.memory import Queue, empty_queue, uniform_queue
from acx_jax.selfsup.optimisers import learning_rate, make_optimiser, scaled_rate
from acx_jax.selfsup.views import ViewOptions
from acx_jax.stages.encoder import compute_dtype, pretrained_variables, spec_of


def make_program(config: ConfigDict, *, batches_of_an_epoch: int) -> tuple[Any, training.AdaptState]:
    """The compiled step and the state it starts from."""
    adapt, spec = config.adapt, spec_of(config)
    variables = pretrained_variables(config)
    head = projection.init_head(randomness.stream(config.seed, "projection"), inputs=spec.feature_dim, outputs=adapt.projection)
    frozen = adapt.freeze or None
    params = {"encoder": variables["params"], "head": head}
    trained = {"encoder": trainable(spec, params["encoder"], frozen), "head": True}
    optimiser = make_optimiser(params, trained, name=adapt.optimiser, rate=_rate(adapt), momentum=adapt.momentum,
                               decay=adapt.weight_decay, decay_norms=adapt.decay_norms, accumulate=adapt.accumulate)
    scheme = _scheme(adapt, batches_of_an_epoch)
    project = projection.make_projection(spec, dtype=compute_dtype(config), axis=devices.AXIS, train_norm=adapt.train_norm, frozen=frozen,
                                         shared_norm=adapt.shared_norm, unit=scheme.unit)
    state = training.initial_state(params, variables["batch_stats"], optimiser, _queue(config))
    options = ViewOptions(config.encoder.crop, adapt.crop, adapt.jitter, adapt.warp, flip=adapt.flip, blur=adapt.blur, grey=adapt.grey,
                          temporal_jitter=adapt.temporal_jitter)
    step = training.make_step(project, optimiser, scheme, options=options,
                              key_momentum=adapt.key_momentum, axis=devices.AXIS, remat=adapt.remat)
    return devices.map_over_devices(step, in_axes=(0, 0, None), donate=(0,)), state


def handed_on(state: training.AdaptState, config: ConfigDict) -> dict[str, Any]:
    """The variables of the encoder that a run with this config hands on, of the state of one device: its own, or its slow average."""
    slow = config.adapt.result == "average"
    params, statistics = (state.key_params, state.key_statistics) if slow else (state.params, state.statistics)
    return {"params": params["encoder"], "batch_stats": statistics}


def step_flops(config: ConfigDict) -> float:
    """Operations of a step in its convolutions and matrix products, over all devices."""
    adapt, crop = config.adapt, config.encoder.crop
    shape, scheme = (adapt.batch, config.data.clip_frames, crop, crop, 3), _scheme(adapt, 1)
    return training_flops(spec_of(config), shape, trained=len(scheme.trained), frozen=adapt.freeze or None,
                          forward=int(schemes.POSITIVE not in scheme.trained))


def _queue(config: ConfigDict) -> Queue:
    size, dimension = config.adapt.queue, config.adapt.projection
    if config.adapt.queue_start == "empty":
        return empty_queue(size, dimension)
    return uniform_queue(randomness.stream(config.seed, "queue"), size, dimension)


def _scheme(adapt: ConfigDict, batches_of_an_epoch: int) -> schemes.Scheme:
    """The objective; the published loss takes the number of batches of an epoch for the number of data."""
    if adapt.objective == "triplet":
        return schemes.triplets(margin=adapt.margin, exclude_own=adapt.exclude_own)
    if adapt.objective == "vicreg":
        return schemes.vicreg()
    broken = () if adapt.motion_broken == "none" else (schemes.BROKEN,)
    negatives = (schemes.NEGATIVE, *broken) if adapt.objective == "dsm" else ()
    return schemes.contrastive(negatives=negatives, warp=adapt.objective == "dsm", broken=adapt.motion_broken, loss=adapt.loss,
                               temperature=adapt.temperature, n_data=batches_of_an_epoch, exclude_own=adapt.exclude_own)


def _rate(adapt: ConfigDict) -> optax.Schedule:
    peak = scaled_rate(adapt.learning_rate, batch=adapt.batch * adapt.accumulate, per=adapt.rate_batch)
    return learning_rate(adapt.schedule, peak=peak, steps=-(-adapt.steps // adapt.accumulate), warmup=adapt.warmup)
