"""From a folder of images to RGB frames."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from acx_jax.data.media_files import DecodeError, check_plain, image_files


# What Pillow raises for broken files; SyntaxError is of PNG files, what follows the bombs of EXIF blocks.
_BROKEN = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, struct.error, TypeError, AttributeError, LookupError)


@contextmanager
def open_image(file: Path) -> Iterator[Image.Image]:
    """An image file, opened. Raises DecodeError for what is found to be wrong with it, until it is closed again."""
    try:
        check_plain(file)
        with Image.open(file) as image:
            yield image
    except _BROKEN as error:
        reason = (getattr(error, "strerror", None) or str(error)).replace(str(file), file.name)
        raise DecodeError(file, f"cannot be read: {reason}") from None


def image_frames(folder: Path, first: int, least: int, scale: Callable[[Image.Image], Image.Image], beat: Callable[[], None]) -> Iterator[np.ndarray]:
    """Yields uint8 RGB frames [H, W, 3] of a folder of images from number `first` on, upright. least: JPEG files are decoded at the smallest of
    the scales 1, 1/2, 1/4, 1/8 that leaves both sides as many pixels; 0 for whole. scale: to the size they are wanted in. beat: called with every frame. Raises
    DecodeError."""
    files = image_files(folder)
    if not files:
        raise DecodeError(folder, "the folder holds no images")
    for index, file in enumerate(files[first:], first):
        beat()
        try:
            yield _frame(file, least, scale)
        except DecodeError as error:
            raise DecodeError(folder, f"frame {index} ({file.name}) {error.problem}") from None


def _frame(file: Path, least: int, scale: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    with open_image(file) as image:
        if least:
            image.draft("RGB", (least, least))  # of a JPEG; nothing to others
        ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(scale(_rgb(image)))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion clips to white
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
    return image.convert("RGB")
