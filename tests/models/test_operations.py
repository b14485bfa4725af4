"""Operations of a step of the adaptation, from those of forward passes."""

import pytest

from acx_jax.models.encoders import ENCODERS
from acx_jax.models.operations import forward_flops, training_flops

SPEC, SHAPE = ENCODERS["r2plus1d_tiny"], (2, 8, 16, 16, 3)


def test_a_step_is_so_many_forward_passes():
    forward = forward_flops(SPEC, SHAPE)
    whole = sum(forward.values())
    assert whole > 0 and all(name.startswith(SPEC.stages) for name in forward)
    assert training_flops(SPEC, SHAPE, trained=2, frozen=None) == pytest.approx(7 * whole)
    assert training_flops(SPEC, SHAPE, trained=2, frozen=SPEC.stages[-1]) == pytest.approx(3 * whole)
    stem = sum(count for name, count in forward.items() if name.startswith("stem"))
    assert training_flops(SPEC, SHAPE, trained=1, frozen="stem") == pytest.approx(4 * whole - 2 * stem)
    assert training_flops(SPEC, SHAPE, trained=2, frozen=None, forward=0) == pytest.approx(6 * whole)
