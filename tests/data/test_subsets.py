"""The parts of the evaluated segments that get rows of their own."""

import numpy as np
from hypothesis import given, strategies as st

from acx_jax.contracts import ABNORMAL, NORMAL, Segment
from acx_jax.data.subsets import ROWS, subsets

drawn = st.lists(st.builds(lambda label, kind, ego: Segment("v", 0, 9, label, category=kind, ego_involved=ego), st.integers(0, 1),
                           st.sampled_from(["turning", "lateral", ""]), st.sampled_from(["yes", "no", ""])), max_size=20)


def test_the_eleven_rows_of_dota():
    kinds = [f"kind {i}" for i in range(10)]
    segments = [Segment(f"{kind}{ego}", 0, 9, label, category=kind, ego_involved=ego)
                for kind in kinds for ego in ("yes", "no") for label in (NORMAL, ABNORMAL)]
    found = subsets(segments, np.arange(len(segments)), ("ego", "ego_categories"))
    assert found[0].is_whole and [(p.category, p.ego_involved) for p in found[1:]] == [("all", "yes"), *((kind, "yes") for kind in kinds)]
    assert [len(p.indices) for p in found] == [40, 20] + [2] * 10


def test_normal_segments_without_a_category_are_of_each():
    segments = [Segment("a", 0, 9, NORMAL), Segment("b", 0, 9, ABNORMAL, "bike"), Segment("c", 0, 9, ABNORMAL, "cart")]
    found = subsets(segments, np.arange(3), ("categories",))
    assert [p.indices.tolist() for p in found] == [[0, 1, 2], [0, 1], [0, 2]]


@given(drawn, st.lists(st.sampled_from(ROWS), unique=True), st.integers(0, 2**20))
def test_abnormal_segments_are_where_they_say(segments, rows, chosen):
    usable = np.array([i for i in range(len(segments)) if chosen >> i & 1], dtype=int)
    for part in subsets(segments, usable, rows):
        assert set(part.indices) <= set(usable)
        for i in usable:
            s = segments[i]
            if s.label == ABNORMAL:
                belongs = part.category in ("all", s.category) and part.ego_involved in ("all", s.ego_involved)
                assert belongs == (i in part.indices)
