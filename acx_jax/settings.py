"""Every setting with its default, its allowed values and what it means: the data that acx_jax.config works on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

_RESNET_STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")
_I3D_STAGES = (
    "Conv3d_1a_7x7", "MaxPool3d_2a_3x3", "Conv3d_2b_1x1", "Conv3d_2c_3x3", "MaxPool3d_3a_3x3", "Mixed_3b", "Mixed_3c",
    "MaxPool3d_4a_3x3", "Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f", "MaxPool3d_5a_2x2", "Mixed_5b", "Mixed_5c",
)
ENCODER_STAGES = {"i3d": _I3D_STAGES} | dict.fromkeys(
    ("r2plus1d_tiny", "r2plus1d_18", "r2plus1d_34", "r3d_18", "mc3_18"), _RESNET_STAGES)
BUILDERS = ("folder", "dota", "ucf_crime", "bdd100k", "kinetics", "features")  # those that read data.root
NAMED_WEIGHTS = ("i3d_kinetics400", "random")
LEARNERS = ("mcp", "proto", "linear", "two_layer", "cosine", "proto_temperature", "simpleshot", "ridge", "r2d2", "svm", "bd_cspn")
_ROWS = ("ego", "not_ego", "categories", "ego_categories")  # as acx_jax.data.subsets makes them
RETIRED = frozenset({"embed.centre"})  # settings that workdirs may remember and that are no more
ON_TOP = "+propagation"  # behind a learner's name: label propagation on top of it


class Setting(NamedTuple):
    """One setting: `allows(value)` says whether a value of the default's type is in range, `range` says it in words."""

    default: Any
    allows: Callable[[Any], bool]
    range: str
    doc: str


def _between(low: float, high: float = float("inf")) -> tuple[Callable[[Any], bool], str]:
    return lambda value: low <= value <= high, f"from {low}" if high == float("inf") else f"from {low} to {high}"


def _one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in names, "one of " + ", ".join(names)


def _some_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: 0 < len(value) and all(value.count(x) == 1 and x in names for x in value), "some of " + ", ".join(names)


def _positive() -> tuple[Callable[[Any], bool], str]:
    return lambda value: 0 < value < float("inf"), "above 0"


def _learner_names(names: tuple[str, ...]) -> bool:
    return 0 < len(names) and all(names.count(name) == 1 and _is_learner(name) for name in names)


def _is_learner(name: Any) -> bool:
    """A known name or a dotted path, with or without `ON_TOP`; whether something is there is seen when it is imported."""
    base = name.removesuffix(ON_TOP) if isinstance(name, str) else ""
    return base in LEARNERS or ("." in base and all(part.isidentifier() for part in base.split(".")))


_ANY = (lambda value: True, "any text")
_EITHER = (lambda value: True, "True or False")

SCHEMA: dict[str, Setting] = {
    "name": Setting("", *_ANY, "name of the configuration; that of its file if left empty"),
    "seed": Setting(0, *_between(0, 2**32 - 1), "seed of everything random: split, scenes, training, episodes"),
    "data.builder": Setting("folder", *_one_of(*BUILDERS, "synthetic"), "where videos come from"),
    "data.root": Setting("", *_ANY, "folder of the data: videos with segments.csv, or normal/ and abnormal/, or a data set's own tree"),
    "data.split": Setting("official", *_one_of("official", "source", "published"), "which videos adapt: as the data say (else "
                          "drawn), whole sources drawn, or published: all normal segments, those evaluated too"),
    "data.events": Setting("each", *_one_of("each", "last"), "several segments of one video with one label: each is kept, or published: the "
                           "last alone, whose features overwrote the others'"),
    "data.exclude": Setting((), lambda value: all(isinstance(x, str) for x in value), "names of videos or sources",
                            "videos and sources to leave out"),
    "data.annotations": Setting("all", *_one_of("all", "official"), "ucf_crime: the official temporal annotation alone, or via/ too"),
    "data.fps": Setting(0.0, *_between(0, 1000), "frames a second to read videos at; 0 keeps each video's own rate"),
    "data.short_side": Setting(128, *_between(16, 2160), "pixels of the shorter side of stored frames"),
    "data.resample": Setting("bilinear", *_one_of("nearest", "bilinear", "bicubic"), "filter that resizes frames"),
    "data.width": Setting(0, *_between(0, 4096), "width that frames are stretched to, data.short_side being their height; 0 keeps "
                          "their aspect"),
    "data.storage": Setting("raw", *_one_of("raw", "jpeg"), "how frames are stored: as they are, or each as a JPEG"),
    "data.jpeg_quality": Setting(95, *_between(50, 100), "of stored JPEGs"),
    "data.reduced": Setting(True, *_EITHER, "frames are scaled while they are decoded, which is faster; never with data.resample=nearest or data.width"),
    "data.workers": Setting(0, *_between(0, 1024), "processes that read videos; 0: as many as there are CPU cores"),
    "data.patience": Setting(120.0, *_positive(), "seconds without a frame after which a video is given up"),
    "data.clip_frames": Setting(8, *_between(2, 64), "frames of a clip, the encoder's unit"),
    "data.clip_stride": Setting(4, *_between(1, 64), "frames from one clip of a segment to the next"),
    "data.min_frames": Setting(8, *_between(1), "shorter segments are left out; at least data.clip_frames"),
    "data.max_frames": Setting(124, *_between(0), "longer segments keep their first so many frames in evaluation; 0 keeps all"),
    "data.max_adapt_frames": Setting(1000, *_between(0), "the same for segments used in adaptation"),
    "data.adapt_share": Setting(0.3, *_between(0, 0.9), "share of the videos to adapt on where no split column says so"),
    "data.max_bad_share": Setting(0.1, *_between(0, 1), "a larger share of unusable videos stops the run"),
    "data.videos": Setting(60, *_between(4, 100000), "synthetic: number of videos"),
    "data.scene_width": Setting(176, *_between(32, 1920), "synthetic: width of a video in pixels"),
    "data.scene_height": Setting(128, *_between(32, 1080), "synthetic: height of a video in pixels"),
    "encoder.arch": Setting("i3d", *_one_of(*ENCODER_STAGES), "video encoder"),
    "encoder.weights": Setting("i3d_kinetics400", lambda value: value != "", "i3d_kinetics400, random, or the path of a weight file or folder",
                               "weights it starts from; see python -m acx_jax.pretrained --help"),
    "encoder.stage": Setting("", *_ANY, "stage at which it ends, such as Mixed_3c: the features behind it, meaned over time and space, are the "
                             "vectors; empty: its last"),
    "encoder.crop": Setting(112, *_between(16, 1080), "side of the square the encoder sees; at most data.short_side"),
    "encoder.dtype": Setting("float32", *_one_of("float32", "bfloat16"), "number format the encoder computes in"),
    "adapt.steps": Setting(100, *_between(0), "training steps on normal clips; 0 leaves the encoder as it is"),
    "adapt.batch": Setting(8, *_between(1), "clips a step, over all devices"),
    "adapt.learning_rate": Setting(0.003, *_positive(), "peak learning rate"),
    "adapt.rate_batch": Setting(0, *_between(0), "clips of an update that adapt.learning_rate is meant for, so that it grows with the batch; 0: "
                                "it is meant for any"),
    "adapt.accumulate": Setting(1, *_between(1), "steps whose gradients are averaged into one update"),
    "adapt.remat": Setting(False, *_EITHER, "activations are computed anew in the backward pass: less memory, a forward pass more"),
    "adapt.result": Setting("trained", *_one_of("trained", "average", "best"), "the encoder handed on: the trained one, its slow average (the "
                            "key encoder; adapt.key_momentum), or that of the step at which the probe was best"),
    "probe.share": Setting(0.0, *_between(0, 0.5), "share of the independent videos or sources to evaluate on that a k-NN probe watches the "
                           "adaptation with instead; 0: no probe"),
    "probe.every": Setting(10, *_between(1), "steps from one probe to the next"),
    "probe.neighbours": Setting(5, *_between(1, 1000), "k of the probe"),
    "probe.windows": Setting(8, *_between(1), "clips of a segment that the probe looks at, spread evenly, at most"),
    "adapt.optimiser": Setting("sgd", *_one_of("sgd", "adamw"), "sgd with adapt.momentum, or adamw"),
    "adapt.schedule": Setting("cosine", *_one_of("cosine", "step", "constant"), "of the learning rate: to 0 along a cosine, or published: "
                              "a tenth of it after 60 % and again after 80 % of the steps"),
    "adapt.warmup": Setting(0, *_between(0), "first updates, in which the learning rate rises linearly"),
    "adapt.decay_norms": Setting(False, *_EITHER, "weight decay of norms and biases too (published)"),
    "adapt.momentum": Setting(0.9, *_between(0, 0.9999), "of SGD"),
    "adapt.weight_decay": Setting(1e-4, *_between(0, 1), "of the weights that are trained; see adapt.decay_norms"),
    "adapt.objective": Setting("dsm", *_one_of("dsm", "moco", "triplet", "vicreg"), "dsm: a bent anchor against another moment of its own video and "
                               "the queue; moco: the queue alone; triplet: no queue; vicreg: no negatives at all"),
    "adapt.motion_broken": Setting("none", *_one_of("none", "shuffle", "reverse", "insertion", "any"), "dsm: a negative of the anchor's own "
                                   "frames in a wrong order; none (published) leaves it out"),
    "adapt.negative": Setting("apart", *_one_of("apart", "wrapping"), "the other moment: no shared frame, or published: wraps round, may share"),
    "adapt.loss": Setting("info_nce", *_one_of("info_nce", "nce"), "of dsm and moco; nce is the published one"),
    "adapt.exclude_own": Setting(True, *_EITHER, "keys of a sample's own video are no negatives; published: False"),
    "adapt.queue_start": Setting("empty", *_one_of("empty", "uniform"), "the queue at first; uniform random entries are the published one"),
    "adapt.margin": Setting(0.5, *_between(0, 10), "of triplet"),
    "adapt.crop": Setting("random", *_one_of("random", "resized", "squeeze"), "a random square of the frame, a rectangle of a fifth to "
                          "all of a square's area resized, or published: all of the frame squeezed"),
    "adapt.flip": Setting(0.0, *_between(0, 1), "probability that a view's left and right are exchanged"),
    "adapt.blur": Setting(0.0, *_between(0, 1), "probability of a Gaussian blur, of 0.1 to 2 pixels, of a view"),
    "adapt.grey": Setting(0.0, *_between(0, 1), "probability that a view is grey"),
    "adapt.temporal_jitter": Setting(0.0, *_between(0, 0.9), "share by which a view plays slower than its clip, at most"),
    "adapt.jitter": Setting("all", *_one_of("all", "last"), "changes of colour that show: all four, or published: the last drawn"),
    "adapt.warp": Setting("sample", *_one_of("sample", "thin_plate", "batch"), "the anchor's: local warps of each sample, a thin plate "
                          "bent as a whole, or published: local ones drawn for a batch, axes swapped"),
    "adapt.temperature": Setting(0.07, *_positive(), "of the contrastive loss"),
    "adapt.queue": Setting(1024, *_between(0), "negative keys remembered from earlier steps"),
    "adapt.key_momentum": Setting(0.999, *_between(0, 1), "share of the key encoder kept at each step"),
    "adapt.projection": Setting(128, *_between(2), "dimensions of the contrastive space"),
    "adapt.train_norm": Setting(True, *_EITHER, "batch statistics in training; False keeps the pretrained ones"),
    "adapt.shared_norm": Setting(True, *_EITHER, "batch statistics are those of all devices; False: each device normalises by its own clips"),
    "adapt.freeze": Setting("", *_ANY, "last stage of the encoder that keeps its weights, such as Mixed_4f; empty trains all"),
    "adapt.checkpoint_every": Setting(10, *_between(1), "steps between checkpoints"),
    "embed.batch": Setting(8, *_between(1), "clips encoded at once, over all devices"),
    "embed.augmented": Setting(0, *_between(0, 1000), "augmented sequences of vectors of every evaluated segment, encoded for the support of episodes "
                               "by the stage augment"),
    "embed.whiten": Setting(0.0, *_between(0, 0.99), "a further set of features, in which what varies among clips of the normal videos that adapt is "
                            "scaled down: the weight of those clips' covariance in the whitening; 0: no such set"),
    "embed.normals": Setting(4000, *_between(2), "clips of those normal videos that are encoded for it, spread evenly, at most"),
    "episodes.count": Setting(200, *_between(2), "episodes to evaluate"),
    "episodes.classes": Setting("labels", *_one_of("labels", "categories"), "what is told apart: normal and abnormal, or normal and "
                                "episodes.way - 1 of the categories of abnormal segments, drawn anew for each episode"),
    "episodes.way": Setting(2, *_between(2, 100), "classes of an episode; of labels at most as many as there are, which is 2 (published: 5)"),
    "episodes.shot": Setting(5, *_between(1, 50), "labelled segments a class in an episode"),
    "episodes.query": Setting(15, *_between(1, 100), "queries a class, at most: fewer where the data allow no more"),
    "episodes.query_abnormal": Setting(0, *_between(0, 100), "queries of abnormal, or of each category, where they are to be fewer (anomalies "
                                       "are rare) or more than those of normal, episodes.query; 0: as many"),
    "episodes.augmented": Setting(0, *_between(0, 1000), "augmented sequences of each support segment that join it, drawn afresh in each episode from "
                                  "those of embed.augmented, or from given ones"),
    "episodes.protocol": Setting("disjoint", *_one_of("disjoint", "published"),
                                 "support and query share no video and no source; published: any segments may meet"),
    "episodes.file": Setting("", *_ANY, "episodes.npz of another evaluation of the same data, replayed; count, shot, query, query_abnormal, protocol then "
                             "count for episodes.rows alone"),
    "episodes.rows": Setting((), lambda value: all(value.count(x) == 1 and x in _ROWS for x in value), "some of " + ", ".join(_ROWS),
                             "rows of their own beside that over all segments, for DoTA's table: ego,ego_categories"),
    "episodes.reported": Setting("mean", *_one_of("mean", "best"), "accuracy shown: the mean over episodes, or published: beside it that of the "
                                 "one model that is best on its own queries"),
    "episodes.chunk": Setting(0, *_between(0), "episodes fitted at once, over all devices; 0: as many as half of the device's memory holds, "
                              "on a CPU 10"),
    "learners.names": Setting(
        ("mcp", "proto", "linear"), _learner_names,
        f"some of {', '.join(LEARNERS)}, or module.function; each also with {ON_TOP} behind", "learners to compare"),
    "learners.pool": Setting("mean", *_one_of("mean", "middle"), "all but mcp: a segment's vector is the mean, or the middle clip"),
    "learners.proto.class_order": Setting("label", *_one_of("label", "position"), "whose mean a class is: of its own segments, or published: "
                                          "mixed up, of a run of the support in which the classes take turns"),
    "learners.mcp.hidden": Setting(128, *_between(4), "width of the graph, a multiple of 4"),
    "learners.mcp.groups": Setting(32, *_between(1), "groups of the inner convolutions, 4 channels each"),
    "learners.mcp.neighbours": Setting(5, *_between(1, 64), "semantic neighbours of a node, itself included"),
    "learners.mcp.blocks": Setting(1, *_between(1, 8), "context blocks"),
    "learners.mcp.pool": Setting("mean", *_one_of("mean", "max"), "over the nodes"),
    "learners.mcp.scaled_paths": Setting(False, *_EITHER, "learnt scales of the three paths"),
    "learners.mcp.epochs": Setting(301, *_between(1), "passes over the support set"),
    "learners.mcp.batch": Setting(4, *_between(1), "segments a step"),
    "learners.mcp.learning_rate": Setting(0.01, *_positive(), "of Adam"),
    "learners.linear.epochs": Setting(301, *_between(1), "passes over the support set"),
    "learners.linear.batch": Setting(4, *_between(1), "segments a step"),
    "learners.linear.learning_rate": Setting(0.01, *_positive(), "of SGD, momentum 0.9, dampening 0.9"),
    "learners.linear.weight_decay": Setting(1e-3, *_between(0, 1), "of SGD"),
    "learners.two_layer.epochs": Setting(301, *_between(1), "passes over the support set"),
    "learners.two_layer.batch": Setting(4, *_between(1), "segments a step"),
    "learners.two_layer.learning_rate": Setting(0.01, *_positive(), "of SGD, momentum 0.9, dampening 0.9"),
    "learners.two_layer.weight_decay": Setting(1e-3, *_between(0, 1), "of SGD"),
    "learners.two_layer.spectral": Setting(0.0, *_between(0, 1e6), "weight of the squared singular values of the hidden layer"),
    "learners.cosine.epochs": Setting(301, *_between(1), "passes over the support set"),
    "learners.cosine.batch": Setting(4, *_between(1), "segments a step"),
    "learners.cosine.learning_rate": Setting(0.01, *_positive(), "of SGD, momentum 0.9, dampening 0.9"),
    "learners.cosine.weight_decay": Setting(1e-3, *_between(0, 1), "of SGD"),
    "learners.proto_temperature.temperature": Setting(128.0, *_positive(), "squared distances are divided by it"),
    "learners.ridge.penalty": Setting(1.0, *_positive(), "of the squared weights"),
    "learners.r2d2.penalty": Setting(50.0, *_positive(), "of the squared weights"),
    "learners.svm.penalty": Setting(0.1, *_positive(), "upper bound of a dual variable (C)"),
    "learners.svm.steps": Setting(500, *_between(1, 100000), "of the solver"),
    "learners.bd_cspn.temperature": Setting(10.0, *_positive(), "cosines are multiplied by it"),
    "learners.propagation.neighbours": Setting(10, *_between(1), "nearest queries, itself included"),
    "learners.propagation.delta": Setting(0.1, *_between(0, 1), "share of a class's scores, the largest, that is propagated"),
    "learners.propagation.alpha": Setting(0.5, *_between(0, 0.999), "share of a query's result that comes from its neighbours"),
    "meta.steps": Setting(0, *_between(0), "outer steps of meta-training; 0 leaves it out, and all segments are evaluated"),
    "meta.learner": Setting("mcp", *_one_of("mcp", "linear", "two_layer", "cosine"), "whose start is learnt"),
    "meta.method": Setting("maml", *_one_of("maml", "fomaml", "anil", "reptile"), "how; fomaml is maml of first order, anil moves the last "
                           "layer alone"),
    "meta.learn_rates": Setting(False, *_EITHER, "a step size for each parameter is learnt too (Meta-SGD); not with reptile"),
    "meta.batch": Setting(4, *_between(1), "episodes an outer step, over all devices"),
    "meta.inner_steps": Setting(5, *_between(1, 100), "gradient steps on a support set while the start is learnt"),
    "meta.fit_steps": Setting(10, *_between(0, 1000), "the same in evaluation; 0: the start as it is, which no support set changes"),
    "meta.inner_rate": Setting(0.1, *_positive(), "step size of the gradient steps"),
    "meta.learning_rate": Setting(0.001, *_positive(), "of Adam, on the start"),
    "meta.query": Setting(5, *_between(1, 100), "queries a class in the episodes of meta-training, at most"),
    "meta.share": Setting(0.5, *_between(0.05, 0.9), "share of the independent videos or sources that meta-training sees; the others evaluate"),
    "meta.validation": Setting(0.3, *_between(0.05, 0.9), "share of those that choose the best start and when to stop"),
    "meta.split": Setting(0, *_between(0, 10**6), "another number divides the videos in another way"),
    "meta.held_out": Setting((), lambda value: all(isinstance(x, str) for x in value), "names of categories",
                             "abnormal categories that are evaluated alone, while meta-training sees the others alone"),
    "meta.validation_episodes": Setting(40, *_between(1), "episodes of a validation"),
    "meta.validate_every": Setting(10, *_between(1), "outer steps from one validation, and checkpoint, to the next"),
    "meta.patience": Setting(10, *_between(1), "validations without a better loss after which it stops"),
    "source.steps": Setting(0, *_between(0), "steps of episodic training of the encoder on source classes; above 0 the run is that alone: "
                            "prepare and meta_train"),
    "source.way": Setting(5, *_between(2, 100), "classes of an episode"),
    "source.shot": Setting(5, *_between(1, 50), "support clips a class"),
    "source.query": Setting(5, *_between(1, 100), "queries a class"),
    "source.batch": Setting(2, *_between(1), "episodes a step, over all devices"),
    "source.head": Setting("proto", *_one_of("proto", "ridge", "r2d2", "svm"), "solved on the support's vectors, with its options of learners; "
                           "proto with those of proto_temperature"),
    "source.learn_scale": Setting(False, *_EITHER, "a factor of the head's logits is learnt too (MetaOptNet)"),
    "source.learning_rate": Setting(0.01, *_positive(), "of SGD, momentum 0.9, dampening 0.9"),
    "source.halve_every": Setting(0, *_between(0), "steps after which the learning rate is halved, each time; 0: never"),
    "source.weight_decay": Setting(1e-3, *_between(0, 1), "of SGD"),
    "source.smoothing": Setting(0.0, *_between(0, 0.9), "share of a label that is spread over all classes"),
    "source.spectral": Setting(0.0, *_between(0, 1e6), "weight of the squared singular values of an episode's vectors; published: 1e-5"),
    "source.freeze": Setting("", *_ANY, "last stage of the encoder that keeps its weights; empty trains all"),
    "source.validation": Setting(0.2, *_between(0.01, 0.9), "share of the classes that choose the best encoder and when to stop; at least "
                                 "source.way"),
    "source.validation_episodes": Setting(40, *_between(1), "episodes of a validation"),
    "source.validate_every": Setting(50, *_between(1), "steps from one validation, and checkpoint, to the next"),
    "source.patience": Setting(10, *_between(1), "validations without a better loss after which it stops"),
    "report.samples": Setting(6, *_between(0, 50), "best and worst segments shown, each"),
}
