"""The registry of a workspace on loopback: versions, stages as tags, downloads, and the command line over them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from golden_messages import Golden, Normaliser
from loopback import Credential
from toy_project import Project
from workspace_server import GROUP, NAME, SUBSCRIPTION, WORKSPACE, Message, Refusal, WorkspaceServer

from sparsight.cloud import workspace
from sparsight.data.artefact import new_artefact
from sparsight.errors import SparsightError
from sparsight.models.backbones import create_backbone
from sparsight.models.classifier import load_backbone
from sparsight.models.folder import BackboneDescription, ModelDescription, Preprocessing, write_model
from sparsight.models.pyfunc import save_pyfunc
from sparsight.stores import azureml_registry
from sparsight.stores.azureml_registry import AzureMLRegistry
from sparsight.stores.lineage import Lineage
from sparsight.stores.models import fetch_model, register_model
from sparsight.stores.registry import open_registry, resolve
from sparsight.stores.settings import signed_in as sign_in

URI = f"azureml://westeurope.api.azureml.ms/mlflow/v1.0{WORKSPACE}"
JOB = {
    "AZUREML_ARM_SUBSCRIPTION": SUBSCRIPTION,
    "AZUREML_ARM_RESOURCEGROUP": GROUP,
    "AZUREML_ARM_WORKSPACE_NAME": NAME,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    description = ModelDescription(
        kind="backbone",
        backbone=BackboneDescription(name="resnet10_narrow", small_image_stem=True),
        preprocessing=Preprocessing(image_size=16, resize="fit", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)),
    )
    target = tmp_path_factory.mktemp("model") / "model"
    with new_artefact(target, "model", {}) as draft:
        write_model(draft.folder, description, create_backbone(description.backbone).state_dict())
        save_pyfunc(draft.folder, description)
    return target


@pytest.fixture
def registry(signed_in: Credential, config: Path) -> AzureMLRegistry:
    return AzureMLRegistry(workspace.open_client(workspace.find_workspace(folder=config, environment={})))


def lineage(score: float, digest: str = "these", run: str = "step-job") -> Lineage:
    return Lineage(
        kind="classifier",
        backbone="resnet10_narrow",
        step="train_classifier",
        run_id=run,
        pipeline_run="classify-1",
        dataset_query={"containers": "elpv", "where": "x" * 3000},
        metrics={"macro_f1": score},
        test_digest=digest,
        test_images=600,
    )


def test_the_message_of_a_model(
    golden: Golden, registry: AzureMLRegistry, workspace_server: WorkspaceServer, folder: Path
) -> None:
    register_model(folder, "photos", lineage(0.7), registry)
    (message,) = workspace_server.sent("PUT", "/models/")
    assert message.path == f"{WORKSPACE}/models/photos/versions/1"
    golden("models/photos", Normaliser(workspace_server)(message.body))


def test_versions_come_back_with_their_lineage(registry: AzureMLRegistry, folder: Path, tmp_path: Path) -> None:
    assert registry.names() == []
    assert registry.versions("photos") == []
    first = register_model(folder, "photos", lineage(0.7), registry)
    second = register_model(folder, "photos", lineage(0.8, run="another"), registry)
    assert (first.reference, second.reference) == ("photos/1", "photos/2")
    assert registry.names() == ["photos"]
    assert [version.number for version in registry.versions("photos")] == [1, 2]
    found = resolve(registry, "photos@latest")
    assert found.number == 2
    assert found.created is not None
    told = Lineage.of_tags(found.tags)
    assert (told.run_id, told.metrics, told.test_images) == ("another", {"macro_f1": 0.8}, 600)
    assert max(map(len, found.tags.values())) <= 1000

    fetched = fetch_model("photos/1", tmp_path / "fetched", registry)
    expected = load_backbone(folder)[0].state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in load_backbone(fetched)[0].state_dict().items())
    names = {path.relative_to(fetched).as_posix() for path in fetched.rglob("*")}
    assert {
        "MLmodel",
        "manifest.json",
        "lineage.json",
        "weights.safetensors",
        "code/sparsight/models/pyfunc.py",
    } <= names
    with pytest.raises(SparsightError, match="no photos/7; it has photos/1, photos/2"):
        resolve(registry, "photos/7")
    with pytest.raises(SparsightError, match="no model named 'photo'; the nearest it has: photos"):
        resolve(registry, "photo@latest")


def test_the_stage_is_a_tag_and_the_lineage_stays(
    registry: AzureMLRegistry, folder: Path, workspace_server: WorkspaceServer
) -> None:
    versions = [register_model(folder, "photos", lineage(score), registry) for score in (0.7, 0.8)]
    for number, version in enumerate(versions):
        registry.promote(version, {"sparsight.promoted_at": f"2026-01-0{number + 1}"})
    assert [version.stage for version in registry.versions("photos")] == ["archived", "production"]
    assert resolve(registry, "photos@production").number == 2
    assert resolve(registry, "photos@archived").number == 1
    sent = workspace_server.resources["/models/photos/versions/2"]["properties"]
    assert sent["tags"]["sparsight.stage"] == "production"
    assert sent["properties"]["sparsight.metric.macro_f1"] == "0.8"
    assert sent["modelType"] == "mlflow_model"


def test_a_promotion_that_was_cut_off_leaves_one_in_production(
    registry: AzureMLRegistry, folder: Path, workspace_server: WorkspaceServer
) -> None:
    versions = [register_model(folder, "photos", lineage(score), registry) for score in (0.7, 0.8)]
    registry.promote(versions[1], {"sparsight.promoted_at": "2026-01-01"})

    def cut(message: Message) -> None:
        if message.method == "PUT" and message.path.endswith("/models/photos/versions/2"):
            raise Refusal(403, "Forbidden", "No more of this.")

    workspace_server.trouble = cut
    with pytest.raises(SparsightError, match=r"Couldn't promote photos/1 in workspace photos-ws.*No more") as caught:
        registry.promote(versions[0], {"sparsight.promoted_at": "2026-01-02"})
    assert "AzureML Data Scientist" in caught.value.hint
    assert [version.stage for version in registry.versions("photos")] == ["production", "archived"]
    workspace_server.trouble = lambda message: None
    registry.promote(versions[1], {"sparsight.promoted_at": "2026-01-03"})
    assert [version.stage for version in registry.versions("photos")] == ["archived", "production"]


def test_a_number_that_another_step_took_is_not_taken_twice(
    registry: AzureMLRegistry, folder: Path, workspace_server: WorkspaceServer
) -> None:
    def faster(message: Message) -> None:
        """Somebody registers other files under the number that was just asked for."""
        if message.method == "PUT" and message.path.endswith("/models/photos/versions/1"):
            workspace_server.trouble = lambda message: None
            properties = {"modelUri": "azureml://elsewhere", "flavors": {}}
            body = {"id": f"{WORKSPACE}/models/photos/versions/1", "name": "1", "properties": properties}
            workspace_server.resources["/models/photos/versions/1"] = {**body, "systemData": {}}

    workspace_server.trouble = faster
    assert register_model(folder, "photos", lineage(0.7), registry).reference == "photos/2"


def test_a_job_finds_its_workspace(
    registry: AzureMLRegistry, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def open_client(*where: str) -> Any:
        asked.append(where)
        return registry.client

    monkeypatch.setattr(azureml_registry, "open_client", open_client)
    for environment in (
        {"MLFLOW_TRACKING_URI": "azureml://eastus.api.azureml.ms/x", **JOB},
        {"MLFLOW_TRACKING_URI": URI},
    ):
        assert isinstance(open_registry(environment), AzureMLRegistry)
    assert asked == [(SUBSCRIPTION, GROUP, NAME)] * 2
    with pytest.raises(SparsightError, match="names no workspace"):
        open_registry({"MLFLOW_TRACKING_URI": "azureml://eastus"})

    monkeypatch.setenv("MLFLOW_TRACKING_URI", URI)
    assert register_model(folder, "photos", lineage(0.7)).reference == "photos/1"
    assert fetch_model("photos@latest", tmp_path / "fetched").is_dir()


def test_a_job_signs_in_as_its_user_or_its_identity() -> None:
    assert type(sign_in({"OBO_ENDPOINT": "http://127.0.0.1:9"})).__name__ == "AzureMLOnBehalfOfCredential"
    assert type(sign_in({"DEFAULT_IDENTITY_CLIENT_ID": "an-identity"})).__name__ == "DefaultAzureCredential"


def test_the_command_line_promotes_in_a_workspace(registry: AzureMLRegistry, folder: Path, toys: Project) -> None:
    for score in (0.7, 0.6):
        register_model(folder, "photos", lineage(score), registry)
    there = ("--workspace", NAME)
    assert toys("models", "promote", "photos/1", *there).code == 0
    worse = toys("models", "promote", "photos@latest", *there)
    assert worse.code == 1
    assert "photos/2 loses by 0.1 to photos/1" in worse.err
    listed = toys("models", "list", *there)
    assert listed.code == 0, listed.err
    assert "photos/1" in listed.out
    assert "pipeline run          classify-1" in toys("models", "show", "photos@production", *there).out
    downloaded = toys("models", "download", "photos@production", *there)
    assert downloaded.code == 0, downloaded.err
    assert (toys.root / "models" / "photos-1" / "weights.safetensors").is_file()


def test_who_is_not_signed_in_is_told(registry: AzureMLRegistry, credential: Credential) -> None:
    credential.lasts = -1
    with pytest.raises(SparsightError, match="Couldn't list the models in workspace photos-ws") as caught:
        registry.names()
    assert "az login" in caught.value.hint
