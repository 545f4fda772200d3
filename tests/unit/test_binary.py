"""Bits inside a network: exact signs, gradients that pass, and measures of what makes bits good."""

import numpy as np
import pytest
import torch

from sparsight.models.binary import binarise, correlation, imbalance


def test_signs_are_exact_and_zero_counts_as_one():
    assert binarise(torch.tensor([-2.0, -1e-9, 0.0, 0.5])).tolist() == [-1, -1, 1, 1]


@pytest.mark.parametrize("rounding", ["deterministic", "stochastic"])
def test_the_gradient_is_that_of_tanh(rounding):
    values = torch.linspace(-2, 2, 9, requires_grad=True)
    weights = torch.arange(9.0)
    (binarise(values, rounding) * weights).sum().backward()
    expected = weights * (1 - values.detach().tanh().square())
    torch.testing.assert_close(values.grad, expected)


def test_stochastic_rounding_is_right_on_average():
    torch.manual_seed(0)
    values = torch.tensor([-1.5, 0.0, 0.4]).repeat(20_000, 1)
    codes = binarise(values, "stochastic")
    assert set(codes.unique().tolist()) == {-1, 1}
    torch.testing.assert_close(codes.mean(dim=0), values[0].tanh(), atol=0.02, rtol=0)


def test_constant_bits_are_out_of_balance_and_copies_correlate():
    torch.manual_seed(0)
    free = torch.randint(0, 2, (4000, 3)) * 2.0 - 1
    assert imbalance(free) < 0.01
    assert imbalance(torch.ones(4000, 3)) == 1
    assert correlation(free) < 0.01
    copied = torch.cat([free[:, :1], -free[:, :1]], dim=1)
    assert correlation(copied) == pytest.approx(1, abs=0.01)
    assert correlation(free[:, :1]) == 0


def test_correlation_is_numpys():
    torch.manual_seed(0)
    codes = torch.randint(0, 2, (500, 6)) * 2.0 - 1
    codes[:, 1] = torch.where(torch.rand(500) < 0.8, codes[:, 0], codes[:, 1])
    matrix = np.corrcoef(codes.numpy().T)
    expected = (matrix**2)[~np.eye(6, dtype=bool)].mean()
    assert float(correlation(codes)) == pytest.approx(expected, rel=1e-2)


def test_regularisers_pass_gradients():
    values = torch.randn(64, 8, requires_grad=True)
    codes = binarise(values)
    (imbalance(codes) + correlation(codes)).backward()
    assert values.grad is not None
    assert float(values.grad.abs().sum()) > 0
