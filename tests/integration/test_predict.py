"""Prediction from end to end: photos in the stores, a classifier from the registry; predictions, embeddings, export."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from packed_images import write_packed_images
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from sklearn.metrics import roc_auc_score

from sparsight.data.artefact import read_manifest
from sparsight.data.embeddings import Embeddings
from sparsight.data.packed import PackedImages
from sparsight.data.predictions import SCHEMA, load_predictions
from sparsight.data.samples import load_folder
from sparsight.errors import SparsightError
from sparsight.local.records import RunFolder, all_runs
from sparsight.local.services import Services, environment
from sparsight.models.predictor import UnlikeImagesError
from sparsight.models.pyfunc import PyfuncModel
from sparsight.steps.embed import Arguments as EmbedArguments
from sparsight.steps.embed import main as embed
from sparsight.steps.predict import Arguments, main
from sparsight.steps.train_classifier import Arguments as TrainArguments
from sparsight.steps.train_classifier import main as train
from sparsight.stores.models import fetch_model

PIPELINES = Path(__file__).parents[2] / "pipelines"
ENTRY = "import sys; from pathlib import Path; from sparsight.cli import main; main(Path(sys.argv[1]), sys.argv[2:])"
NAME = "predict-test"


def execute(root: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ENTRY, str(root), *words], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def predict(root: Path, **settings: str) -> RunFolder:
    pairs = [f"--set={name}={value}" for name, value in ({"model": f"{NAME}@latest"} | settings).items()]
    execute(root, "run", str(PIPELINES / "predict.yml"), *pairs)
    return next(all_runs(root / "runs"))


@pytest.fixture(scope="module", autouse=True)
def stores(services: Services) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(services).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def root(stores: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a registered classifier of digits; in the stores are other digits, and photos that show none."""
    root = tmp_path_factory.mktemp("project")
    data, target = load_digits(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(data))
    pixels = np.kron(data[chosen].reshape(-1, 8, 8) * (255 / 16), np.ones((2, 2))).astype(np.uint8)
    pixels = np.repeat(pixels[..., None], 3, axis=3)
    for number in range(80):
        store(root / "numerals" / f"{number:02d}.png", pixels[number])
    for number, photo in enumerate(load_sample_images().images):
        for part in range(20):
            store(root / "things" / f"{number}-{part:02d}.png", photo[19 * part :][:120, 23 * part :][:, :120])
    for name in ("numerals", "things"):
        load_folder(root / name, name=name)
    labels = [f"digit/{each}" for each in target[chosen]]
    splits = ["train"] * 300 + ["valid"] * 100 + ["test"] * 100
    images = write_packed_images(root / "images", pixels[80:580], labels[80:580], splits, resize="squash")
    train(
        TrainArguments(
            images=images,
            model=root / "model",
            model_name=NAME,
            backbone="resnet10_narrow",
            epochs=40,
            augmentation_passes=1,
            horizontal_flip=0,
        )
    )
    return root


def store(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(file)


@pytest.fixture(scope="module")
def run(root: Path) -> RunFolder:
    return predict(root, containers="numerals,things")


def output(run: RunFolder, step: str, name: str) -> Path:
    return run.path / step / "outputs" / name


def test_every_photo_is_predicted_as_the_model_wants_its_images(run: RunFolder) -> None:
    folder = output(run, "predict", "predictions")
    manifest = read_manifest(folder, "predictions")
    assert manifest.parameters["model"] == f"{NAME}/1"
    images = PackedImages(output(run, "images", "images"))
    assert (images.size, images.manifest.parameters["resize"]) == ((16, 16), "squash")
    table = load_predictions(folder)
    assert len(table) == manifest.counts["photos"] == 80 + 40
    assert table["id"].tolist() == images.index["id"].tolist()
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text("utf-8").splitlines()]
    assert [list(line) for line in lines] == [SCHEMA.names] * len(table)
    assert [line["label"] for line in lines] == table["label"].tolist()
    for line in lines:
        assert line["label"].startswith("digit/")
        assert [each["label"] for each in line["levels"]] == ["digit", line["label"]]
        assert line["levels"][0]["probability"] == pytest.approx(1, abs=1e-5)
        assert line["levels"][1]["probability"] == pytest.approx(line["score"], abs=1e-5)
        assert 0 <= line["entropy"] <= 1
        assert 0 <= line["margin"] <= line["score"]
    assert (folder / "index.html").stat().st_size > 10_000


def test_photos_that_show_no_digit_are_unfamiliar(run: RunFolder) -> None:
    table = load_predictions(output(run, "predict", "predictions"))
    containers = json.loads((output(run, "photos", "dataset") / "containers.json").read_text())
    things = table["id"].map(containers) == "things"
    assert table["unfamiliar"][~things].astype(bool).mean() < 0.2
    assert table["unfamiliar"][things].astype(bool).mean() > 0.8
    assert roc_auc_score(things, table["distance"]) > 0.95


def test_run_again_it_asks_and_reuses_the_rest(run: RunFolder, root: Path) -> None:
    again = predict(root, containers="numerals,things")
    statuses = {name: again.read_step(name).status for name in again.read().steps}
    assert {name for name, status in statuses.items() if status != "reused"} == {"photos", "model"}


def test_the_mlflow_model_and_the_exported_one_say_the_same(run: RunFolder, root: Path) -> None:
    told = load_predictions(output(run, "predict", "predictions")).iloc[::17]
    images = PackedImages(output(run, "images", "images"))
    pixels = images.gather(told.index.to_numpy())
    files = []
    for each in pixels:
        file = io.BytesIO()
        Image.fromarray(each).save(file, format="PNG")
        files.append(file.getvalue())
    model = fetch_model(f"{NAME}/1", root / "fetched")
    answer = PyfuncModel(model).predict(pd.DataFrame({"image": files}))
    assert answer["label"].tolist() == told["label"].tolist()
    np.testing.assert_allclose(answer["score"], told["score"], atol=1e-4)
    np.testing.assert_allclose(answer["distance"], told["distance"], atol=1e-4, rtol=1e-4)
    assert answer["unfamiliar"].tolist() == told["unfamiliar"].tolist()

    said = execute(root, "models", "export", f"{NAME}@latest", "--onnx", "model.onnx")
    assert said.splitlines() == [f"{NAME}/1: model.onnx"]
    session = onnxruntime.InferenceSession(root / "model.onnx")
    probabilities, embedding, distance = session.run(["probabilities", "embedding", "distance"], {"images": pixels})
    labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
    assert [labels[number] for number in probabilities.argmax(axis=1)] == told["label"].tolist()
    np.testing.assert_allclose(probabilities.max(axis=1), told["score"], atol=1e-4)
    np.testing.assert_allclose(distance, told["distance"], atol=1e-4, rtol=1e-4)
    embed(EmbedArguments(images=images.folder, model=f"{NAME}@latest", precision="float32", embeddings=root / "points"))
    points = Embeddings(root / "points")
    assert points.manifest.parameters["model"] == f"{NAME}/1"
    assert points.index["id"].tolist() == images.index["id"].tolist()
    np.testing.assert_allclose(embedding, points.values[told.index], atol=1e-4, rtol=1e-4)


def test_images_that_do_not_fit_the_model_are_refused(root: Path, tmp_path: Path) -> None:
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    images = write_packed_images(tmp_path / "images", pixels, ["", ""], ["train", "train"])
    with pytest.raises(UnlikeImagesError, match="images of 32 pixels, resize fit; predict-test/1 was trained on 16"):
        main(Arguments(images=images, model=f"{NAME}/1", predictions=tmp_path / "predictions"))
    with pytest.raises(SparsightError, match="no predict-test@production; it has predict-test@latest"):
        main(Arguments(images=images, model=f"{NAME}@production", predictions=tmp_path / "predictions"))
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_a_model_of_an_older_version_leaves_distances_empty(run: RunFolder, root: Path, tmp_path: Path) -> None:
    model = fetch_model(f"{NAME}/1", tmp_path / "model")
    (model / "familiarity.safetensors").unlink()
    images = output(run, "images", "images")
    main(Arguments(images=images, model_folder=model, predictions=tmp_path / "predictions"))
    table = load_predictions(tmp_path / "predictions")
    assert table["distance"].isna().all()
    assert table["unfamiliar"].isna().all()
    assert "holds nothing of its training photos" in (tmp_path / "predictions" / "index.html").read_text()
    with_distances = load_predictions(output(run, "predict", "predictions"))
    assert table["label"].tolist() == with_distances["label"].tolist()
