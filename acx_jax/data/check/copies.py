"""Copies: videos of the same bytes, and videos that look the same, be they of another size, frame rate, brightness or contrast; and what is
labelled differently in them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from acx_jax.contracts import TO_THE_END, Segment
from acx_jax.data.media_files import check_plain, image_files
from acx_jax.data.probe import Probe, probe

_BLOCKS = (40, 30)  # that frames are compared in: 8 x 8 pixels of a look
_MEAN = 2.0  # grey levels that a copy differs by, at most, in the mean
_LOCAL = 16.0  # and in any block: 12 of real footage encoded anew at a low quality; a walker of 10 pixels made 28
_FLAT = 8.0  # grey levels of deviation below which a video has no contrast to compare
_GAIN = 2.5  # times that contrast may differ, at most
_ODD = 1  # places of a closer look that may differ by more
_READ = 1 << 20


class Copies(NamedTuple):
    """Videos, by index, that are one; `same_bytes` or only alike. still: alike, and nothing moves in them, as in empty scenes of one camera."""

    videos: tuple[int, ...]
    same_bytes: bool
    still: bool = False


def find_copies(paths: Sequence[Path], sizes: Sequence[int], looks: Sequence[np.ndarray], frames: Sequence[int], rates: Sequence[float], *,
                closer: Callable[[Sequence[Path]], Iterable[tuple[int, np.ndarray]]]) -> list[Copies]:
    """Groups of videos that are the same. sizes: bytes of each. looks: uint8 [n, H, W] of each, or `in_blocks` of them. frames: of each. rates: frames a
    second of each, 0 where that is not known. closer: gives (index, `probe.look_closer`) of each of some videos, in any order.

    Videos of one still camera have nearly the same looks: those are looked at closer, and are copies where nothing as small as a block
    tells them apart.
    """
    same = _same_bytes(paths, sizes)
    again = {index for group in same for index in group[1:]}
    pairs = [pair for pair in _candidates(looks, frames, rates) if not again & {*pair}]
    wanted = sorted({index for pair in pairs for index in pair})
    seen = {wanted[place]: in_blocks(look) for place, look in closer([paths[index] for index in wanted])}
    alike = [pair for pair in pairs if _same(seen[pair[0]], seen[pair[1]])]
    return [Copies(group, True) for group in same] + [Copies(group, False, _is_still(seen[group[0]])) for group in _joined(alike)]


def probe_small(path: Path, beat: Callable[[], None] = lambda: None) -> Probe:
    """`probe` with looks that keep what `find_copies` compares alone, a fiftieth of their bytes: for many videos, whose looks all lie in memory."""
    found = probe(path, beat)
    return found._replace(looks=in_blocks(found.looks))


def contradictions(copies: Sequence[Sequence[Segment]], rates: Sequence[float], offsets: Mapping[str, int] = {}, *, of_classes: bool = False) -> list[str]:
    """What copies of one video, given by their segments, say differently of the same frames. rates: that they are read at, 0 where that is not
    known. offsets: as of a listing. of_classes: categories are what is learnt, and differ as labels do."""
    pairs = ((a, b, rate, another) for (one, rate), (other, another) in combinations(zip(copies, rates), 2) for a in one for b in other)
    return [f"{a} and {b}" if a.label != b.label else f"{a} ({a.category}) and {b} ({b.category})" for a, b, rate, another in pairs
            if (a.label != b.label or (of_classes and a.category != b.category))
            and _overlap(_in_file(a, offsets), _in_file(b, offsets), rate, another)]


def digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's images one after the other."""
    found = hashlib.sha256()
    for file in image_files(path) if path.is_dir() else [path]:
        check_plain(file)
        with file.open("rb") as stream:
            while block := stream.read(_READ):
                found.update(block)
    return found.hexdigest()


def _same_bytes(paths: Sequence[Path], sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Only files of equal size are read."""
    by_size, by_digest = defaultdict(list), defaultdict(list)
    for index, size in enumerate(sizes):
        by_size[size].append(index)
    for size, group in by_size.items():
        for index in group if size and len(group) > 1 else ():  # of what cannot be read none is known
            try:
                by_digest[digest(paths[index])].append(index)
            except OSError:
                continue  # what cannot be read is named elsewhere
    return sorted(tuple(group) for group in by_digest.values() if len(group) > 1)


def _candidates(looks: Sequence[np.ndarray], frames: Sequence[int], rates: Sequence[float]) -> list[tuple[int, int]]:
    """Pairs of equal length whose looks, in one brightness and contrast, differ by little in the mean, and one of which by little everywhere."""
    most = max(map(len, looks), default=0)
    whole = [i for i, video in enumerate(looks) if len(video) == most]
    if not most:
        return []
    small = np.stack([in_blocks(looks[i]) for i in whole])
    contrast = np.maximum([video.std(dtype=np.float64) for video in small], _FLAT)
    coarse = np.stack([_evened(video[None])[0].reshape(-1, 6, 5, 8, 5).mean(axis=(2, 4)).ravel() for video in small])
    rough = coarse.reshape(len(whole), -1, 12).mean(axis=2)  # these differ by no more than coarse, so that most pairs are told apart by few numbers
    found = []
    for i in range(1, len(whole)):
        levels = np.maximum(contrast[:i], contrast[i])
        near = np.flatnonzero(np.abs(rough[:i] - rough[i]).mean(axis=1) * levels < _MEAN)
        near = near[np.abs(coarse[near] - coarse[i]).mean(axis=1) * levels[near] < _MEAN]
        near = near[_local(_evened(small[near]), _evened(small[i])).min(axis=1, initial=np.inf) * levels[near] < _LOCAL]
        found += [(whole[j], whole[i]) for j in near if _as_long(*((frames[whole[k]], rates[whole[k]]) for k in (j, i)))]
    return found


def _evened(videos: np.ndarray) -> np.ndarray:
    """Levels of each video, uint8 [..., n, h, w], about their mean, over their deviation: float32. Of few at a time, for those take four times the memory."""
    mean, contrast = (of(videos, axis=(-3, -2, -1), keepdims=True, dtype=np.float64) for of in (np.mean, np.std))
    return ((videos - mean) / np.maximum(contrast, _FLAT)).astype(np.float32)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether closer looks, uint8 [places, 3, h, w], differ by little nearly everywhere, in one brightness and contrast; at another frame rate any
    two of a place's frames may be the same one."""
    if not len(one) or len(one) != len(other):
        return False
    one, other = _alike(one.astype(np.float32), other.astype(np.float32))
    differences = _local(one[:, :, None], other[:, None]).min(axis=(1, 2))
    return bool((differences >= _LOCAL).sum() <= _ODD)


def _alike(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels of two videos, the one of less contrast in the contrast and brightness of the other; as they are where one is flat or these differ by
    too much."""
    low, high = sorted((one, other), key=np.std)
    if low.std() < _FLAT or high.std() > _GAIN * low.std():
        return low, high
    return (low - low.mean()) * (high.std() / low.std()) + high.mean(), high


def _is_still(seen: np.ndarray) -> bool:
    """Whether no frame of a closer look differs from the first one anywhere."""
    levels = seen.astype(np.float32)
    return bool((_local(levels, levels[:1, :1]) < _LOCAL).all())


def _local(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a - b).max(axis=(-2, -1))


def _joined(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Groups of what pairs hang together by."""
    groups: list[set[int]] = []
    for pair in pairs:
        touched = [group for group in groups if group & {*pair}]
        groups = [group for group in groups if group not in touched] + [set(pair).union(*touched)]
    return sorted(tuple(sorted(group)) for group in groups)


def _as_long(a: tuple[int, float], b: tuple[int, float]) -> bool:
    """Of two videos, by frames and frames a second, whether they have as many frames, or seconds where these are known."""
    lengths = [(a[0], b[0])] + ([(a[0] / a[1], b[0] / b[1])] if a[1] and b[1] else [])
    return any(abs(one - other) <= 0.05 * max(one, other) for one, other in lengths)


def in_blocks(looks: np.ndarray) -> np.ndarray:
    """Of frames what copies are looked for in: uint8 [..., H, W] -> [..., 30, 40]; those stay as they are."""
    flat = [np.asarray(Image.fromarray(look).resize(_BLOCKS, Image.Resampling.BOX)) for look in looks.reshape(-1, *looks.shape[-2:])]
    return np.stack(flat).reshape(*looks.shape[:-2], *_BLOCKS[::-1]) if flat else np.zeros((0, 1, *_BLOCKS[::-1]), np.uint8)


def _in_file(segment: Segment, offsets: Mapping[str, int]) -> Segment:
    """The segment in frames of the file that its video is cut from."""
    first = offsets.get(segment.video, 0)
    return segment._replace(start=segment.start + first, end=segment.end if segment.end == TO_THE_END else segment.end + first)


def _overlap(a: Segment, b: Segment, rate: float, another: float) -> bool:
    """Whether segments share frames, which are counted at these rates; by more than a frame where the rates differ, for ends are rounded."""
    if not rate or not another:
        rate = another = 1.0  # frames of both are taken to be the same ones
    starts, ends = zip(*((s.start / r, float("inf") if s.end == TO_THE_END else (s.end + 1) / r) for s, r in ((a, rate), (b, another))))
    return min(ends) - max(starts) > (0.0 if rate == another else 1 / min(rate, another))
