"""MoCo against a literal implementation of algorithm 1 of the paper (arXiv 1911.05722), and its batch norm."""

import copy
import math

import pytest
import torch
from lightly.loss import NTXentLoss
from torch import nn

from sparsight.errors import SparsightError
from sparsight.models.moco import Direction, MoCo, MoCoOptions, info_nce
from sparsight.models.self_supervised import spread

FEATURES, DIMENSION, BATCH, QUEUE = 12, 6, 4, 10
MOMENTUM, TEMPERATURE = 0.9, 0.2


class TinyBackbone(nn.Sequential):
    """A network with the one attribute that MoCo asks of a backbone."""

    num_features = FEATURES

    def __init__(self, *, norm: bool = False):
        layers = [nn.Conv2d(3, FEATURES, 3, stride=2, bias=False)]
        layers += [nn.BatchNorm2d(FEATURES)] if norm else []
        super().__init__(*layers, nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def build(*, norm=False, **options):
    torch.manual_seed(0)
    chosen = {"queue_size": QUEUE, "dimension": DIMENSION, "encoder_momentum": MOMENTUM, "batch_norm": "plain"}
    return MoCo(TinyBackbone(norm=norm), MoCoOptions(**{**chosen, "temperature": TEMPERATURE, **options}))


def views(count=BATCH, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, count, 3, 8, 8, generator=generator)


def direction(moco, first, second, seed=0):
    order = moco.order(len(first), torch.Generator().manual_seed(seed))
    return Direction(queries=first, keys=second[order], order=order)


def keys_of(moco, images, seed=0):
    """Keys of a batch, in the order of the images."""
    return moco(direction(moco, images, images, seed))[1]


def step(moco, optimiser, first, second):
    loss, keys = moco(direction(moco, first, second))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    moco.after_step(keys)
    return loss.item()


class AlgorithmOne:
    """Algorithm 1, line by line; `queue` is a dictionary of K keys (C x K), the oldest first."""

    def __init__(self, moco):
        self.f_q = copy.deepcopy(nn.Sequential(moco.backbone, moco.head))
        self.f_k = copy.deepcopy(nn.Sequential(moco.momentum_backbone, moco.momentum_head))
        self.queue = moco.queue.clone().T
        self.sgd = torch.optim.SGD(self.f_q.parameters(), 0.1, momentum=0.9, weight_decay=1e-3)

    def step(self, x_q, x_k):
        q = self.f_q(x_q)
        k = self.f_k(x_k)
        k = k.detach()
        q, k = q / q.norm(dim=1, keepdim=True), k / k.norm(dim=1, keepdim=True)
        l_pos = torch.bmm(q.view(len(q), 1, -1), k.view(len(q), -1, 1)).view(len(q), 1)
        l_neg = torch.mm(q, self.queue)
        logits = torch.cat([l_pos, l_neg], dim=1)
        loss = -torch.log_softmax(logits / TEMPERATURE, dim=1)[:, 0].mean()
        self.sgd.zero_grad()
        loss.backward()
        self.sgd.step()
        for p_k, p_q in zip(self.f_k.parameters(), self.f_q.parameters(), strict=True):
            p_k.data = MOMENTUM * p_k.data + (1 - MOMENTUM) * p_q.data
        self.queue = torch.cat([self.queue, k.T], dim=1)
        self.queue = self.queue[:, len(k) :]
        return loss.item()


def test_loss_queue_and_momentum_update_equal_algorithm_one():
    moco = build()
    literal = AlgorithmOne(moco)
    parameters = [p for p in moco.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=1e-3)
    for number in range(7):
        first, second = views(seed=number)
        assert step(moco, optimiser, first, second) == pytest.approx(literal.step(first, second), abs=1e-5)
        in_order = moco.queue.roll(-int(moco.pointer), 0)
        torch.testing.assert_close(in_order, literal.queue.T, atol=1e-5, rtol=0)
    pairs = [(moco.backbone, literal.f_q[0]), (moco.momentum_backbone, literal.f_k[0])]
    pairs += [(moco.head, literal.f_q[1]), (moco.momentum_head, literal.f_k[1])]
    for ours, theirs in pairs:
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, other, atol=1e-5, rtol=0)


def test_the_queue_wraps_around_where_batches_do_not_divide_it():
    moco = build()
    batches = [torch.full((BATCH, DIMENSION), float(number)) for number in range(1, 5)]
    for batch in batches:
        moco.after_step(batch)
    assert int(moco.pointer) == (4 * BATCH) % QUEUE
    assert moco.queue.roll(-int(moco.pointer), 0)[:, 0].tolist() == [2, 2, 3, 3, 3, 3, 4, 4, 4, 4]


def test_queue_and_pointer_are_part_of_the_checkpoint():
    moco = build()
    moco.after_step(torch.ones(BATCH, DIMENSION))
    other = build()
    other.load_state_dict(moco.state_dict())
    assert torch.equal(other.queue, moco.queue)
    assert int(other.pointer) == BATCH


def test_no_gradient_reaches_the_momentum_encoder():
    moco = build()
    loss, keys = moco(direction(moco, *views()))
    loss.backward()
    assert not keys.requires_grad
    assert all(p.grad is None for p in moco.momentum_backbone.parameters())
    assert all(p.grad is not None for p in moco.backbone.parameters())


def test_info_nce_equals_lightlys():
    random = torch.randn(3, 16, DIMENSION, generator=torch.Generator().manual_seed(0))
    queries, keys, negatives = nn.functional.normalize(random, dim=2)
    criterion = NTXentLoss(temperature=0.1, memory_bank_size=(16, DIMENSION))
    criterion.memory_bank.bank.copy_(negatives)
    torch.testing.assert_close(info_nce(queries, keys, negatives, 0.1), criterion(queries, keys))


def test_info_nce_of_embeddings_that_tell_nothing():
    same = torch.ones(3, 1)
    assert info_nce(same, same, torch.ones(99, 1), 0.2).item() == pytest.approx(math.log(100))


def test_symmetric_loss_is_the_mean_of_both_directions_and_enqueues_both():
    moco = build(symmetric=True)
    first, second = views()
    loss, keys = moco(direction(moco, first, second), direction(moco, second, first))
    one_way = build()
    there, back = one_way(direction(moco, first, second)), one_way(direction(moco, second, first))
    torch.testing.assert_close(loss, (there[0] + back[0]) / 2)
    torch.testing.assert_close(keys, torch.cat([there[1], back[1]]))


@pytest.mark.parametrize("kind", ["shuffle", "split"])
def test_keys_come_back_in_the_order_of_the_images(kind):
    moco = build(batch_norm=kind, batch_norm_groups=2)
    plain = build()
    images = views()[0]
    torch.testing.assert_close(keys_of(moco, images, seed=3), keys_of(plain, images))


def test_batch_norm_in_groups_sees_each_group_alone():
    moco = build(norm=True, batch_norm="split", batch_norm_groups=2)
    images = views(8)[0]
    together = moco.project_queries(images, 2)
    torch.testing.assert_close(together[:4], build(norm=True).project_queries(images[:4], 2))
    torch.testing.assert_close(together[4:], build(norm=True).project_queries(images[4:], 2))
    assert not torch.allclose(together, build(norm=True).project_queries(images, 2))


def test_shuffling_gives_keys_other_companions_than_queries():
    moco = build(norm=True, batch_norm="shuffle", batch_norm_groups=2)
    images = views(8)[0]
    assert not torch.allclose(keys_of(moco, images, seed=1), keys_of(moco, images, seed=2))
    plain = build(norm=True)
    torch.testing.assert_close(moco.project_queries(images, 2), plain.project_queries(images, 2))


def test_spread_tells_collapse_from_even_spread():
    random = torch.randn(4096, 128, generator=torch.Generator().manual_seed(0))
    assert spread(nn.functional.normalize(random, dim=1)).item() == pytest.approx(1, abs=0.02)
    assert spread(torch.ones(16, 128)).item() == 0


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": 0.0}, {"encoder_momentum": 1.5}, {"queue_size": 0}, {"batch_norm": "none"}],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(SparsightError, match="|".join(wrong)):
        build(**wrong)
