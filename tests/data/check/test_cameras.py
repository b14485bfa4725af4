"""Which videos are of one camera: made pictures, and the real pairs that no table names."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from acx_jax.data.check.cameras import ENOUGH, agreeing, describe, shared_cameras
from acx_jax.data.probe import probe


def scene(seed: int, height: int = 160, width: int = 320) -> np.ndarray:
    """A picture of boxes, uint8, wider than it is looked at."""
    rng, image = np.random.default_rng(seed), np.full((height, width), 90.0)
    for _ in range(60):
        y, x, h, w = rng.integers((0, 0, 8, 8), (height, width, 50, 50))
        image[y:y + h, x:x + w] = rng.integers(20, 235)
    return ndimage.gaussian_filter(image, 0.8).astype(np.uint8)


def test_a_shifted_view_in_other_light_is_the_same_camera():
    whole = scene(0, 220, 400)
    one, other = whole[20:180, 10:330], np.clip(whole[32:192, 40:360] * 0.6 + 40, 0, 255).astype(np.uint8)
    assert agreeing(describe(one), describe(other)) >= 2 * ENOUGH


def test_other_views_are_others():
    views = [scene(seed)[None] for seed in range(6)]
    assert shared_cameras(views, [str(i) for i in range(6)]) == []


def test_an_overlay_in_its_place_is_seen_over_other_views():
    views = [scene(seed) for seed in range(3)]
    letters = np.kron(np.random.default_rng(9).integers(0, 2, (8, 24)), np.ones((5, 5))) * 255
    for view in views[:2]:
        view[20:60, 40:160] = letters
    found = shared_cameras([view[None] for view in views], ["a", "b", "c"])
    assert [(pair.one, pair.other) for pair in found] == [(0, 1)]


def test_what_already_has_one_source_is_not_named_again():
    assert shared_cameras([scene(0)[None]] * 2, ["same", "same"]) == []
    assert len(shared_cameras([scene(0)[None]] * 2, ["one", "two"])) == 1


@pytest.mark.parametrize("look", [np.zeros((40, 320), np.uint8), np.full((5, 320), 255, np.uint8)])
def test_empty_pictures_have_no_corners(look):
    assert shared_cameras([look[None], look[None]], ["a", "b"]) == []


def test_the_real_pairs_and_no_others(real_data):
    folder = real_data / "cctv_accident" / "frames"
    names = sorted(path.name for path in folder.iterdir())
    found = shared_cameras([probe(folder / name).looks for name in names], names)
    assert {(names[pair.one], names[pair.other]) for pair in found} == {("5", "acc1"), ("test14", "test23")}


def test_a_probe_of_each_kind(tmp_path):
    for i in range(4):
        (tmp_path / "frames").mkdir(exist_ok=True)
        Image.fromarray(scene(i)).convert("RGB").save(tmp_path / "frames" / f"{i}.png")
    seen = probe(tmp_path / "frames")
    assert (seen.frames, seen.width, seen.height, seen.problem) == (4, 320, 160, "") and seen.looks.shape == (3, 160, 320)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "nothing").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "1.png").write_bytes((tmp_path / "frames" / "0.png").read_bytes()[:80])
    for name in ("text.mp4", "empty.mp4", "nothing", "broken", "absent.mp4"):
        seen = probe(tmp_path / name)
        assert seen.problem and not len(seen.looks), name
