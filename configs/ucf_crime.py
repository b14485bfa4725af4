"""UCF-Crime: adapts on the normal training videos, evaluates on the annotated events and the normal test videos.

    python -m acx_jax.main --config=configs/ucf_crime.py --config.data.root=UCF_Crimes --workdir=runs/ucf_crime
    python -m acx_jax.main --config=configs/ucf_crime.py --config.data.root=UCF_Crimes --workdir=runs/official --config.data.annotations=official

No run of the whole data set is recorded.
"""

from acx_jax.config import default_config


def get_config():
    config = default_config()
    config.name = "ucf_crime"
    config.data.builder = "ucf_crime"
    config.data.fps = 10.0  # videos are read at it; frame folders are taken to have it
    config.data.min_frames = 20
    config.data.max_frames = 124
    config.data.max_adapt_frames = 500  # some normal videos run for hours
    config.data.max_bad_share = 0.3  # the archives are often damaged
    return config
