"""The step train_classifier, whole: what it writes, what MLflow gets, and what it says when it can't."""

import dataclasses
import json
import re
import uuid
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from packed_images import write_packed_images
from PIL import Image
from sklearn.datasets import load_digits

from sparsight.data.artefact import read_manifest
from sparsight.data.origin import Origin, write_origin
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.evaluation.metrics import read_metrics, read_predictions
from sparsight.evaluation.retest import measure
from sparsight.local.services import Services
from sparsight.models.classifier import load_classifier
from sparsight.models.pyfunc import PyfuncModel
from sparsight.steps.train_classifier import Arguments, main
from sparsight.stores.lineage import Lineage


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data, target = load_digits(n_class=3, return_X_y=True)
    pixels = np.kron(data[:200].reshape(-1, 8, 8) * (255 / 16), np.ones((2, 2))).astype(np.uint8)
    folder = tmp_path_factory.mktemp("digits") / "images"
    splits = ["train"] * 60 + ["valid"] * 40 + ["test"] * 100
    write_packed_images(
        folder, np.repeat(pixels[..., None], 3, axis=3), [f"digit/{number}" for number in target[:200]], splits
    )
    write_origin(folder, Origin(query={"containers": "digits", "limit": None}, digest="of-the-digits"))
    return folder


@pytest.fixture(autouse=True)
def name(service_environment: Services, monkeypatch: pytest.MonkeyPatch) -> str:
    """A name of this test's own for experiment and model."""
    name = f"digits-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    return name


def arguments(images: Path, model: Path, name: str, **changes: object) -> Arguments:
    quick = Arguments(
        images=images,
        model=model,
        model_name=name,
        backbone="resnet10_narrow",
        epochs=15,
        augmentation_passes=1,
        horizontal_flip=0,
    )
    return dataclasses.replace(quick, **changes)


def test_a_model_with_its_report_is_written_tracked_and_registered(
    images: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSIGHT_RUN", "20260101-classify")
    monkeypatch.setenv("SPARSIGHT_CODE_VERSION", "v7-dirty")
    main(arguments(images, tmp_path / "model", name))

    manifest = read_manifest(tmp_path / "model", "model")
    assert manifest.counts["test"] == 100
    assert str(tmp_path) not in json.dumps(manifest.parameters)
    metrics = read_metrics(tmp_path / "model" / "report" / "metrics.json")
    assert metrics.macro_f1 > 0.6
    assert len(read_predictions(tmp_path / "model" / "report" / "predictions.csv").ids) == 100

    version = mlflow.MlflowClient().get_model_version(name, "1")
    run = mlflow.get_run(version.run_id)
    lineage = Lineage.of_tags(version.tags)
    assert lineage.metrics == metrics.overall()
    assert (lineage.test_digest, lineage.test_images) == (metrics.images_digest, 100)
    assert (lineage.kind, lineage.step, lineage.run_id) == ("classifier", "train_classifier", version.run_id)
    assert (lineage.pipeline_run, lineage.code_version) == ("20260101-classify", "v7-dirty")
    assert lineage.dataset_query == {"containers": "digits", "limit": None}
    assert lineage.dataset_digest == "of-the-digits"
    assert lineage.base_model == "random weights"
    assert run.data.metrics["test_macro_f1"] == pytest.approx(metrics.macro_f1)
    assert run.data.params["epochs"] == "15"
    losses = mlflow.MlflowClient().get_metric_history(version.run_id, "train_loss")
    assert [metric.step for metric in losses] == list(range(1, manifest.counts["epochs"] + 1))
    logged = {entry.path for entry in mlflow.MlflowClient().list_artifacts(version.run_id, "report")}
    assert {"report/index.html", "report/confusion_matrix.png", "report/gallery.png"} <= logged

    test = sorted((images / "images-00000.npy").parent.glob("*.npy"))[0]
    pixels = np.load(test)[100:110]
    encoded = [_png(each, tmp_path) for each in pixels]
    answer = PyfuncModel(tmp_path / "model" / "mlflow_model").predict(pd.DataFrame({"image": encoded}))
    told = read_predictions(tmp_path / "model" / "report" / "predictions.csv")
    assert answer["label"].tolist() == list(told.predicted)[:10]


def _png(pixels: np.ndarray, folder: Path) -> bytes:
    Image.fromarray(pixels).save(folder / "one.png")
    return (folder / "one.png").read_bytes()


def test_the_same_arguments_give_the_same_folder_and_a_base_model_is_used(
    images: Path, tmp_path: Path, name: str
) -> None:
    for folder in ("one", "two"):
        main(arguments(images, tmp_path / folder, name, epochs=3))
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    different = [
        str(file) for file in files if (tmp_path / "one" / file).read_bytes() != (tmp_path / "two" / file).read_bytes()
    ]
    assert different == []

    main(arguments(images, tmp_path / "three", name, base_model_folder=tmp_path / "one", epochs=2))
    main(arguments(images, tmp_path / "four", name, base_model=f"{name}@latest", epochs=2, freeze_backbone=False))
    four = Lineage.of_tags(mlflow.MlflowClient().get_model_version(name, "4").tags)
    assert four.base_model == f"{name}/3"
    one, three, four = (load_classifier(tmp_path / folder)[0].state_dict() for folder in ("one", "three", "four"))
    assert one["backbone.conv1.weight"].equal(three["backbone.conv1.weight"])
    assert not one["backbone.conv1.weight"].equal(four["backbone.conv1.weight"])


def test_a_taxonomy_is_learned_reported_registered_and_tested_again(tmp_path: Path, name: str) -> None:
    """Two levels, labels that stop at the first one, a class that rejects a photo, and one photo with two labels."""
    data, target = load_digits(n_class=5, return_X_y=True)
    pixels = np.kron(data[:300].reshape(-1, 8, 8) * (255 / 16), np.ones((2, 2))).astype(np.uint8)
    paths = {0: "round/0", 1: "straight/1", 2: "open/2", 3: "open/3", 4: "straight/4"}
    labels = [paths[digit] for digit in target[:300]]
    labels[:100:5] = [label.split("/")[0] for label in labels[:100:5]]
    labels[1] = "open|straight"
    images = tmp_path / "images"
    splits = ["train"] * 120 + ["valid"] * 80 + ["test"] * 100
    write_packed_images(images, np.repeat(pixels[..., None], 3, axis=3), labels, splits)

    chosen = {"hierarchy": "per_parent", "reject": '["round"]', "threshold": 0.4}
    main(arguments(images, tmp_path / "model", name, **chosen))

    model = tmp_path / "model"
    metrics = read_metrics(model / "report" / "metrics.json")
    assert metrics.hierarchy is not None
    assert metrics.hierarchy.f1 > 0.7
    assert [level.images for level in metrics.hierarchy.levels] == [100, 100]
    assert metrics.reject is not None
    assert metrics.reject.recall > 0.7
    page = (model / "report" / "index.html").read_text(encoding="utf-8")
    assert "<h2>Taxonomy</h2>" in page
    rows = re.findall(r'<th scope="row" style="padding-left[^>]*>(?:<span [^>]*></span>)?(\w+)', page)
    assert rows == ["open", "2", "3", "round", "0", "straight", "1", "4"]
    curve = pd.read_csv(model / "report" / "coverage.csv")
    assert set(curve["level"]) == {1, 2}

    description = load_classifier(model)[1]
    assert description.hierarchy is not None
    assert description.hierarchy.temperatures[""] != 1
    assert description.classes == (
        "open",
        "round",
        "straight",
        "open/2",
        "open/3",
        "round/0",
        "straight/1",
        "straight/4",
    )
    lineage = Lineage.of_tags(mlflow.MlflowClient().get_model_version(name, "1").tags)
    assert lineage.metrics == metrics.overall()
    assert {"hierarchical_f1", "hierarchical_distance", "reject_recall"} <= lineage.metrics.keys()
    again = measure(model, PackedImages(images), name)
    assert again.overall() == pytest.approx(metrics.overall(), abs=1e-6)
    assert again.images_digest == metrics.images_digest

    encoded = [_png(each, tmp_path) for each in np.load(images / "images-00000.npy")[200:210]]
    answer = PyfuncModel(model / "mlflow_model").predict(pd.DataFrame({"image": encoded}))
    told = read_predictions(model / "report" / "predictions.csv")
    assert answer["label"].tolist() == list(told.predicted)[:10]
    assert answer["rejected"].tolist() == [label.startswith("round") for label in answer["label"]]
    assert ((answer["label_1"] + "/") == [f"{label.split('/')[0]}/" for label in answer["label_2"]]).all()


def test_several_labels_without_a_hierarchy_are_refused(tmp_path: Path, name: str) -> None:
    labels, splits = ["a|b", "a", "b", "a"], ["train", "train", "train", "test"]
    write_packed_images(tmp_path / "images", np.zeros((4, 16, 16, 3), np.uint8), labels, splits)
    with pytest.raises(SparsightError, match="hold several paths"):
        main(arguments(tmp_path / "images", tmp_path / "model", name))
    assert not list(tmp_path.glob("model*"))


def test_a_finished_model_is_registered_without_training_again(
    images: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments(images, tmp_path / "model", name, epochs=2))
    capsys.readouterr()
    main(arguments(images, tmp_path / "model", name, epochs=2))
    told = capsys.readouterr().out
    assert f"Registered {name}/2" in told
    assert "Training" not in told


def test_a_wrong_base_model_is_told_before_anything_is_written(images: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(SparsightError, match="no model named 'photos-of-nobody'"):
        main(arguments(images, tmp_path / "model", name, base_model="photos-of-nobody@latest"))
    assert not list(tmp_path.glob("model*"))
