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
    config.adapt.freeze = "Mixed_4f"  # trains the last two blocks: what a CPU can do; --config.adapt.freeze= trains all
    config.adapt.train_norm = False  # statistics of a few videos are worse than the pretrained ones (README, "Adaptation")
    return config
