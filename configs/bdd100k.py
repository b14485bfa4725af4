"""BDD100K, or any folder of ordinary drives: adaptation only, nothing in it is labelled: the run ends
with the adapted encoder, and its folder is config.encoder.weights of others.

    python -m acx_jax.main --config=configs/bdd100k.py --config.data.root=bdd100k/videos/val --workdir=runs/bdd100k

No run of the whole data set is recorded.
"""

from acx_jax.config import default_config


def get_config():
    config = default_config()
    config.name = "bdd100k"
    config.data.builder = "bdd100k"
    config.data.fps = 10.0
    config.data.max_adapt_frames = 100  # 10 seconds of each drive: 9 MB stored a video
    config.data.max_bad_share = 0.3
    return config
