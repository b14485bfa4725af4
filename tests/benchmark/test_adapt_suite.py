"""The suite `adapt`: its peer takes our step, and one whole run."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from acx_jax.benchmark import __main__ as command
from acx_jax.benchmark.suites import adapt
from acx_jax.errors import UsageError
from acx_jax.selfsup import training
from acx_jax.selfsup.views import ViewOptions

pytestmark = pytest.mark.usefixtures("quick_compiler")
NAME, SIDE = "r2plus1d_tiny", 16
TINY = ["--suite=adapt", f"--encoders={NAME}", f"--size={SIDE}", "--repeats=1"]


def test_the_peer_takes_the_same_steps_on_the_same_views(monkeypatch):
    """Four losses, of which the later ones see the queue, the momentum encoder, the weights and the statistics before them."""
    torch = pytest.importorskip("torch")
    from acx_jax.benchmark.peers.torch_adapt import AdaptStep

    def views_of(clips):
        return [clips.anchor / 255, clips.negative / 255, clips.anchor[:, ::-1] / 255]

    monkeypatch.setattr(training, "_draw_views", lambda key, clips, scheme, **rest: jnp.stack(views_of(clips)).astype(jnp.float32))
    monkeypatch.setattr(adapt, "RATE", 0.0003)  # at larger ones any two float32 programs part within three steps
    clips = adapt.made_clips(8, 8, SIDE)
    params, statistics = adapt.first_params(NAME, (8, 8, SIDE, SIDE, 3))
    view = ViewOptions(SIDE, "random", "all", "sample")
    ours = adapt.ours(NAME, params, statistics, clips, jnp.float32, view)
    peer = AdaptStep(NAME, params, statistics, clips, size=SIDE, with_hue=True, queue=adapt.QUEUE, temperature=adapt.TEMPERATURE,
                     key_momentum=adapt.KEY_MOMENTUM, rate=adapt.RATE, momentum=adapt.MOMENTUM, decay=adapt.DECAY, bfloat16=False,
                     compiled=False, on_gpu=False)
    given = [torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in views_of(clips)]
    losses = [(float(ours()[0]), peer.learn(*given)) for _ in range(4)]
    np.testing.assert_allclose(*zip(*losses), rtol=5e-3)
    assert len({round(loss, 3) for loss, _ in losses}) == 4


def test_its_views_are_pictures_of_the_asked_size():
    torch = pytest.importorskip("torch")
    from acx_jax.benchmark.peers.torch_adapt import draw_views

    clips = torch.from_numpy(adapt.made_clips(2, 3, 20).anchor)
    for bent in (True, False):
        views = draw_views(clips, SIDE, bent=bent, with_hue=True)
        assert views.shape == (2, 3, SIDE, SIDE, 3) and 0 <= views.min() and views.max() <= 1 and views.std() > 0.05


@pytest.mark.slow
def test_a_whole_run(tmp_path, capsys):
    assert command.main([*TINY, f"--out={tmp_path}"]) == 0
    assert "hours on this device for the published recipe (4,136 videos, 200 epochs)" in capsys.readouterr().out
    rows = json.loads((tmp_path / "adapt.json").read_text())["rows"]
    assert [row["program"] for row in rows] == ["acx_jax"] and rows[0]["items"] == 4


@pytest.mark.parametrize("option, said", [("--encoders=resnet", "'resnet' is not one of"), ("--batch=6", "a multiple of the 4 devices"),
                                          ("--stored=8", "at least --size=16"), ("--frames=1", "frames")])
def test_impossible_options_are_refused(option, said):
    with pytest.raises(UsageError, match=said):
        command.run(command.parse([*TINY, option]))
