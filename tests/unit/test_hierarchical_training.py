"""Training on a taxonomy: one level is as before, labels teach as far as they reach, and heads get calibrated."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from packed_images import write_packed_images
from sklearn.datasets import load_digits
from torch import Tensor, nn

from sparsight.data.augment import AugmentationOptions
from sparsight.data.labels import join_path
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.models.labelling import descend
from sparsight.training.calibration import LEAST, calibrate, calibrated
from sparsight.training.classifier import ClassifierOptions, ClassifierTrainer, Trained, logits_of
from sparsight.training.labelled import LabelledSplits
from sparsight.training.targets import Hierarchy, TreeLabels, describe_hierarchy, make_targets

CPU = torch.device("cpu")
GENTLE = AugmentationOptions(crop_scale=(0.8, 1), horizontal_flip=0, blur=0, greyscale=0, hue=0, saturation=0)
QUICK = ClassifierOptions(epochs=30, augmentation_passes=1, hidden=64, augmentation=GENTLE)
SHAPES = {0: "round/0", 6: "round/6", 8: "round/8", 9: "round/9", 4: "angled/4", 7: "angled/7", 1: "one"}
SHAPES |= {2: "open/2", 3: "open/3", 5: "open/5"}
"""Of unequal depths: `one` is a leaf of the first level."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are faster so, most of all beside other tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Pixels(nn.Module):
    """A backbone whose embedding is the image itself, coarse."""

    num_features = 64

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images[:, :1], images.shape[-1] // 8).flatten(1) * self.scale


DATA, DIGITS = load_digits(return_X_y=True)
ORDER = np.random.default_rng(0).permutation(len(DATA))[:600]
TRUTH: NDArray[np.int64] = DIGITS[ORDER]
SPLITS = np.array(["train"] * 200 + ["valid"] * 100 + ["test"] * 300)


def splits_of(folder: Path, labels: Sequence[str]) -> LabelledSplits:
    """600 real digits under these labels: 200 to train on, 100 to choose by, 300 to test on."""
    images = (DATA[ORDER].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8).repeat(3, 3).repeat(2, 1).repeat(2, 2)
    return LabelledSplits.of(PackedImages(write_packed_images(folder / "images", images, labels, SPLITS.tolist())))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> LabelledSplits:
    return splits_of(tmp_path_factory.mktemp("shapes"), [SHAPES[digit] for digit in TRUTH])


def train(splits: LabelledSplits, hierarchy: Hierarchy, **changes: object) -> Trained:
    options = dataclasses.replace(QUICK, hierarchy=hierarchy, **changes)  # type: ignore[arg-type]
    return ClassifierTrainer(Pixels(), splits, options, device=CPU, precision=torch.float32).train()


def lines(splits: LabelledSplits, trained: Trained, hierarchy: Hierarchy) -> list[list[str]]:
    """The most probable way down for each test image: its labels, level by level."""
    labels = make_targets(splits.classes, hierarchy)
    assert isinstance(labels, TreeLabels)
    logits = logits_of(trained.classifier, splits.images, splits.test, GENTLE)
    found = descend(labels.tree, labels.heads(logits).exp().numpy())
    return [[join_path(labels.tree.path(number)) for number in line] for line in found]


def right_at(level: int, told: list[list[str]]) -> float:
    """Share of the test images whose line is right at a level that their label reaches."""
    truth = [SHAPES[digit].split("/") for digit in TRUTH[SPLITS == "test"]]
    pairs = [(line, t) for line, t in zip(told, truth, strict=True) if len(t) >= level]
    return float(np.mean([line[level - 1] == "/".join(t[:level]) for line, t in pairs]))


@pytest.mark.parametrize("hierarchy", ["per_parent", "leaves"])
@pytest.mark.parametrize("freeze", [True, False], ids=["frozen", "fine-tuned"])
def test_digits_are_learned_as_a_taxonomy_of_unequal_depths(
    shapes: LabelledSplits, hierarchy: Hierarchy, freeze: bool
) -> None:
    told = lines(shapes, train(shapes, hierarchy, freeze_backbone=freeze), hierarchy)
    assert right_at(1, told) > 0.85
    assert right_at(2, told) > 0.75
    assert {line[1] for line in told if line[0] == "one"} == {""}


@pytest.mark.parametrize("balance", ["none", "class_weights", "oversample"])
@pytest.mark.parametrize("hierarchy", ["per_parent", "leaves"])
def test_the_first_level_alone_is_the_classifier_without_a_hierarchy(
    tmp_path: Path, hierarchy: Hierarchy, balance: str
) -> None:
    splits = splits_of(tmp_path, [SHAPES[digit].split("/")[0] for digit in TRUTH])
    flat, deep = (train(splits, each, balance=balance, epochs=8) for each in ("none", hierarchy))
    for one, other in zip(flat.epochs, deep.epochs, strict=True):
        assert one.metrics() == pytest.approx(other.metrics(), rel=1e-4)
    assert make_targets(splits.classes, hierarchy).outputs == splits.classes
    states = [each.classifier.state_dict() for each in (flat, deep)]
    assert all(torch.allclose(states[0][name], states[1][name], atol=1e-4) for name in states[0])


@pytest.mark.parametrize("hierarchy", ["per_parent", "leaves"])
def test_labels_that_stop_at_an_inner_node_teach_the_levels_that_they_reach(
    tmp_path: Path, hierarchy: Hierarchy
) -> None:
    """30 photos are labelled down to the digit; 170 more say the shape alone."""
    labels = np.array([SHAPES[digit] for digit in TRUTH], object)
    few = splits_of(tmp_path / "few", np.where((SPLITS == "train") & (np.arange(600) >= 30), "", labels).tolist())
    shallow = np.array([label.split("/")[0] for label in labels], object)
    more = splits_of(
        tmp_path / "more", np.where((SPLITS == "train") & (np.arange(600) >= 30), shallow, labels).tolist()
    )
    without, with_them = (lines(each, train(each, hierarchy), hierarchy) for each in (few, more))
    assert right_at(1, with_them) > right_at(1, without) + 0.1
    assert right_at(2, with_them) > right_at(2, without)


def test_of_several_labels_each_teaches_its_head(tmp_path: Path) -> None:
    """Every photo says both whether its digit is even and whether it is small."""

    def label(digit: int) -> str:
        return f"parity/{('even', 'odd')[digit % 2]}|size/{'small' if digit < 5 else 'large'}"

    splits = splits_of(tmp_path, [label(digit) for digit in TRUTH])
    labels = make_targets(splits.classes, "per_parent")
    assert isinstance(labels, TreeLabels)
    trained = train(splits, "per_parent")
    assert trained.best.valid_accuracy > 0.8
    logits = logits_of(trained.classifier, splits.images, splits.test, GENTLE)
    chances = labels.heads(logits).exp().numpy()
    numbers, digits = labels.tree.numbers, TRUTH[SPLITS == "test"]
    assert chances[:, numbers[("parity",)]] == pytest.approx(0.5, abs=0.2), "both are there, so each is half of it"
    even = chances[:, numbers[("parity", "even")]] > chances[:, numbers[("parity", "odd")]]
    small = chances[:, numbers[("size", "small")]] > chances[:, numbers[("size", "large")]]
    assert (even == (digits % 2 == 0)).mean() > 0.8
    assert (small == (digits < 5)).mean() > 0.75


def test_balancing_counts_a_photo_with_several_labels_as_one_of_its_rarest(tmp_path: Path) -> None:
    labels = np.where(TRUTH == 8, "round|even", np.where(TRUTH % 2 == 0, "even", "odd"))
    labels[np.flatnonzero((TRUTH == 0) & (SPLITS == "train"))[0]] = "round"
    splits = splits_of(tmp_path, labels.tolist())
    group_of = dict(zip(splits.classes, splits.groups, strict=True))
    assert group_of["round|even"] == group_of["round"]
    assert len({group_of["even"], group_of["odd"], group_of["round"]}) == 3


def test_what_a_classifier_cannot_learn_is_refused() -> None:
    with pytest.raises(SparsightError, match=r"1 labels hold several paths, such as 'a\|b'") as caught:
        make_targets(["a|b", "c"], "none")
    assert "per_parent" in caught.value.hint
    with pytest.raises(SparsightError, match="nothing to tell apart"):
        make_targets(["a", "a/b"], "per_parent")
    choice = {"decision": "confident", "threshold": 0.5}
    with pytest.raises(SparsightError, match=r"reject names b/y, but no training image.*first level has: a, b"):
        describe_hierarchy(make_targets(["a", "b/x"], "leaves"), reject=[("b", "x"), ("b", "y")], **choice)
    with pytest.raises(SparsightError, match="hierarchy is 'none'"):
        describe_hierarchy(make_targets(["a", "b"], "none"), reject=[("a",)], **choice)
    assert describe_hierarchy(make_targets(["a", "b"], "none"), reject=(), **choice) is None


def overconfident(labels: TreeLabels, factors: Sequence[float], count: int) -> tuple[Tensor, list[str]]:
    """Logits whose heads are so many times as sure as they should be, and labels drawn from what they should say."""
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(count, len(labels.heads.outputs), generator=generator) * 2
    chances = labels.heads(honest).exp()[:, labels.tree.leaves]
    drawn = torch.multinomial(chances, 1, generator=generator)[:, 0]
    truths = [join_path(labels.tree.nodes[labels.tree.leaves[place]]) for place in drawn]
    by_output = torch.tensor(factors)[labels.heads.head_of] if len(factors) > 1 else factors[0]
    return honest * by_output, truths


@pytest.mark.parametrize(("hierarchy", "factors"), [("per_parent", [3.0, 0.5]), ("leaves", [2.5])])
def test_each_head_is_calibrated_for_itself(hierarchy: Hierarchy, factors: list[float]) -> None:
    labels = make_targets(["cat", "dog/boxer", "dog/poodle"], hierarchy)
    assert isinstance(labels, TreeLabels)
    found = calibrate(labels, *overconfident(labels, factors, 2000))
    assert list(found.temperatures) == ["", "dog"][: len(factors)]
    assert list(found.temperatures.values()) == pytest.approx(factors, rel=0.2)
    assert found.images[""] == 2000
    assert found.notes() == []


def test_labels_that_stop_calibrate_the_heads_that_they_reach() -> None:
    labels = make_targets(["cat", "dog/boxer", "dog/poodle"], "per_parent")
    assert isinstance(labels, TreeLabels)
    logits, truths = overconfident(labels, [3.0, 3.0], 2000)
    found = calibrate(labels, logits, [truth.split("/")[0] for truth in truths])
    assert found.temperatures[""] == pytest.approx(3, rel=0.2)
    assert found.temperatures["dog"] == 1
    assert found.images["dog"] == 0
    assert "choice below dog" in found.notes()[0]


def test_a_head_with_few_images_stays_as_it_is_and_one_without_mistakes_stays_fallible() -> None:
    labels = make_targets(["cat", "dog"], "per_parent")
    assert isinstance(labels, TreeLabels)
    logits, truths = overconfident(labels, [3.0], LEAST - 1)
    found = calibrate(labels, logits, truths)
    assert found.temperatures == {"": 1.0}
    assert f"Fewer than {LEAST} validation images for the choice below the root" in found.notes()[0]
    perfect = calibrate(labels, torch.tensor([[3.0, -3.0]] * 40), ["cat"] * 40)
    assert 0.2 < perfect.temperatures[""] < 1
    unknown = calibrate(labels, logits, ["yeti"] * len(truths))
    assert unknown.temperatures == {"": 1.0}


def test_images_that_training_saw_calibrate_nothing(shapes: LabelledSplits) -> None:
    options = dataclasses.replace(QUICK, hierarchy="per_parent", epochs=2)
    trained = train(shapes, "per_parent", epochs=2)
    found = calibrated(trained.classifier, shapes, options)
    assert found is not None
    assert found.temperatures[""] != 1
    assert found.temperatures["angled"] == 1 or found.images["angled"] >= LEAST
    seen = calibrated(trained.classifier, dataclasses.replace(shapes, valid=shapes.train[:50]), options)
    assert seen is not None
    assert set(seen.temperatures.values()) == {1.0}
    assert calibrated(trained.classifier, shapes, QUICK) is None


def test_labels_of_the_test_that_lie_above_known_ones_can_be_predicted(tmp_path: Path) -> None:
    labels = [SHAPES[digit] for digit in TRUTH]
    labels = [label.split("/")[0] if split == "test" else label for label, split in zip(labels, SPLITS, strict=True)]
    assert not [note for note in splits_of(tmp_path, labels).notes if "No training image" in note]
