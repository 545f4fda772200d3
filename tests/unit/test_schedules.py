"""The cosine schedule with warm-up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsight.training.schedules import cosine_with_warmup


def test_rises_in_a_line_and_falls_as_a_cosine():
    factors = [cosine_with_warmup(step, 12, 4) for step in range(12)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[8] == pytest.approx(0.5)
    assert 0 < factors[11] < 0.05


@given(st.integers(1, 500), st.data())
def test_stays_in_range_and_never_rises_after_the_warm_up(steps, data):
    warmup = data.draw(st.integers(0, steps))
    factors = [cosine_with_warmup(step, steps, warmup) for step in range(steps)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[:warmup] == sorted(factors[:warmup])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)
    assert factors[0] > 0
