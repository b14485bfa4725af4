"""Procedural traffic scenes, rendered to mp4 and read back as your own videos would be.

    python -m acx_jax.main --config=configs/demo.py
"""

from acx_jax.config import default_config


def get_config():
    config = default_config()
    config.name = "demo"
    config.data.builder = "synthetic"
    config.adapt.steps = 12
    config.episodes.count = 30
    config.encoder.stage = "Mixed_3c"  # behind it much is gone that tells anomalies apart (README, "Adaptation"); --config.encoder.stage= takes all
    config.embed.whiten = 0.05
    config.adapt.freeze = "MaxPool3d_3a_3x3"  # trains the last two blocks of these: what a CPU can do; --config.adapt.freeze= trains all
    config.adapt.schedule = "constant"
    config.adapt.train_norm = False  # statistics of a few videos are worse than the pretrained ones (README, "Adaptation")
    return config
