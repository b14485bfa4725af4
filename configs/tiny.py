"""The whole way on toy scenes in under a minute, for tests and for trying a change. Its numbers mean nothing.

    python -m acx_jax.main --config=configs/tiny.py
"""

from acx_jax.config import default_config


def get_config():
    config = default_config()
    config.name = "tiny"
    config.data.builder = "synthetic"
    config.data.videos = 12
    config.data.scene_width, config.data.scene_height = 64, 48
    config.data.short_side = 40
    config.encoder.arch = "r2plus1d_tiny"
    config.encoder.weights = "random"
    config.encoder.crop = 32
    config.adapt.steps = 4
    config.adapt.batch = 4
    config.adapt.checkpoint_every = 2
    config.adapt.queue = 16
    config.episodes.count = 8
    config.episodes.shot = 1
    config.episodes.query = 3
    config.episodes.chunk = 4
    config.learners.mcp.hidden = 32
    config.learners.mcp.groups = 8
    config.learners.mcp.epochs = 20
    config.learners.linear.epochs = 20
    config.report.samples = 2
    return config
