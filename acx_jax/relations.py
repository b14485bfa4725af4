"""Which settings fit each other, topic by topic: what acx_jax.config checks once each setting is in its own range."""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from acx_jax.settings import ENCODER_STAGES, NAMED_WEIGHTS

Relation = tuple[bool, str]  # whether it holds, and what is said where it does not


def relations(config: ConfigDict) -> list[Relation]:
    """All of them, of settings that are each in their own range."""
    return [relation for topic in (_data, _encoder, _frozen, _adaptation, _probe, _categories, _learning, _augmented, _whitened) for relation in topic(config)]


def _data(config: ConfigDict) -> list[Relation]:
    data = config.data
    return [
        (data.builder == "synthetic" or data.root != "",
         "config.data.root is empty: say where your videos are with --config.data.root=FOLDER"),
        (data.min_frames >= data.clip_frames,
         f"config.data.min_frames is {data.min_frames}, expected at least config.data.clip_frames = {data.clip_frames}"),
        (data.width == 0 or data.width >= data.short_side,
         f"config.data.width is {data.width}, expected 0 or at least config.data.short_side = {data.short_side}"),
        *(_most_frames(name, data[name], data.min_frames) for name in ("max_frames", "max_adapt_frames")),
    ]


def _most_frames(name: str, most: int, least: int) -> Relation:
    return not 0 < most < least, f"config.data.{name} is {most}, expected 0 or at least config.data.min_frames = {least}"


def _encoder(config: ConfigDict) -> list[Relation]:
    encoder, data, stages = config.encoder, config.data, ENCODER_STAGES[config.encoder.arch]
    return [
        (encoder.crop <= data.short_side,
         f"config.encoder.crop is {encoder.crop}, expected at most config.data.short_side = {data.short_side}"),
        ((encoder.weights == "i3d_kinetics400") <= (encoder.arch == "i3d"),
         f"config.encoder.weights is 'i3d_kinetics400', which fits config.encoder.arch='i3d', not {encoder.arch!r}: "
         "choose --config.encoder.weights=random, or the path of weights"),
        (encoder.weights in NAMED_WEIGHTS or Path(encoder.weights).exists(),
         f"config.encoder.weights is {encoder.weights!r}, expected {', '.join(NAMED_WEIGHTS)} or the path of a weight file or folder: "
         "there is no such file"),
        (encoder.stage in ("", *stages),
         f"config.encoder.stage is {encoder.stage!r}, expected a stage of {encoder.arch}: {', '.join(stages)}; "
         "--config.encoder.stage= takes all"),
        (config.source.steps == 0 or data.builder != "features",
         "config.source.steps trains an encoder, and config.data.builder='features' has no videos: leave one of them out"),
    ]


def _frozen(config: ConfigDict) -> list[Relation]:
    """Of the stages that keep their weights, and the one at which the encoder ends."""
    arch = config.encoder.arch
    return [
        (config.adapt.steps == 0 or config.source.steps > 0 or config.data.builder == "features" or not _ends_within(config, config.adapt.freeze),
         _nothing_trained(config, "adapt", "adaptation") + ", or leave adaptation out with --config.adapt.steps=0"),
        (config.source.steps == 0 or not _ends_within(config, config.source.freeze), _nothing_trained(config, "source", "training on source classes")),
        *(_a_stage(training, config[training].freeze, arch) for training in ("adapt", "source")),
    ]


def _nothing_trained(config: ConfigDict, group: str, training: str) -> str:
    stage, last = config.encoder.stage, ENCODER_STAGES[config.encoder.arch][-1]
    end = f"{stage!r} (config.encoder.stage)" if stage else repr(last)
    return (f"config.{group}.freeze is {config[group].freeze!r}, and the encoder ends at {end}, so that {training} would train nothing of it: name an "
            f"earlier stage with --config.{group}.freeze (empty trains all)")


def _ends_within(config: ConfigDict, frozen: str) -> bool:
    """Whether the encoder ends with or before a frozen stage; False where either is no stage, which is told elsewhere."""
    stages, last = ENCODER_STAGES[config.encoder.arch], config.encoder.stage or ENCODER_STAGES[config.encoder.arch][-1]
    if frozen not in stages or last not in stages:
        return False
    return all(name.startswith("MaxPool3d") for name in stages[stages.index(frozen) + 1:stages.index(last) + 1])  # those have no weights


def _a_stage(training: str, frozen: str, arch: str) -> Relation:
    stages = ENCODER_STAGES[arch]
    return frozen in ("", *stages), (f"config.{training}.freeze is {frozen!r}, expected a stage of {arch}: {', '.join(stages)}; "
                                     f"--config.{training}.freeze= trains all")


def _adaptation(config: ConfigDict) -> list[Relation]:
    adapt, crop = config.adapt, config.encoder.crop
    return [
        (adapt.warp != "batch" or crop <= 256,
         f"config.adapt.warp is 'batch', the published warp, which takes config.encoder.crop up to 256, not {crop}"),
        (adapt.steps % adapt.accumulate == 0,
         f"config.adapt.steps is {adapt.steps}, expected a multiple of config.adapt.accumulate = {adapt.accumulate}: the last "
         "steps would change nothing"),
        *_objective(adapt),
    ]


def _objective(adapt: ConfigDict) -> list[Relation]:
    return [
        (adapt.motion_broken == "none" or adapt.objective == "dsm",
         f"config.adapt.motion_broken is {adapt.motion_broken!r}, which only config.adapt.objective='dsm' takes, not {adapt.objective!r}"),
        (adapt.objective not in ("vicreg", "triplet") or adapt.batch >= 2,
         f"config.adapt.batch is 1, and config.adapt.objective={adapt.objective!r} compares the clips of a batch: at least 2 are needed"),
        (adapt.objective != "moco" or adapt.queue >= adapt.batch,
         f"config.adapt.queue is {adapt.queue}, and config.adapt.objective='moco' has no other negatives: expected at least "
         f"config.adapt.batch = {adapt.batch}"),
    ]


def _probe(config: ConfigDict) -> list[Relation]:
    return [
        (config.adapt.result != "best" or config.probe.share > 0,
         "config.adapt.result is 'best', which a probe tells: set --config.probe.share, such as 0.2"),
        (config.probe.share + config.meta.share <= 0.9 or not config.meta.steps,
         f"config.probe.share={config.probe.share} and config.meta.share={config.meta.share} leave too little to evaluate: expected 0.9 or less in all"),
    ]


def _categories(config: ConfigDict) -> list[Relation]:
    labels = config.episodes.classes == "labels"
    return [
        (labels or not config.meta.steps,
         "config.meta.steps trains on normal and abnormal, which config.episodes.classes='categories' does not evaluate: leave one of them out"),
        (labels or not config.episodes.rows,
         "config.episodes.rows are parts of two classes, normal and abnormal: leave them out with config.episodes.classes='categories'"),
    ]


def _learning(config: ConfigDict) -> list[Relation]:
    meta, hidden = config.meta, config.learners.mcp.hidden
    return [
        (not (meta.learn_rates and meta.method == "reptile"),
         "config.meta.learn_rates is True, which config.meta.method='reptile' cannot do: it does not look through the inner steps"),
        (meta.method != "anil" or meta.learner in ("mcp", "two_layer"),
         f"config.meta.method is 'anil', which config.meta.learner={meta.learner!r} does not take: it has one layer alone"),
        (hidden % 4 == 0, f"config.learners.mcp.hidden is {hidden}, expected a multiple of 4"),
    ]


def _augmented(config: ConfigDict) -> list[Relation]:
    encoded, given = config.embed.augmented, config.data.builder == "features"
    return [
        (config.episodes.augmented <= encoded or given,
         f"config.episodes.augmented is {config.episodes.augmented}, more than config.embed.augmented = {encoded} holds for each segment: "
         f"raise the latter, which keeps those that are there, or ask for at most {encoded}"),
        (encoded == 0 or not given,
         f"config.embed.augmented is {encoded}, which encodes videos, and config.data.builder='features' has none: leave it at 0; "
         "augmented sequences that lie beside given features need config.episodes.augmented alone"),
    ]


def _whitened(config: ConfigDict) -> list[Relation]:
    return [
        (config.embed.whiten == 0 or config.data.builder != "features",
         f"config.embed.whiten is {config.embed.whiten}, which learns from the normal videos of the adaptation split, and config.data.builder='features' "
         "has no such split: leave it at 0"),
    ]
