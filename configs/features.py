"""Features of your own: clip vectors of any encoder, evaluated as they are. The README's "Features of your own" says how they may lie.

    python -m acx_jax.main --config=configs/features.py --config.data.root=my_features --workdir=runs/features
"""

from acx_jax.config import default_config


def get_config():
    config = default_config()
    config.name = "features"
    config.data.builder = "features"
    return config
