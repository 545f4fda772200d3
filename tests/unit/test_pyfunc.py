"""Models open with MLflow alone, in a process of their own, and predict from the bytes of image files."""

import base64
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from sparsight.data.artefact import new_artefact
from sparsight.errors import SparsightError
from sparsight.models.classifier import load_backbone, load_classifier, new_classifier
from sparsight.models.folder import (
    BackboneDescription,
    HeadDescription,
    HierarchyDescription,
    ModelDescription,
    Preprocessing,
    write_model,
)
from sparsight.models.pyfunc import PyfuncModel, example_input, save_pyfunc

PREPROCESSING = Preprocessing(image_size=32, resize="fit", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
BACKBONE = BackboneDescription(name="resnet10_narrow", small_image_stem=True)


def write(folder: Path, kind: str) -> Path:
    """Write a model folder with random weights."""
    head = HeadDescription(hidden=8, dropout=0.5)
    described = {"head": head, "classes": ("cat", "dog, wet", "score")}
    torch.manual_seed(0)
    classifier = new_classifier(
        ModelDescription(kind="classifier", backbone=BACKBONE, preprocessing=PREPROCESSING, **described)
    )
    network, extra = (classifier, described) if kind == "classifier" else (classifier.backbone, {})
    description = ModelDescription(kind=kind, backbone=BACKBONE, preprocessing=PREPROCESSING, **extra)
    with new_artefact(folder, "model", {}) as draft:
        write_model(draft.folder, description, network.state_dict())
        save_pyfunc(draft.folder, description)
    return folder


def write_hierarchical(folder: Path, **hierarchy: object) -> Path:
    """Write the folder of a classifier whose labels are cat, dog/boxer and dog/poodle, with random weights."""
    described = ModelDescription(
        kind="classifier",
        backbone=BACKBONE,
        preprocessing=PREPROCESSING,
        head=HeadDescription(hidden=8, dropout=0.5),
        classes=("cat", "dog", "dog/boxer", "dog/poodle"),
        hierarchy=HierarchyDescription(
            heads="per_parent", temperatures={"": 1.5, "dog": 0.8}, decision="confident", **hierarchy
        ),
    )
    torch.manual_seed(0)
    with new_artefact(folder, "model", {}) as draft:
        write_model(draft.folder, described, new_classifier(described).state_dict())
        save_pyfunc(draft.folder, described)
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("models") / "classifier", "classifier")


def photo() -> bytes:
    file = io.BytesIO()
    Image.fromarray(load_sample_image("china.jpg")).save(file, format="JPEG")
    return file.getvalue()


def in_a_fresh_process(folder: Path, contents: list[bytes]) -> list[dict[str, object]]:
    """Predict where Sparsight can only come from the code inside the model folder."""
    script = """
import base64, json, sys, pandas as pd, mlflow.pyfunc
model = mlflow.pyfunc.load_model(sys.argv[1])
frame = pd.DataFrame({"image": [base64.b64decode(text) for text in json.load(sys.stdin)]})
print(model.predict(frame).to_json(orient="records"))
import sparsight; assert sys.argv[1] in sparsight.__file__, sparsight.__file__
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder / "mlflow_model")],
        input=json.dumps([base64.b64encode(content).decode() for content in contents]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_classifier_opens_in_a_fresh_process_and_predicts(classifier: Path) -> None:
    rows = in_a_fresh_process(classifier, [photo(), example_input(32)["image"][0]])
    here = PyfuncModel(classifier / "mlflow_model").predict(pd.DataFrame({"image": [photo()]}))
    for row in rows:
        chances = [row["p(cat)"], row["p(dog, wet)"], row["p(score)"]]
        assert sum(chances) == pytest.approx(1, abs=1e-5)
        assert row["score"] == pytest.approx(max(chances))
    assert rows[0]["label"] == here["label"][0]
    assert rows[0]["score"] == pytest.approx(here["score"][0], abs=1e-4)


def test_a_hierarchical_classifier_tells_each_level_and_node(tmp_path: Path) -> None:
    from mlflow.models import Model

    folder = write_hierarchical(tmp_path / "leaf", threshold=0.0, reject=("dog",))
    (row,) = in_a_fresh_process(folder, [photo()])
    nodes = [row[f"p({name})"] for name in ("cat", "dog", "dog/boxer", "dog/poodle")]
    assert nodes[0] + nodes[1] == pytest.approx(1, abs=1e-5)
    assert nodes[2] + nodes[3] == pytest.approx(nodes[1], abs=1e-5)
    assert row["label_1"] == ("cat" if nodes[0] > nodes[1] else "dog")
    assert row["score_1"] == pytest.approx(max(nodes[:2]))
    assert row["label"] == (row["label_2"] or row["label_1"])
    assert row["rejected"] == row["label"].startswith("dog")
    declared = Model.load(str(folder / "mlflow_model")).signature.outputs.input_names()
    assert declared == list(row)

    unsure = PyfuncModel(write_hierarchical(tmp_path / "unsure", threshold=1.0) / "mlflow_model")
    answer = unsure.predict(pd.DataFrame({"image": [photo()]}))
    assert answer["label"].tolist() == [""]
    assert "rejected" not in answer
    assert answer["label_1"].tolist() == [row["label_1"]]
    assert unsure.predict(pd.DataFrame({"image": []})).empty


def test_a_backbone_gives_embeddings(tmp_path: Path) -> None:
    model = PyfuncModel(write(tmp_path / "backbone", "backbone") / "mlflow_model")
    answer = model.predict(example_input(40))
    assert np.isfinite(answer["embedding"][0]).all()
    assert len(answer["embedding"][0]) == 256


def test_bytes_and_base64_are_the_same_and_the_index_is_kept(classifier: Path) -> None:
    model = PyfuncModel(classifier / "mlflow_model")
    contents = [photo(), base64.b64encode(photo()).decode()]
    answer = model.predict(pd.DataFrame({"image": contents}, index=["a", "b"]))
    assert list(answer.index) == ["a", "b"]
    assert answer.loc["a"].tolist() == answer.loc["b"].tolist()
    assert model.predict(pd.DataFrame({"image": []})).empty


def test_what_cannot_be_read_is_named_by_row(classifier: Path) -> None:
    model = PyfuncModel(classifier / "mlflow_model")
    with pytest.raises(SparsightError, match="row 1"):
        model.predict(pd.DataFrame({"image": [photo(), b"no image"]}))
    with pytest.raises(SparsightError, match="row 0"):
        model.predict(pd.DataFrame({"image": ["!not base64!"]}))
    with pytest.raises(SparsightError, match="column 'image', found picture"):
        model.predict(pd.DataFrame({"picture": [photo()]}))


def test_the_same_weights_give_the_same_files_and_nothing_is_pickled(classifier: Path, tmp_path: Path) -> None:
    again = write(tmp_path / "again", "classifier")
    files = {path.relative_to(again) for path in again.rglob("*") if path.is_file()}
    assert files == {path.relative_to(classifier) for path in classifier.rglob("*") if path.is_file()}
    assert [name for name in sorted(files) if (again / name).read_bytes() != (classifier / name).read_bytes()] == []
    assert not [name for name in files if name.suffix in {".pkl", ".pt", ".pth"}]


def test_signature_and_input_example_are_in_the_model(classifier: Path) -> None:
    from mlflow.models import Model

    model = Model.load(str(classifier / "mlflow_model"))
    assert model.signature.inputs.input_names() == ["image"]
    assert model.signature.outputs.input_names() == ["label", "score", "p(cat)", "p(dog, wet)", "p(score)"]
    example = model.load_input_example(str(classifier / "mlflow_model"))
    content = example["image"][0]
    shape = np.asarray(Image.open(io.BytesIO(content))).shape
    assert shape == (32, 32, 3)


def test_only_the_backbone_of_a_classifier_is_loaded(classifier: Path) -> None:
    whole, description = load_classifier(classifier)
    part, _ = load_backbone(classifier)
    assert description.classes == ("cat", "dog, wet", "score")
    assert not hasattr(part, "head")
    for name, tensor in part.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[f"backbone.{name}"])


def test_a_backbone_is_no_classifier(tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match="expected a classifier"):
        load_classifier(write(tmp_path / "backbone", "backbone"))
