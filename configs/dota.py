"""DoTA: adapts on its training split, evaluates on its validation split, every segment of at least 20 frames.

    python -m acx_jax.main --config=configs/dota.py --config.data.root=DoTA --workdir=runs/dota
    python -m acx_jax.main --config=configs/dota.py --config.data.root=DoTA --workdir=runs/dota_source --config.data.split=source

The official splits share most of their source videos; the second line splits by source. No run of the whole data set is recorded.

Frames are stored with their aspect and a shorter side of data.short_side pixels, which takes a third of the disk of the published
evaluation's 340 x 256; that one is --config.data.short_side=256 --config.data.width=340 --config.data.resample=nearest --config.encoder.crop=224.
"""

from acx_jax.config import default_config


def get_config():
    config = default_config()
    config.name = "dota"
    config.data.builder = "dota"
    config.data.fps = 10.0  # the rate of the annotation; frame folders are taken to have it
    config.data.min_frames = 20
    config.data.max_frames = 0
    config.data.adapt_share = 0.7  # of the videos, for split=source: as much as the official training split
    config.data.max_bad_share = 0.3  # copies of DoTA that lack 848 of 4,677 folders are in use: the run goes on with the rest
    config.episodes.rows = ("ego", "ego_categories")  # the eleven rows of the published table, beside that over all
    config.adapt.motion_broken = "any"  # clips in a wrong order are negatives, too
    return config
