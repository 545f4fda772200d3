"""Embedding an image set: one row for each distinct image, what the network gives, read back without copying."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from packed_images import write_packed_images

from sparsight.data.artefact import MANIFEST
from sparsight.data.augment import normalise
from sparsight.data.embeddings import Embeddings
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.steps.embed import Arguments, main
from sparsight.training.base_model import open_base_model
from sparsight.training.embedding import write_embeddings

CPU = torch.device("cpu")
PIXELS = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 images in three shards, some of them twice in the index, as oversampling makes them."""
    splits = ["train"] * 200 + ["valid"] * 60 + ["test"] * 40
    labels = ["a", "b/c", ""] * 100
    folder = write_packed_images(tmp_path_factory.mktemp("images") / "images", PIXELS, labels, splits, shards=3)
    index = pd.read_parquet(folder / "index.parquet")
    pd.concat([index, index.iloc[[5, 5, 120]]], ignore_index=True).to_parquet(folder / "index.parquet")
    return folder


def arguments(images: Path, embeddings: Path, **changes: object) -> Arguments:
    plain = Arguments(
        images=images, embeddings=embeddings, model="none", backbone="resnet10_narrow", precision="float32"
    )
    return dataclasses.replace(plain, **changes)


def test_each_distinct_image_has_the_row_that_the_backbone_gives_it(images: Path, tmp_path: Path) -> None:
    base = open_base_model("none", None, backbone="resnet10_narrow", image_size=8)
    base.backbone.bn1.running_mean.fill_(0.1)  # as if it had been trained
    write_embeddings(PackedImages(images), base, tmp_path / "embeddings", device=CPU, precision=torch.float32)
    found = Embeddings(tmp_path / "embeddings")
    assert isinstance(found.values, np.memmap)
    assert found.values.shape == (300, 256)
    assert found.index["id"].tolist() == [f"image-{number:05d}" for number in range(300)]
    assert found.index["split"].value_counts().to_dict() == {"train": 200, "valid": 60, "test": 40}
    assert found.index["label"].tolist()[:3] == ["a", "b/c", ""]
    with torch.inference_mode():
        for row in (0, 5, 120, 299):
            alone = base.backbone(normalise(torch.from_numpy(PIXELS[[row]]), base.mean, base.std))
            np.testing.assert_allclose(found.values[row], alone[0].numpy(), rtol=1e-3, atol=1e-4)


def test_random_weights_get_their_batch_norm_from_the_images_and_the_seed_counts(images: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        main(arguments(images, tmp_path / name, seed=seed))
    one, again, other = (Embeddings(tmp_path / name) for name in ("one", "again", "other"))
    assert (tmp_path / "one" / "embeddings.npy").read_bytes() == (tmp_path / "again" / "embeddings.npy").read_bytes()
    assert (tmp_path / "one" / MANIFEST).read_bytes() == (tmp_path / "again" / MANIFEST).read_bytes()
    assert not np.allclose(one.values, other.values)
    assert again.manifest.parameters["model"] == "random weights"
    assert 0.1 < float(one.values.std()) < 10


def test_what_is_finished_is_left_as_it_is(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments(images, tmp_path / "embeddings"))
    capsys.readouterr()
    main(arguments(images, tmp_path / "embeddings"))
    assert "Embedding" not in capsys.readouterr().out
    with pytest.raises(SparsightError, match="finished already"):
        main(arguments(images, tmp_path / "embeddings", seed=1))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"model": None}, "Neither model nor model_folder is given"),
        ({"model_folder": Path("model")}, r"Both model \('none'\) and model_folder are given"),
        ({"model": "photos"}, "'photos' is neither a folder that is there nor a registered model"),
        ({"backbone": "resnet"}, "no backbone 'resnet'"),
        ({"precision": "double"}, "precision is 'double'"),
    ],
)
def test_wrong_input_is_told_before_anything_is_written(
    images: Path, tmp_path: Path, given: dict[str, object], told: str
) -> None:
    with pytest.raises(SparsightError, match=told):
        main(arguments(images, tmp_path / "embeddings", **given))
    assert not list(tmp_path.iterdir())


def test_files_that_disagree_are_refused(images: Path, tmp_path: Path) -> None:
    main(arguments(images, tmp_path / "embeddings"))
    np.save(tmp_path / "embeddings" / "embeddings.npy", np.zeros((7, 4), np.float32))
    with pytest.raises(SparsightError, match=r"float32 \(7, 4\); expected float32, 300 rows"):
        Embeddings(tmp_path / "embeddings")
    with pytest.raises(SparsightError, match="expected a embeddings folder"):
        Embeddings(tmp_path)
