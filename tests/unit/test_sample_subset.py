"""The step sample_subset: artefacts in, and out come a table of chosen photos and a page that shows them."""

import dataclasses
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from packed_images import write_packed_images

from sparsight.data.artefact import new_artefact, read_manifest
from sparsight.data.embeddings import Embeddings
from sparsight.data.predictions import PredictionWriter
from sparsight.data.selected import load_selected
from sparsight.errors import SparsightError
from sparsight.evaluation import selection_map
from sparsight.models.backbones import network_digest
from sparsight.models.classifier import new_classifier
from sparsight.models.folder import (
    BackboneDescription,
    HeadDescription,
    ModelDescription,
    Preprocessing,
    write_model,
)
from sparsight.steps.sample_subset import Arguments, main

CLASSES = ("circle", "square/large", "square/small")
SIZES = (60, 40, 20)


@dataclasses.dataclass
class Photos:
    """Photos of three classes, each class a group of embeddings."""

    ids: list[str]
    labels: NDArray
    values: NDArray

    @classmethod
    def make(cls, name: str, seed: int, sizes: tuple[int, ...] = SIZES) -> "Photos":
        random = np.random.default_rng(seed)
        owners = random.permutation(np.repeat(np.arange(3), sizes))
        values = 4 * np.eye(3, 16)[owners] + random.standard_normal((len(owners), 16)) * 0.4
        ids = [f"{name}/<{number:03d}>.jpg" for number in range(len(owners))]
        return cls(ids, np.array(CLASSES)[owners], values.astype(np.float32))

    def embeddings(self, folder: Path, labels: list[str], model: str = "one", split: str = "train") -> Path:
        with new_artefact(folder, "embeddings", {"backbone_digest": model}) as draft:
            np.save(draft.folder / "embeddings.npy", self.values)
            index = pd.DataFrame({"id": self.ids, "split": split, "label": labels})
            index.to_parquet(draft.folder / "index.parquet", index=False)
        return folder

    def predictions(self, folder: Path) -> Path:
        with new_artefact(folder, "predictions", {}) as draft, PredictionWriter(draft.folder) as writer:
            for photo, label in reversed(list(zip(self.ids, self.labels, strict=True))):
                unsure = 0.8 if label == CLASSES[2] else 0.1
                row = {"id": photo, "split": "train", "label": label, "score": 1 - unsure, "levels": []}
                writer.add([row | {"entropy": unsure, "margin": 1 - unsure, "distance": None, "unfamiliar": None}])
        return folder

    def images(self, folder: Path) -> Path:
        pixels = np.random.default_rng(0).integers(0, 256, (len(self.ids), 24, 24, 3), np.uint8)
        return write_packed_images(folder, pixels, [""] * len(self.ids), ["train"] * len(self.ids), ids=self.ids)

    def dataset(self, folder: Path) -> Path:
        with new_artefact(folder, "dataset", {}) as draft:
            uris = [f"photos/{photo}" for photo in self.ids]
            table = pd.DataFrame({"id": self.ids, "uri": uris, "file_hash": "", "label": ""})
            table.to_csv(draft.folder / "train.csv", index=False)
            containers = {photo: f"container-{number % 2}" for number, photo in enumerate(self.ids)}
            (draft.folder / "containers.json").write_text(json.dumps(containers))
        return folder


@pytest.fixture
def photos() -> Photos:
    return Photos.make("new", 0)


@pytest.fixture
def plain(photos: Photos, tmp_path: Path) -> Arguments:
    """The least that the step needs."""
    embeddings = photos.embeddings(tmp_path / "embeddings", [""] * len(photos.ids))
    return Arguments(embeddings=embeddings, selection=tmp_path / "selection", budget=6, strategy="kmeans")


def rows_of(photos: Photos, folder: Path) -> NDArray:
    return np.array([photos.ids.index(each) for each in load_selected(folder)["id"]])


def test_photos_are_chosen_and_told_where_they_are(plain, photos, tmp_path):
    arguments = dataclasses.replace(plain, dataset=photos.dataset(tmp_path / "dataset"), strategy="typiclust")
    main(arguments)
    table = load_selected(arguments.selection)
    assert table.columns.tolist() == ["rank", "id", "distance", "uri", "container"]
    assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert table["distance"][0] == np.inf
    assert (table["distance"][1:] > 0).all()
    assert (table["uri"] == "photos/" + table["id"]).all()
    assert [f"container-{row % 2}" for row in rows_of(photos, arguments.selection)] == table["container"].tolist()
    assert (arguments.selection / "selected.csv").read_text().splitlines()[1].startswith("1,new/<")
    assert set(photos.labels[rows_of(photos, arguments.selection)]) == set(CLASSES)
    counts = read_manifest(arguments.selection, "selection").counts
    assert counts == {"chosen": 6, "candidates": 120, "labelled": 0}


def test_without_a_dataset_the_table_has_ids_alone_and_the_default_says_what_it_took(plain):
    main(dataclasses.replace(plain, strategy="auto"))
    assert load_selected(plain.selection).columns.tolist() == ["rank", "id", "distance"]
    assert "typiclust was taken by itself" in (plain.selection / "summary.txt").read_text()


def test_the_same_inputs_give_the_same_bytes(plain, photos, tmp_path):
    made = []
    for name in ("one", "two"):
        arguments = dataclasses.replace(
            plain, selection=tmp_path / name, images=photos.images(tmp_path / f"images-{name}")
        )
        main(arguments)
        files = sorted(arguments.selection.iterdir())
        made.append({file.name: file.read_bytes() for file in files})
    assert made[0] == made[1]
    assert {"selected.csv", "index.html", "coverage.csv", "coverage.png", "summary.txt"} <= set(made[0])


def test_a_finished_choice_is_left_as_it_is(plain, capsys):
    main(plain)
    made = (plain.selection / "selected.csv").stat().st_mtime_ns
    main(plain)
    assert (plain.selection / "selected.csv").stat().st_mtime_ns == made
    assert capsys.readouterr().out.count("6 photos, chosen by kmeans") == 2


def test_what_is_labelled_is_not_chosen_and_nor_is_what_is_like_it(plain, photos, tmp_path):
    """Two classes have labels: some in the same artefact, some in another one, which repeats two of the photos."""
    labels = [label if label == CLASSES[0] and number < 60 else "" for number, label in enumerate(photos.labels)]
    embeddings = photos.embeddings(tmp_path / "part", labels)
    others = Photos.make("old", 1, (0, 30, 0))
    others.ids[:2] = [photo for photo, label in zip(photos.ids, photos.labels, strict=True) if label == CLASSES[2]][:2]
    labelled = others.embeddings(tmp_path / "labelled", others.labels.tolist())
    arguments = dataclasses.replace(
        plain, embeddings=embeddings, labelled=labelled, budget=3, strategy="farthest_point"
    )
    main(arguments)
    chosen = rows_of(photos, arguments.selection)
    assert photos.labels[chosen[0]] == CLASSES[2]
    assert not {photos.ids[row] for row in chosen} & set(others.ids)
    assert not any(labels[row] for row in chosen)
    known = sum(map(bool, labels)) + 30
    counts = read_manifest(arguments.selection, "selection").counts
    assert counts == {"chosen": 3, "candidates": 120 - sum(map(bool, labels)) - 2, "labelled": known}
    assert load_selected(arguments.selection)["distance"][0] < np.inf


def test_in_an_experiment_labelled_photos_are_chosen_and_their_labels_tell_the_balance(plain, photos, tmp_path):
    embeddings = photos.embeddings(tmp_path / "labelled", photos.labels.tolist())
    with pytest.raises(SparsightError, match=r"120 of them labelled\.\nTo choose among labelled photos"):
        main(dataclasses.replace(plain, embeddings=embeddings))
    arguments = dataclasses.replace(plain, embeddings=embeddings, labelled_rows="eligible")
    main(arguments)
    assert "3 of 3 classes are among them, by own labels" in (arguments.selection / "summary.txt").read_text()
    page = (arguments.selection / "index.html").read_text()
    assert "square/small" in page
    assert (arguments.selection / "balance.png").is_file()


def test_the_test_split_is_never_chosen_and_never_counts(plain, photos, tmp_path):
    embeddings = photos.embeddings(tmp_path / "test", photos.labels.tolist(), split="test")
    arguments = dataclasses.replace(plain, labelled=embeddings)
    others = Photos.make("old", 2)
    arguments = dataclasses.replace(arguments, labelled=others.embeddings(tmp_path / "old", ["x"] * 120, split="test"))
    main(arguments)
    assert read_manifest(arguments.selection, "selection").counts["labelled"] == 0
    with pytest.raises(SparsightError, match="no photo of the split train"):
        main(dataclasses.replace(plain, embeddings=embeddings, selection=tmp_path / "other"))


def test_a_classifier_draws_the_choice_to_what_it_is_unsure_of(plain, photos, tmp_path):
    predictions = photos.predictions(tmp_path / "predictions")
    for number, (uncertainty, strategy) in enumerate([("entropy", "max_herding"), ("margin", "random")]):
        arguments = dataclasses.replace(
            plain,
            predictions=predictions,
            uncertainty=uncertainty,
            strategy=strategy,
            budget=1,
            selection=tmp_path / f"{number}",
        )
        main(arguments)
        assert set(photos.labels[rows_of(photos, arguments.selection)]) == {CLASSES[2]}
        assert "by predicted labels" in (arguments.selection / "summary.txt").read_text()
    with pytest.raises(SparsightError, match="uncertainty is 'margin', and there are no predictions"):
        main(dataclasses.replace(plain, uncertainty="margin"))


def test_classes_in_need_are_filled_up(plain, photos, tmp_path):
    labelled = Photos.make("old", 3, (8, 2, 0))
    arguments = dataclasses.replace(
        plain,
        predictions=photos.predictions(tmp_path / "predictions"),
        labelled=labelled.embeddings(tmp_path / "old", labelled.labels.tolist()),
        class_need=True,
        budget=8,
    )
    main(arguments)
    assert Counter(photos.labels[rows_of(photos, arguments.selection)]) == {CLASSES[1]: 3, CLASSES[2]: 5}


def test_badge_takes_the_classifier_whose_backbone_made_the_embeddings(plain, tmp_path):
    description = ModelDescription(
        kind="classifier",
        backbone=BackboneDescription(name="resnet10_narrow", small_image_stem=True),
        preprocessing=Preprocessing(image_size=24, resize="fit", mean=(0.5,) * 3, std=(0.5,) * 3),
        head=HeadDescription(hidden=8, dropout=0.0),
        classes=CLASSES,
        hyperparameters={},
    )
    torch.manual_seed(0)
    network = new_classifier(description).eval()
    with new_artefact(tmp_path / "model", "model", {}) as draft:
        write_model(draft.folder, description, network.state_dict())
    photos = Photos.make("wide", 4)
    photos.values = np.tile(photos.values, (1, 16))
    embeddings = photos.embeddings(tmp_path / "wide", [""] * 120, model=network_digest(network.backbone))
    arguments = dataclasses.replace(plain, embeddings=embeddings, strategy="badge", classifier=tmp_path / "model")
    main(arguments)
    with torch.inference_mode():
        chances = network.head(torch.from_numpy(photos.values)).softmax(dim=1).numpy()
    errors = chances - np.eye(3)[chances.argmax(axis=1)]
    assert (
        rows_of(photos, arguments.selection)[0] == np.linalg.norm(errors, axis=1).argmax()
    )  # by cosine, lengths are 1
    with pytest.raises(SparsightError, match="wasn't made by the backbone of the classifier"):
        main(dataclasses.replace(plain, strategy="badge", classifier=tmp_path / "model"))


def test_what_does_not_belong_together_is_named(plain, photos, tmp_path):
    other = Photos.make("other", 5)
    with pytest.raises(SparsightError, match="were embedded by different models"):
        main(dataclasses.replace(plain, labelled=other.embeddings(tmp_path / "a", ["x"] * 120, model="another")))
    with pytest.raises(SparsightError, match=r"lacks 120 of 120 photos to choose from; the first is new/<000>.jpg"):
        main(dataclasses.replace(plain, predictions=other.predictions(tmp_path / "b"), uncertainty="entropy"))
    with pytest.raises(SparsightError, match="lacks 6 of the 6 photos that were chosen"):
        main(dataclasses.replace(plain, dataset=other.dataset(tmp_path / "c")))
    with pytest.raises(SparsightError, match="budget is 121; expected 1 to 120"):
        main(dataclasses.replace(plain, budget=121))
    assert not plain.selection.exists()


def test_the_page_holds_everything_and_fetches_nothing(plain, photos, tmp_path):
    arguments = dataclasses.replace(plain, images=photos.images(tmp_path / "images"), outlier_share=0.02)
    main(arguments)
    page = (arguments.selection / "index.html").read_text()
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?https?:", page)
    assert page.count("data:image/jpeg") == 6 + 1  # those chosen, and one sheet for the map
    content = json.loads(re.search(r"const map = (\{.*\});", page)[1])
    assert len(content["points"]) == 120
    assert Counter(content["kinds"][point[2]] for point in content["points"]) == {
        "chosen": 6,
        "outlier": 2,
        "candidate": 112,
    }
    assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y, _, _ in content["points"])
    assert content["points"][-1][3].startswith("#1 · new/<")
    assert "new/<" not in page  # escaped, in text and in the script
    assert "2 photos far from all others were left out" in page


def test_a_large_set_is_drawn_in_part(photos, monkeypatch):
    monkeypatch.setattr(selection_map, "MAP_PHOTOS", 50)
    monkeypatch.setattr(selection_map, "_CHOSEN", 10)
    monkeypatch.setattr(selection_map, "_LABELLED", 5)
    kinds = ["chosen"] * 20 + ["labelled"] * 30 + ["candidate"] * 200
    table = pd.DataFrame({"kind": kinds, "rank": [*range(20, 0, -1), *[0] * 230]})
    shown = selection_map.photos_on_map(table, 0)
    assert Counter(np.array(kinds)[shown]) == {"chosen": 10, "labelled": 5, "candidate": 35}
    assert table["rank"].to_numpy()[shown[-10:]].tolist() == list(range(10, 0, -1))


def test_an_artefact_is_read_by_what_it_holds(plain):
    main(plain)
    with pytest.raises(SparsightError, match="expected 'sparsight/embeddings'"):
        Embeddings(plain.selection)
