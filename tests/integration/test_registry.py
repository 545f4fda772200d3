"""The model registry against a real MLflow server: publish, fetch, and errors that say what there is instead."""

import json
import uuid
from pathlib import Path

import mlflow
import pytest
import torch

from sparsight.data.artefact import new_artefact
from sparsight.errors import SparsightError
from sparsight.models.classifier import load_backbone
from sparsight.models.folder import BackboneDescription, ModelDescription, Preprocessing, read_description, write_model
from sparsight.models.pyfunc import example_input, save_pyfunc
from sparsight.stores.lineage import Lineage
from sparsight.stores.models import fetch_model, register_model
from sparsight.stores.registry import is_reference

pytestmark = [pytest.mark.usefixtures("service_environment")]


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name of this test's own for experiment and model."""
    name = f"photos-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    return name


def backbone_folder(folder: Path, seed: int = 0) -> Path:
    from sparsight.models.backbones import create_backbone

    torch.manual_seed(seed)
    description = ModelDescription(
        kind="backbone",
        backbone=BackboneDescription(name="resnet10_narrow", small_image_stem=True),
        preprocessing=Preprocessing(image_size=32, resize="fit", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)),
        hyperparameters={"seed": seed},
    )
    with new_artefact(folder, "model", {"seed": seed}) as draft:
        write_model(draft.folder, description, create_backbone(description.backbone).state_dict())
        save_pyfunc(draft.folder, description)
    return folder


def publish(folder: Path, name: str) -> str:
    with mlflow.start_run() as run:
        return register_model(folder, name, lineage(run.info.run_id)).reference


def lineage(run_id: str = "0") -> Lineage:
    return Lineage(kind="backbone", backbone="resnet10_narrow", step="train_moco", run_id=run_id)


def test_versions_come_back_as_they_were_published(tmp_path: Path, name: str) -> None:
    folders = [backbone_folder(tmp_path / f"model-{seed}", seed) for seed in range(2)]
    assert [publish(folder, name) for folder in folders] == [f"{name}/1", f"{name}/2"]

    latest = fetch_model(f"{name}@latest", tmp_path / "latest")
    first = fetch_model(f"{name}/1", tmp_path / "first")
    assert [read_description(folder).hyperparameters["seed"] for folder in (first, latest)] == [0, 1]
    for fetched, published in ((first, folders[0]), (latest, folders[1])):
        expected = load_backbone(published)[0].state_dict()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in load_backbone(fetched)[0].state_dict().items())
    version = mlflow.MlflowClient().get_model_version(name, "2")
    assert Lineage.of_tags(version.tags) == lineage(version.run_id)
    assert json.loads((latest / "lineage.json").read_text())["run_id"] == version.run_id
    assert mlflow.get_run(version.run_id).info.status == "FINISHED"


def test_an_alias_names_a_version(tmp_path: Path, name: str) -> None:
    folder = backbone_folder(tmp_path / "model")
    publish(folder, name)
    publish(folder, name)
    mlflow.MlflowClient().set_registered_model_alias(name, "champion", "1")
    assert fetch_model(f"{name}@champion", tmp_path / "champion").is_dir()
    with pytest.raises(SparsightError, match=rf"{name}@latest, {name}@candidate, {name}@champion"):
        fetch_model(f"{name}@challenger", tmp_path / "challenger")


def test_a_published_model_opens_with_mlflow_by_name(tmp_path: Path, name: str) -> None:
    import mlflow.pyfunc

    publish(backbone_folder(tmp_path / "model"), name)
    answer = mlflow.pyfunc.load_model(f"models:/{name}/1").predict(example_input(32))
    assert len(answer["embedding"][0]) == 256


def test_what_is_not_there_is_told_with_what_is(tmp_path: Path, name: str) -> None:
    publish(backbone_folder(tmp_path / "model"), name)
    with pytest.raises(SparsightError, match=f"no model named '{name}x'; the nearest it has: {name}") as caught:
        fetch_model(f"{name}x@latest", tmp_path / "fetched")
    assert "Models page of http://127.0.0.1:" in caught.value.hint
    with pytest.raises(SparsightError, match=f"no {name}/7; it has {name}/1"):
        fetch_model(f"{name}/7", tmp_path / "fetched")
    with pytest.raises(SparsightError, match=r"expected name@latest, name@alias or name/3"):
        fetch_model("name' or 1=1", tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


def test_a_download_that_breaks_off_leaves_nothing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(backbone_folder(tmp_path / "model"), name)
    original = mlflow.artifacts.download_artifacts

    def broken(*, artifact_uri: str, dst_path: str) -> str:
        original(artifact_uri=artifact_uri, dst_path=dst_path)
        raise ConnectionError("the line went dead")

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", broken)
    into = tmp_path / "fetched" / "model"
    with pytest.raises(SparsightError, match="the line went dead"):
        fetch_model(f"{name}@latest", into)
    assert list(into.parent.iterdir()) == []


def test_a_model_that_is_not_ours_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    client = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        client.log_artifact(run.info.run_id, str(tmp_path / "MLmodel"), "model")
    client.create_registered_model(name)
    client.create_model_version(name, f"runs:/{run.info.run_id}/model", run.info.run_id)
    with pytest.raises(SparsightError, match="Sparsight didn't make it"):
        fetch_model(f"{name}@latest", tmp_path / "fetched")


def test_a_name_or_folder_that_will_not_do_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SparsightError, match="can't be a model's name"):
        register_model(tmp_path, "photos/new", lineage())
    with pytest.raises(SparsightError, match="no mlflow_model folder"):
        register_model(tmp_path, name, lineage())


@pytest.mark.parametrize(("text", "expected"), [("a@latest", True), ("a/3", True), ("a", False), ("./a/b", False)])
def test_references_are_told_from_paths(text: str, expected: bool) -> None:
    assert is_reference(text) is expected
