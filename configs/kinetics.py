"""Kinetics: trains the encoder end to end on episodes of source classes, 5-way 5-shot 5-query, as the published system does.

    python -m acx_jax.main --config=configs/kinetics.py --config.data.root=kinetics --workdir=runs/kinetics
    python -m acx_jax.main --config=configs/dota.py --config.data.root=DoTA --config.encoder.weights=runs/kinetics --workdir=runs/dota

Any tree <class>/<video> will do. No run of the whole data set is recorded.
"""

from acx_jax.config import default_config


def get_config():
    config = default_config()
    config.name = "kinetics"
    config.data.builder = "kinetics"
    config.data.fps = 10.0
    config.data.max_frames = config.data.max_adapt_frames = 100  # a video is about 10 seconds long
    config.data.max_bad_share = 0.5  # many of the listed videos are gone from the web
    config.source.steps = 1000  # of 2 episodes: 20 published epochs of 100
    config.source.halve_every = 100  # 2 such epochs
    config.source.spectral = 1e-5
    return config
