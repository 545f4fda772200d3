"""How far photos are from the training photos: the distance is its definition, and tells what was never seen."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_images import write_packed_images
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.models.familiarity import FAMILIARITY, Familiarity, traits
from sparsight.models.folder import Preprocessing
from sparsight.training.familiarity import FEWEST, fit, held_out_distances, learn_familiarity
from sparsight.training.labelled import LabelledSplits

few = settings(max_examples=25)


def embeddings(seed: int, count: int, width: int) -> tuple[torch.Tensor, np.ndarray]:
    """Positive, skewed values as behind a ReLU, and labels of three classes."""
    generator = np.random.default_rng(seed)
    labels = np.array(["a", "b", "c"], object)[np.arange(count) % 3]
    values = generator.gamma(1 + np.arange(count)[:, None] % 3, size=(count, width))
    return torch.from_numpy(values.astype(np.float32)), labels


def naive_traits(values: torch.Tensor) -> np.ndarray:
    """Roots of the shares that the values have of their sum, and the root of that sum."""
    rows = values.double().numpy()
    sums = rows.sum(axis=1, keepdims=True)
    return np.hstack([np.sqrt(rows / sums), np.sqrt(sums)])


@few
@given(st.integers(0, 99), st.integers(6, 60), st.integers(1, 12))
def test_the_distance_is_that_of_mahalanobis_to_the_nearest_class(seed: int, count: int, width: int) -> None:
    known, labels = embeddings(seed, count, width)
    asked, _ = embeddings(seed + 1, 9, width)
    fitted = fit(known, labels)
    inverse = fitted.whitening.double().numpy() @ fitted.whitening.double().numpy().T
    means = [naive_traits(known[labels == label]).mean(axis=0) for label in "abc"]
    for value, found in zip(naive_traits(asked), fitted(asked).tolist(), strict=True):
        naive = min(np.sqrt((value - mean) @ inverse @ (value - mean)) for mean in means)
        assert found == pytest.approx(naive, rel=1e-3, abs=1e-3)


@few
@given(st.lists(st.floats(0, 10, width=32), min_size=1, max_size=50), st.floats(0.01, 0.99))
def test_at_most_the_rest_of_the_calibration_photos_is_unfamiliar(distances: list[float], share: float) -> None:
    held = Familiarity(torch.zeros(1, 3), torch.eye(3), torch.tensor(distances).sort().values)
    beyond = sum(distance > held.limit(share) for distance in distances)
    assert beyond <= (1 - share) * len(distances)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(SparsightError, match="expected more than 0 and less than 1"):
        Familiarity(torch.zeros(1, 3), torch.eye(3), torch.ones(3)).limit(share)


@pytest.mark.parametrize("labels", [["a", "b"], ["a"] * 2, ["a", "b", "b"], ["a"] * 7])
def test_a_handful_of_photos_will_do(labels: list[str]) -> None:
    known, _ = embeddings(0, len(labels), 5)
    distances = held_out_distances(known, np.array(labels, object))
    assert torch.isfinite(distances).all()
    assert torch.isfinite(fit(known, np.array(labels, object))(known)).all()


def test_it_comes_back_from_its_file_and_old_models_have_none(tmp_path: Path) -> None:
    known, labels = embeddings(0, 30, 4)
    learnt = fit(known, labels)
    learnt.write(tmp_path)
    again = Familiarity.read(tmp_path)
    assert again is not None
    assert torch.equal(again(known), learnt(known))
    assert Familiarity.read(tmp_path / "elsewhere") is None
    (tmp_path / FAMILIARITY).write_bytes(b"damaged")
    with pytest.raises(SparsightError, match=r"familiarity.safetensors can't be read"):
        Familiarity.read(tmp_path)


def test_traits_keep_signs_and_bear_nothing_at_all() -> None:
    assert traits(torch.tensor([[-4.0, 0.0, 9.0]]))[0].tolist() == pytest.approx(
        [-2 / 13**0.5, 0, 3 / 13**0.5, 13**0.5]
    )
    assert traits(torch.zeros(1, 2)).tolist() == [[0, 0, 0]]


class Pixels(torch.nn.Module):
    """Stands for a backbone: the pixels themselves are the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0].flatten(1)


@pytest.fixture(scope="module", params=["validated", "without validation"])
def splits(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LabelledSplits:
    """Digits from 0 to 7 to train and, in one case, to validate on; 100 of them to test."""
    data, target = load_digits(n_class=8, return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(data))[:500]  # as they come, each writer has a stretch
    data, target = data[chosen], target[chosen]
    pixels = np.repeat((data * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1), 3, axis=3)
    valid = "valid" if request.param == "validated" else "train"
    names = ["train"] * 300 + [valid] * 100 + ["test"] * 100
    folder = tmp_path_factory.mktemp("digits") / "images"
    return LabelledSplits.of(PackedImages(write_packed_images(folder, pixels, [f"{each}" for each in target], names)))


def test_digits_that_were_never_seen_are_further_off(splits: LabelledSplits) -> None:
    plain = Preprocessing(image_size=8, resize="fit", mean=(0, 0, 0), std=(1, 1, 1))
    learnt = learn_familiarity(Pixels(), splits, plain)
    assert len(learnt.calibration) == (100 if len(splits.train) == 300 else 400) >= FEWEST
    known = torch.from_numpy(splits.images.gather(splits.test)[..., 0].reshape(100, -1) / 255)
    data, target = load_digits(return_X_y=True)
    unseen = torch.from_numpy(data[target >= 8] / 16)
    turned = known.reshape(-1, 8, 8).rot90(1, (1, 2)).reshape(100, -1)
    for asked, floor in ((unseen, 0.7), (turned, 0.85), (1 - known, 0.99)):
        distances = torch.cat([learnt(known), learnt(asked)])
        assert roc_auc_score([0] * len(known) + [1] * len(asked), distances) > floor
    assert (learnt(known) > learnt.limit(0.95)).float().mean() < 0.2
