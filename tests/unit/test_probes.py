"""The kNN probe against scikit-learn's, and what it reads."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.evaluation.probes import KnnProbe, embed, knn_predict
from sparsight.models.folder import Preprocessing
from tests.packed_images import write_packed_images

PLAIN = Preprocessing(image_size=8, resize="fit", mean=(0, 0, 0), std=(1, 1, 1))


class MeanColour(nn.Module):
    """Embeds an image as its mean colour."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, images):
        return images.mean(dim=(2, 3)) * self.scale


@pytest.fixture
def coloured(tmp_path):
    """60 images, red or green, with a little noise; the last 10 without labels."""
    noise = np.random.default_rng(0).integers(0, 60, (60, 8, 8, 3), np.uint8)
    classes = np.arange(60) % 2
    noise[np.arange(60), :, :, classes] += 150
    labels = [("red", "green")[c] if number < 50 else "" for number, c in enumerate(classes)]
    splits = ["train"] * 30 + ["valid"] * 10 + ["test"] * 10 + ["train"] * 10
    return PackedImages(write_packed_images(tmp_path / "images", noise, labels, splits, shards=2))


@pytest.mark.parametrize("k", [1, 7, 40])
def test_votes_as_scikit_learn_with_the_same_weights(k):
    generator = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(80, 5, generator=generator), torch.randn(30, 5, generator=generator)
    labels = torch.randint(0, 4, (80,), generator=generator)
    reference = KNeighborsClassifier(k, metric="cosine", weights=lambda distance: np.exp(-distance / 0.1))
    expected = reference.fit(bank.numpy(), labels.numpy()).predict(queries.numpy())
    assert knn_predict(bank, labels, queries, k=k).tolist() == expected.tolist()


def test_many_queries_are_taken_in_parts():
    bank, queries = torch.randn(20, 4), torch.randn(600, 4)
    labels = torch.arange(20) % 3
    found = knn_predict(bank, labels, queries, k=5)
    assert found.tolist() == [int(knn_predict(bank, labels, each[None], k=5)) for each in queries]


def test_more_neighbours_than_images_is_all_of_them():
    predicted = knn_predict(torch.eye(3), torch.tensor([0, 1, 1]), torch.eye(3), k=200)
    assert predicted.tolist() == [0, 1, 1]


def test_probe_reads_labels_off_a_backbone_that_tells_them_apart(coloured):
    probe = KnnProbe(coloured, PLAIN)
    assert len(probe.bank) == 30
    assert len(probe.queries) == 10
    assert probe.classes == ["green", "red"]
    assert probe(MeanColour()) == {"knn_accuracy": 1.0}
    assert probe.majority == 0.5


def test_probe_puts_the_mode_back(coloured):
    backbone = MeanColour().train()
    KnnProbe(coloured, PLAIN)(backbone)
    assert backbone.training


def test_embeddings_come_in_the_order_asked_for(coloured):
    positions = np.array([7, 0, 59, 31])
    embeddings = embed(MeanColour(), coloured, positions, PLAIN)
    expected = coloured.gather(positions).mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(embeddings.numpy(), expected, atol=1e-5)


def test_labels_are_needed_in_both_splits(tmp_path):
    images = np.zeros((4, 8, 8, 3), np.uint8)
    folder = write_packed_images(tmp_path / "images", images, ["a", "b", "", ""], ["train", "train", "valid", "test"])
    with pytest.raises(SparsightError, match="no labelled images in its valid split"):
        KnnProbe(PackedImages(folder), PLAIN)


def test_oversampled_rows_count_once(tmp_path):
    folder = write_packed_images(
        tmp_path / "images",
        np.zeros((4, 8, 8, 3), np.uint8),
        ["a", "b", "a", "b"],
        ["train", "train", "valid", "valid"],
    )
    images = PackedImages(folder)
    images.index.loc[1, "row"] = 0
    assert len(KnnProbe(images, PLAIN).bank) == 1
