"""SwAV against a literal Sinkhorn-Knopp, against lightly's loss, and what it keeps from step to step."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightly.loss import SwaVLoss
from lightly.loss.swav_loss import sinkhorn as lightlys_sinkhorn
from torch import nn
from torch.nn.functional import normalize

from sparsight.errors import SparsightError
from sparsight.models.swav import SwAV, SwAVOptions, sinkhorn, swapped_prediction

FEATURES, DIMENSION, PROTOTYPES, QUEUE = 12, 6, 5, 8


class TinyBackbone(nn.Sequential):
    """A network with the one attribute that SwAV asks of a backbone, for images of any size."""

    num_features = FEATURES

    def __init__(self):
        layers = [nn.Conv2d(3, FEATURES, 3, stride=2, bias=False), nn.Tanh()]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def build(**options):
    torch.manual_seed(0)
    chosen = {"prototypes": PROTOTYPES, "dimension": DIMENSION, "hidden_dimension": 16, "queue_size": QUEUE, **options}
    return SwAV(TinyBackbone(), SwAVOptions(**chosen))


def crops(count=4, small=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = [12, 12] + [8] * small
    return [torch.rand(count, 3, size, size, generator=generator) for size in sizes]


def cosines(images, prototypes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    unit = [normalize(torch.randn(count, DIMENSION, generator=generator), dim=1) for count in (images, prototypes)]
    return unit[0] @ unit[1].T


def literal_sinkhorn(scores, epsilon, iterations):
    """Sinkhorn-Knopp as the paper's appendix has it: Q is K x B; rows come to 1 / K, columns to 1 / B."""
    q = np.exp(scores.T / epsilon)
    q /= q.sum()
    k, b = q.shape
    u, r, c = np.zeros(k), np.ones(k) / k, np.ones(b) / b
    for _ in range(iterations):
        u = q.sum(axis=1)
        q *= (r / u)[:, None]
        q *= (c / q.sum(axis=0))[None, :]
    return (q / q.sum(axis=0, keepdims=True)).T


@given(
    images=st.integers(1, 12),
    prototypes=st.integers(2, 9),
    epsilon=st.sampled_from([0.02, 0.05, 0.5]),
    iterations=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_sinkhorn_equals_a_literal_one_and_lightlys(images, prototypes, epsilon, iterations, seed):
    scores = cosines(images, prototypes, seed)
    ours = sinkhorn(scores, epsilon=epsilon, iterations=iterations)
    literal = literal_sinkhorn(scores.double().numpy(), epsilon, iterations)
    assert ours.numpy() == pytest.approx(literal, abs=1e-5)
    torch.testing.assert_close(ours, lightlys_sinkhorn(scores, iterations, epsilon), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.sum(dim=1), torch.ones(images))


def test_after_many_iterations_each_prototype_has_as_much():
    shares = sinkhorn(cosines(32, 8), epsilon=0.05, iterations=500)
    torch.testing.assert_close(shares.sum(dim=0), torch.full((8,), 4.0), atol=1e-3, rtol=0)


def test_an_epsilon_under_which_lightlys_overflows_gives_numbers():
    scores = torch.cat([cosines(16, 8), torch.tensor([[1.0] + [-1.0] * 7])])
    assert not lightlys_sinkhorn(scores, 3, 0.01).isfinite().all()
    for epsilon in (0.01, 0.005):
        assert sinkhorn(scores, epsilon=epsilon, iterations=3).isfinite().all()


@pytest.mark.parametrize("with_queue", [False, True])
def test_the_loss_equals_lightlys(with_queue):
    swav = build(epsilon=0.05, queue_size=QUEUE)
    for number in range(2):
        swav.after_step(swav(crops(seed=number + 1))[1])
    scored = []
    swav.prototypes.register_forward_hook(lambda *call: scored.append(call[2]))
    ours, _ = swav(crops(), with_queue=with_queue)
    large, small = list(scored[0][:2]), list(scored[0][2:])
    queued = list(scored[1]) if with_queue else None
    theirs = SwaVLoss(temperature=0.1, sinkhorn_epsilon=0.05)(large, small, queued)
    torch.testing.assert_close(ours, theirs.squeeze())
    without = SwaVLoss(temperature=0.1, sinkhorn_epsilon=0.05)(large, small)
    assert torch.isclose(ours, without.squeeze()) != with_queue


def test_predictions_that_tell_nothing_cost_ln_prototypes():
    codes = sinkhorn(cosines(7, 60).expand(2, 7, 60), epsilon=0.02, iterations=3)
    assert swapped_prediction(torch.ones(4, 7, 60), codes, 0.1).item() == pytest.approx(math.log(60))


def test_gradients_reach_backbone_and_prototypes_and_not_frozen_ones():
    swav = build()
    swav(crops())[0].backward()
    (weight,) = swav.prototypes.parameters()
    assert all(parameter.grad is not None for parameter in swav.parameters())
    swav.zero_grad()
    swav(crops(), frozen=True)[0].backward()
    assert weight.grad is None
    assert all(parameter.grad is not None for parameter in swav.backbone.parameters())
    swav(crops())[0].backward()
    assert weight.grad is not None, "let go again"


def test_prototypes_have_length_1_and_no_bias():
    swav = build()
    (weight,) = swav.prototypes.parameters()
    for scale in (1, 3):
        with torch.no_grad():
            weight.mul_(scale)
        swav.after_step(swav(crops())[1])
        torch.testing.assert_close(weight.norm(dim=1), torch.ones(PROTOTYPES))


def test_the_queue_holds_the_newest_projections_of_both_large_crops():
    swav = build()
    made = [swav(crops(seed=number))[1] for number in range(3)]
    for projections in made:
        swav.after_step(projections)
    assert made[0].shape == (4, 2, DIMENSION)
    torch.testing.assert_close(swav.queue, torch.cat([made[2], made[1]]))
    other = build()
    other.load_state_dict(swav.state_dict())
    assert torch.equal(other.queue, swav.queue)
    assert int(other.pointer) == 4


def test_without_queue_and_small_crops():
    swav = build(queue_size=0)
    loss, projections = swav(crops(small=0))
    swav.after_step(projections)
    assert loss.isfinite()
    assert swav.queue.numel() == 0


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": 0.0}, {"epsilon": 0.001}, {"queue_size": -1}, {"prototypes": 1}, {"sinkhorn_iterations": 0}],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(SparsightError, match="|".join(wrong)):
        build(**wrong)
