"""From a folder of images to RGB frames."""

from __future__ import annotations

import struct
from collections.abc import Iterator
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


def image_frames(folder: Path, first: int, least: int) -> Iterator[np.ndarray]:
    """Yields uint8 RGB frames [H, W, 3] of a folder of images from number `first` on, upright. least: JPEG files are decoded at the smallest of
    the scales 1, 1/2, 1/4, 1/8 that leaves both sides as many pixels; 0 for whole. Raises DecodeError."""
    files = image_files(folder)
    if not files:
        raise DecodeError(folder, "the folder holds no images")
    for index, file in enumerate(files[first:], first):
        try:
            yield _frame(file, least)
        except DecodeError as error:
            raise DecodeError(folder, f"frame {index} ({file.name}) {error.problem}") from None


def _frame(file: Path, least: int) -> np.ndarray:
    with open_image(file) as image:
        if least:
            image.draft("RGB", (least, least))  # of a JPEG; nothing to others
        return _rgb(ImageOps.exif_transpose(image))


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion clips to white
        grey = (np.asarray(image).clip(0, 65535) // 256).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))
