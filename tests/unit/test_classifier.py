"""Training a classifier: it learns, wastes no forward pass, keeps its best weights and says what the data lacks."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from packed_images import write_packed_images
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score
from torch import Tensor, nn

from sparsight.data.augment import AugmentationOptions
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.models.classifier import Classifier, Head
from sparsight.models.folder import HeadDescription
from sparsight.training.base_model import open_base_model
from sparsight.training.classifier import ClassifierOptions, ClassifierTrainer, Trained, predict
from sparsight.training.fitting import Epoch, macro_f1
from sparsight.training.inference import measured_batch_norm
from sparsight.training.labelled import LabelledSplits, class_weights, distinct, epoch_order

CPU = torch.device("cpu")
GENTLE = AugmentationOptions(crop_scale=(0.8, 1), horizontal_flip=0, blur=0, greyscale=0, hue=0, saturation=0)
QUICK = ClassifierOptions(epochs=30, augmentation_passes=2, hidden=64, augmentation=GENTLE)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are faster so, most of all beside other tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> LabelledSplits:
    """150 real digits to train on, 100 to choose by, 300 to test on."""
    data, target = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(data))[:550]
    images = np.kron(data[order].reshape(-1, 8, 8) * (255 / 16), np.ones((2, 2))).astype(np.uint8)
    splits = ["train"] * 150 + ["valid"] * 100 + ["test"] * 300
    labels = [f"digit/{number}" for number in target[order]]
    folder = tmp_path_factory.mktemp("digits") / "images"
    images = np.repeat(images[..., None], 3, axis=3)
    return LabelledSplits.of(PackedImages(write_packed_images(folder, images, labels, splits, shards=2)))


class Pixels(nn.Module):
    """A backbone whose embedding is the image itself, coarse; it counts what goes through."""

    num_features = 64

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return nn.functional.avg_pool2d(images[:, :1], images.shape[-1] // 8).flatten(1) * self.scale


def train(
    splits: LabelledSplits, backbone: nn.Module, options: ClassifierOptions = QUICK, **changes: object
) -> Trained:
    options = dataclasses.replace(options, **changes)
    return ClassifierTrainer(backbone, splits, options, device=CPU, precision=torch.float32).train()


def accuracy(trained: Trained, splits: LabelledSplits) -> float:
    chances = predict(trained.classifier, splits.images, splits.test, GENTLE)
    return float((chances.argmax(axis=1) == splits.targets[splits.test]).mean())


def test_a_head_on_frozen_features_learns_digits(digits: LabelledSplits) -> None:
    backbone = Pixels()
    trained = train(digits, backbone)
    assert accuracy(trained, digits) > 0.75
    assert backbone.scale.item() == 1


def test_frozen_embeddings_are_computed_once_per_pass_not_once_per_epoch(digits: LabelledSplits) -> None:
    backbone = Pixels()
    train(digits, backbone, augmentation_passes=3, epochs=20)
    assert backbone.seen == (1 + 3) * len(digits.train) + len(digits.valid)


def test_repeated_pixels_are_embedded_once(digits: LabelledSplits) -> None:
    backbone = Pixels()
    doubled = dataclasses.replace(digits, train=np.concatenate([digits.train, digits.train]))
    train(doubled, backbone, augmentation_passes=0, epochs=2)
    assert backbone.seen == len(digits.train) + len(digits.valid)


def test_the_head_takes_raw_embeddings_in_the_end(digits: LabelledSplits) -> None:
    torch.manual_seed(0)
    head = Head(5, 3, HeadDescription(hidden=7, dropout=0.5)).eval()
    embeddings, mean, std = torch.randn(4, 5) * 3 + 2, torch.randn(5), torch.rand(5) + 0.5
    expected = head((embeddings - mean) / std)
    head.absorb_standardisation(mean, std)
    assert torch.allclose(head(embeddings), expected, atol=1e-5)


class Small(nn.Sequential):
    """A network to train whole."""

    num_features = 64

    def __init__(self) -> None:
        layers = [nn.Conv2d(3, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2)]
        super().__init__(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())


def test_fine_tuning_trains_the_backbone_too_at_its_own_rate(digits: LabelledSplits) -> None:
    torch.manual_seed(0)
    backbone = Small()
    before = backbone[0].weight.clone()
    options = dataclasses.replace(QUICK, freeze_backbone=False, backbone_learning_rate_ratio=1.0, learning_rate=2e-2)
    trained = train(digits, backbone, options, epochs=12)
    assert accuracy(trained, digits) > 0.5
    assert not torch.equal(before, backbone[0].weight)

    still = train(digits, Pixels(), options, backbone_learning_rate_ratio=0.0, epochs=2)
    assert still.classifier.backbone.scale.item() == 1


def test_the_head_learns_alone_first_then_all_layers(digits: LabelledSplits) -> None:
    torch.manual_seed(0)
    backbone = Small()
    begun, weights = backbone[0].weight.clone(), []
    options = dataclasses.replace(
        QUICK, freeze_backbone=False, head_epochs=4, epochs=8, backbone_learning_rate_ratio=1.0, learning_rate=5e-3
    )
    trainer = ClassifierTrainer(backbone, digits, options, device=CPU, precision=torch.float32)
    trained = trainer.train(lambda epoch: weights.append(backbone[0].weight.detach().clone()))
    assert [epoch.number for epoch in trained.epochs] == list(range(1, 13))
    assert [bool(torch.equal(begun, each)) for each in weights] == [True] * 4 + [False] * 8
    assert accuracy(trained, digits) > 0.5


def test_an_epoch_of_the_head_alone_is_kept_where_none_after_it_is_better(digits: LabelledSplits) -> None:
    torch.manual_seed(0)
    backbone = Small()
    begun = backbone[0].weight.clone()
    options = dataclasses.replace(QUICK, freeze_backbone=False, head_epochs=10, epochs=9, patience=3)
    spoilt = train(digits, backbone, options, backbone_learning_rate_ratio=1e3)
    assert spoilt.best.number <= 10
    assert len(spoilt.epochs) == 10 + 3, "patience begins anew with all layers"
    assert torch.equal(backbone[0].weight, begun)
    assert accuracy(spoilt, digits) > 0.5


def test_a_head_that_learns_alone_anyway_has_no_epochs_to_be_first(digits: LabelledSplits) -> None:
    with pytest.raises(SparsightError, match="head_epochs is 3, and the backbone is frozen"):
        train(digits, Pixels(), head_epochs=3)


def test_the_best_epoch_is_kept_and_patience_ends_the_training(digits: LabelledSplits) -> None:
    trained = train(digits, Pixels(), epochs=300, patience=5, learning_rate=0.05)
    assert len(trained.epochs) == trained.best.number + 5 < 300
    assert all(not epoch.better_than(trained.best) for epoch in trained.epochs)
    chances = predict(trained.classifier, digits.images, digits.valid, GENTLE)
    kept = (chances.argmax(axis=1) == digits.targets[digits.valid]).mean()
    assert kept == pytest.approx(trained.best.valid_accuracy, abs=0.011)


def test_divergence_is_told(digits: LabelledSplits) -> None:
    with pytest.raises(SparsightError, match=r"diverged.*learning_rate 1e\+30(.|\n)*Lower learning_rate"):
        train(digits, Pixels(), optimizer="sgd", learning_rate=1e30)


def test_equal_scores_are_settled_by_loss() -> None:
    worse = Epoch(number=1, train_loss=1, valid_loss=0.5, valid_accuracy=1, valid_macro_f1=0.8)
    better = dataclasses.replace(worse, number=2, valid_loss=0.4)
    assert better.better_than(worse)
    assert not worse.better_than(better)
    assert not dataclasses.replace(better, valid_macro_f1=0.7).better_than(worse)


@pytest.mark.parametrize("freeze", [True, False])
def test_the_same_seed_gives_the_same_weights_and_another_one_others(digits: LabelledSplits, freeze: bool) -> None:
    heads = [
        train(digits, Pixels(), epochs=2, freeze_backbone=freeze, seed=seed).classifier.head[3].weight
        for seed in (1, 1, 2)
    ]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("balance", ["none", "class_weights", "oversample"])
def test_every_way_of_balancing_and_optimising_learns(digits: LabelledSplits, balance: str, optimizer: str) -> None:
    trained = train(digits, Pixels(), balance=balance, optimizer=optimizer, learning_rate=2e-2, epochs=15)
    assert accuracy(trained, digits) > 0.7


def test_balancing_finds_more_of_a_rare_class(digits: LabelledSplits) -> None:
    rare = digits.targets == 8
    few = np.concatenate([digits.train[~rare[digits.train]], digits.train[rare[digits.train]][:2]])
    skewed = dataclasses.replace(digits, train=few)

    def recall(balance: str) -> float:
        trained = train(skewed, Pixels(), balance=balance, epochs=8, learning_rate=1e-3, patience=8)
        chances = predict(trained.classifier, digits.images, digits.test[rare[digits.test]], GENTLE)
        return float(chances[:, 8].mean())

    plain = recall("none")
    assert recall("class_weights") > plain
    assert recall("oversample") > plain


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 9))
def test_oversampling_evens_the_classes_out_and_leaves_nothing_out(drawn: list[int], seed: int) -> None:
    targets = np.array(drawn)
    order = epoch_order(targets, "oversample", torch.Generator().manual_seed(seed))
    counts = np.bincount(targets[order], minlength=4)
    assert set(counts[counts > 0]) == {np.bincount(targets).max()}
    assert set(order) == set(range(len(targets)))
    repeats = np.bincount(order, minlength=len(targets))
    for number in set(drawn):
        assert np.ptp(repeats[targets == number]) <= 1
    plain = epoch_order(targets, "none", torch.Generator().manual_seed(seed))
    assert sorted(plain) == list(range(len(targets)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_class_weights_give_each_class_the_same_say(drawn: list[int]) -> None:
    targets = np.array(drawn)
    weights = class_weights(targets, 4)
    shares = np.bincount(targets, weights=weights[targets], minlength=4)
    assert np.allclose(shares[shares > 0], len(targets) / 4)


def test_distinct_keeps_the_first_of_the_same_pixels(tmp_path: Path) -> None:
    folder = write_packed_images(tmp_path / "x", np.zeros((4, 4, 4, 3), np.uint8), ["a"] * 4, ["train"] * 4, shards=2)
    kept, place = distinct(PackedImages(folder), np.array([3, 1, 3, 0, 1]))
    assert kept.tolist() == [3, 1, 0]
    assert place.tolist() == [0, 1, 0, 2, 1]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 4)), min_size=1, max_size=30))
def test_macro_f1_is_scikit_learns_over_the_true_classes(drawn: list[tuple[int, int]]) -> None:
    truth, predicted = np.array(drawn, np.int64).T
    expected = f1_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0.0)
    assert macro_f1(truth, predicted) == pytest.approx(expected)


def splits_of(folder: Path, rows: list[tuple[str, str]]) -> LabelledSplits:
    images: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 255, (len(rows), 16, 16, 3)).astype(np.uint8)
    labels, splits = zip(*rows, strict=True)
    return LabelledSplits.of(PackedImages(write_packed_images(folder / "images", images, labels, splits)))


TWO = [("a", "train"), ("b", "train")]


@pytest.mark.parametrize(
    ("rows", "problem", "hint"),
    [
        ([("", "train")] * 3, "no labelled image", "mode=labelled"),
        ([("a", "train"), ("b", "test")], "only the class 'a'", "include"),
        ([("a", "test"), ("b", "test")], "no labelled image; a classifier needs two", "include"),
        ([*TWO, ("", "test")], "no labelled test image", "test split"),
    ],
)
def test_data_that_cannot_do_is_refused(tmp_path: Path, rows: list[tuple[str, str]], problem: str, hint: str) -> None:
    with pytest.raises(SparsightError, match=problem) as caught:
        splits_of(tmp_path, rows)
    assert hint in caught.value.hint


def test_what_the_data_lacks_is_noted_and_training_goes_on(tmp_path: Path) -> None:
    splits = splits_of(tmp_path, [*TWO, ("", "train"), ("c", "test"), ("a", "test")])
    told = " ".join(splits.notes)
    assert "No training image of c" in told
    assert "No test image of b" in told
    assert "No validation image" in told
    assert "1 images without a label" in told
    assert splits.valid.tolist() == splits.train.tolist()
    assert splits.classes == ("a", "b")
    for freeze in (True, False):
        assert np.isfinite(train(splits, Pixels(), freeze_backbone=freeze, epochs=2).best.train_loss)


def test_a_validation_class_that_training_never_saw_counts_as_wrong(tmp_path: Path) -> None:
    trained = train(splits_of(tmp_path, [*TWO, ("z", "valid"), ("a", "test")]), Pixels(), epochs=2)
    assert (trained.best.valid_macro_f1, trained.best.valid_loss) == (0, 0)


def test_a_base_model_is_opened_from_a_folder_or_refused(tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match="neither a folder that is there nor a registered model"):
        open_base_model("no/such/folder", None, backbone="resnet18", image_size=32, seed=0)
    with pytest.raises(SparsightError, match="Both base_model"):
        open_base_model("imagenet", tmp_path, backbone="resnet18", image_size=32, seed=0)
    with pytest.raises(SparsightError, match="expected a model folder"):
        open_base_model("none", tmp_path / "nothing", backbone="resnet18", image_size=32, seed=0)
    one, other = (open_base_model("none", None, backbone="resnet10_narrow", image_size=32, seed=3) for _ in range(2))
    assert torch.equal(one.backbone.state_dict()["conv1.weight"], other.backbone.state_dict()["conv1.weight"])
    assert one.description.small_image_stem


def test_random_frozen_features_get_batch_norm_statistics_and_trained_ones_keep_theirs(digits: LabelledSplits) -> None:
    backbone = Small()
    weight, statistics = backbone[0].weight.clone(), backbone[1].running_mean
    assert not measured_batch_norm(backbone)
    train(digits, backbone, epochs=1)
    assert measured_batch_norm(backbone)
    assert torch.equal(backbone[0].weight, weight)
    before = statistics.clone()
    train(digits, backbone, epochs=1)
    assert torch.equal(statistics, before)


def test_imagenet_weights_of_our_own_network_are_refused() -> None:
    with pytest.raises(SparsightError, match="no ImageNet weights"):
        open_base_model("imagenet", None, backbone="resnet10_narrow", image_size=64)


def test_states_are_named_by_part() -> None:
    names = Classifier(Pixels(), Head(64, 2, HeadDescription(hidden=4, dropout=0))).state_dict().keys()
    assert set(names) == {"backbone.scale", "head.0.weight", "head.0.bias", "head.3.weight", "head.3.bias"}
