from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from acx_jax.data.windows import WINDOWS_PER_BLOCK, block_ranges, most_of_each, spread, window_count

SIZES = {"frames": st.integers(0, 700), "length": st.integers(1, 40), "stride": st.integers(1, 40)}


@given(**SIZES)
def test_count_is_that_of_the_windows_that_fit(frames: int, length: int, stride: int) -> None:
    assert window_count(frames, length=length, stride=stride) == len(range(0, max(0, frames - length + 1), stride))


@given(**SIZES)
def test_every_window_lies_in_exactly_one_block_at_its_place(frames: int, length: int, stride: int) -> None:
    ranges = block_ranges(frames, length=length, stride=stride)
    for window in range(window_count(frames, length=length, stride=stride)):
        start, stop = ranges[window // WINDOWS_PER_BLOCK]
        at = start + window % WINDOWS_PER_BLOCK * stride
        assert at == window * stride and at + length <= stop


@given(**SIZES)
def test_every_block_holds_windows_of_its_own_and_the_last_the_rest(frames: int, length: int, stride: int) -> None:
    ranges = block_ranges(frames, length=length, stride=stride)
    count = window_count(frames, length=length, stride=stride)
    held = [min(WINDOWS_PER_BLOCK, window_count(stop - start, length=length, stride=stride)) for start, stop in ranges]
    assert sum(held) == count and all(held)
    assert bool(ranges) == (frames >= length) and all(stop == frames for _, stop in ranges[-1:])


def test_blocks_by_hand() -> None:
    assert block_ranges(8, length=8, stride=4) == [(0, 8)]
    assert block_ranges(7, length=8, stride=4) == []
    assert block_ranges(75, length=8, stride=4) == [(0, 68), (64, 75)]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 200))
def test_as_many_of_each_as_fit_in_all(counts: list[int], total: int) -> None:
    most = most_of_each(counts, total)
    held = sum(len(spread(count, most)) for count in counts)
    assert held <= max(total, len(counts)) and (most == 0) == (sum(counts) <= total)
    assert most == 0 or sum(min(count, most + 1) for count in counts) > total
