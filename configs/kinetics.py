"""Kinetics: the source classes of meta-training, prepared. What trains on them is described in the README.

    python -m acx_jax.main --config=configs/kinetics.py --config.data.root=kinetics --workdir=runs/kinetics --stage=prepare

No run of the whole data set is recorded.
"""

from acx_jax.config import default_config


def get_config():
    config = default_config()
    config.name = "kinetics"
    config.data.builder = "kinetics"
    config.data.fps = 10.0
    config.data.max_frames = config.data.max_adapt_frames = 100  # a video is about 10 seconds long
    config.data.max_bad_share = 0.5  # many of the listed videos are gone from the web
    return config
