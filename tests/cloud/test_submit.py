"""Submitting to a workspace on loopback: what is sent, once and no more, and what is refused before."""

import json
import re
from pathlib import Path

import pytest
from loopback import Credential
from toy_project import Project
from workspace_server import Message, Refusal, WorkspaceServer

from sparsight.cloud.snapshot import snapshot_of

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.usefixtures("config")]


def uploads(server: WorkspaceServer) -> list[str]:
    """Names of the files in the containers that were opened for uploads."""
    containers = [each.name for each in server.storage.service.list_containers() if server.storage.own in each.name]
    opened = [name for name in containers if not name.startswith("azureml")]
    return [blob for name in opened for blob in server.storage.service.get_container_client(name).list_blob_names()]


def test_a_job_is_submitted_with_its_values_and_its_surroundings(
    signed_in: Credential, workspace_server: WorkspaceServer, sparsight: Project
) -> None:
    answer = sparsight("submit", "pretrain", "--set", "epochs=3", "--experiment", "tries")
    assert answer.code == 0, answer.err
    (message,) = workspace_server.sent("PUT", "/jobs/")
    name = message.path.rpartition("/")[2]
    properties = message.body["properties"]
    assert properties["inputs"]["epochs"] == {"value": "3", "jobInputType": "literal"}
    assert properties["experimentName"] == "tries"
    for step, node in properties["jobs"].items():
        variables = node["environment_variables"]
        assert node["display_name"] == step
        assert variables["SPARSIGHT_BLOB_ENDPOINT"] == workspace_server.variables["SPARSIGHT_BLOB_ENDPOINT"]
        assert set(variables) == {*("SPARSIGHT_COSMOS_ENDPOINT", "SPARSIGHT_BLOB_ENDPOINT", "SPARSIGHT_CODE_VERSION")}
    assert re.search(rf"^Submitted {name} to workspace photos-ws", answer.out)
    assert f"python execute.py jobs {name} --wait" in answer.out


def test_the_inputs_processes_and_instances_become_what_azure_ml_launches(
    signed_in: Credential, workspace_server: WorkspaceServer, sparsight: Project
) -> None:
    answer = sparsight("submit", "pretrain", "--set", "processes=4", "--set", "instances=2")
    assert answer.code == 0, answer.err
    (message,) = workspace_server.sent("PUT", "/jobs/")
    nodes = message.body["properties"]["jobs"]
    assert nodes["pretrain"]["distribution"] == {"distribution_type": "Mpi", "process_count_per_instance": 4}
    assert nodes["pretrain"]["resources"] == {"instance_count": 2, "shm_size": "8g"}
    assert nodes["images"]["distribution"] == {"distribution_type": "Mpi", "process_count_per_instance": 1}
    assert nodes["images"]["resources"] == {"instance_count": 2}
    assert "distribution" not in nodes["photos"]
    specs = [each.body["properties"]["componentSpec"] for each in workspace_server.sent("PUT", "/components/")]
    written = [spec["distribution"] for spec in specs if "distribution" in spec]
    assert written == [{"type": "mpi", "process_count_per_instance": 1}] * 2, "components are the same for any number"


def test_no_message_holds_a_key(signed_in: Credential, workspace_server: WorkspaceServer, sparsight: Project) -> None:
    sparsight("submit", "recognise")
    keys = [value for name, value in workspace_server.variables.items() if name.endswith("_KEY")]
    assert len(keys) == 2
    sent = json.dumps([message.body for message in workspace_server.messages])
    assert not any(key in sent for key in keys)


def test_code_shared_by_all_steps_goes_up_once_and_a_second_submit_uploads_nothing(
    signed_in: Credential, workspace_server: WorkspaceServer, sparsight: Project
) -> None:
    assert sparsight("submit", "recognise").code == 0
    assert len(workspace_server.sent("POST", "startPendingUpload")) == 1
    first = uploads(workspace_server)
    assert "src/sparsight/steps/train_moco.py" in first
    assert sparsight("submit", "recognise").code == 0
    assert len(workspace_server.sent("POST", "startPendingUpload")) == 1
    assert uploads(workspace_server) == first
    first_job, second_job = workspace_server.jobs.values()
    assert second_job.properties["jobs"] == first_job.properties["jobs"]  # else no step's result would be reused


def test_the_snapshot_is_src_alone_and_small() -> None:
    snapshot = snapshot_of(ROOT / "src")
    assert snapshot.size < 2e6
    assert {Path(name).parts[0] for name in snapshot.files} == {".amlignore", "sparsight"}
    suffixes = {Path(name).suffix for name in snapshot.files if name != ".amlignore"}
    assert suffixes <= {".py", ".js", ".html", ".css", ".typed"}
    assert not any("__pycache__" in name for name in snapshot.files)


def test_a_dry_run_tells_graph_snapshot_and_job_and_sends_nothing(
    signed_in: Credential, workspace_server: WorkspaceServer, sparsight: Project
) -> None:
    answer = sparsight("submit", "pretrain", "--set", "epochs=3", "--dry-run")
    assert answer.code == 0, answer.err
    assert workspace_server.messages == []
    assert signed_in.asked == 0
    assert "images [data_prep]  after photos" in answer.out
    assert "sparsight/steps/train_moco.py" in answer.out
    job = json.loads(answer.out.partition("\nJob:\n")[2].partition("\nNothing was sent.")[0])
    assert job["properties"]["inputs"]["epochs"]["value"] == "3"
    assert "sparsight.steps.train_moco" in job["properties"]["jobs"]["pretrain"]["componentId"]["command"]


def test_wrong_inputs_are_told_and_nothing_is_sent(
    signed_in: Credential, workspace_server: WorkspaceServer, sparsight: Project
) -> None:
    answer = sparsight("submit", "pretrain", "--set", "epoch=3", "--set", "temperature=-1")
    assert answer.code == 2
    assert "the pipeline has no input 'epoch'; did you mean 'epochs'?" in answer.err
    assert "temperature" in answer.err
    assert workspace_server.messages == []


def test_a_compute_that_does_not_exist_is_named_with_the_nearest(
    signed_in: Credential, workspace_server: WorkspaceServer, sparsight: Project
) -> None:
    answer = sparsight("submit", "pretrain", "--compute", "cpu-clutser")
    assert answer.code == 2
    assert "has no compute 'cpu-clutser'; did you mean 'cpu-cluster'?" in answer.err
    assert workspace_server.jobs == {}


def test_one_compute_for_all_steps(
    signed_in: Credential, workspace_server: WorkspaceServer, sparsight: Project
) -> None:
    assert sparsight("submit", "pretrain", "--compute", "gpu-cluster").code == 0
    (job,) = workspace_server.jobs.values()
    assert job.properties["settings"]["default_compute"].endswith("/computes/gpu-cluster")
    assert not any("computeId" in node for node in job.properties["jobs"].values())


def test_a_compute_without_quota_is_told_before_the_job_waits_for_it(
    signed_in: Credential, workspace_server: WorkspaceServer, sparsight: Project
) -> None:
    workspace_server.compute_errors["gpu-cluster"] = "ClusterCoreQuotaReached"
    answer = sparsight("submit", "pretrain")
    assert answer.code == 2
    assert "The compute 'gpu-cluster' can't give nodes: ClusterCoreQuotaReached" in answer.err
    assert "quota" in answer.err
    assert workspace_server.jobs == {}


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (Refusal(403, "AuthorizationFailed", "The client may not write jobs."), "AzureML Data Scientist"),
        (Refusal(401, "InvalidAuthenticationToken", "The access token is invalid."), "az login"),
        (Refusal(400, "UserError", "The core quota of the subscription is exceeded."), "more quota"),
        (Refusal(503, "ServiceUnavailable", "Try later."), "can't be reached"),
    ],
)
def test_what_azure_refuses_is_one_message(
    refusal: Refusal,
    told: str,
    signed_in: Credential,
    workspace_server: WorkspaceServer,
    sparsight: Project,
) -> None:
    def refuse(message: Message) -> None:
        if message.method == "PUT" and "/jobs/" in message.path:
            raise refusal

    workspace_server.trouble = refuse
    answer = sparsight("submit", "pretrain")
    assert answer.code == 2
    assert refusal.message in answer.err
    assert told in answer.err
    assert "Traceback" not in answer.err


def test_nobody_signed_in(
    workspace_server: WorkspaceServer, signed_in: Credential, sparsight: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azure.identity import CredentialUnavailableError

    def nobody(*_: object, **__: object) -> None:
        raise CredentialUnavailableError(message="Please run 'az login' to set up an account")

    monkeypatch.setattr(signed_in, "get_token", nobody)
    answer = sparsight("submit", "pretrain")
    assert answer.code == 2
    assert "Azure doesn't know who is asking" in answer.err
    assert "az login" in answer.err


def test_a_workspace_that_does_not_exist(signed_in: Credential, sparsight: Project) -> None:
    answer = sparsight("submit", "pretrain", "--workspace", "other-ws")
    assert answer.code == 2
    assert "other-ws" in answer.err


def test_a_job_whose_steps_would_not_find_their_photos_is_refused(
    signed_in: Credential, workspace_server: WorkspaceServer, sparsight: Project, config: Path
) -> None:
    content = json.loads((config / "config.json").read_text())
    del content["blob_endpoint"]
    (config / "config.json").write_text(json.dumps(content))
    answer = sparsight("submit", "pretrain")
    assert answer.code == 2
    assert "SPARSIGHT_BLOB_ENDPOINT isn't set" in answer.err
    assert "blob_endpoint into config.json" in answer.err
    assert workspace_server.messages == []


PUSHING = f"""\
$schema: https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json
type: pipeline
settings: {{default_compute: azureml:cpu-cluster}}
inputs:
  selection: {{type: uri_folder, path: ./selection}}
  dataset: {{type: uri_folder, path: ./dataset}}
jobs:
  push:
    type: command
    component: {Path(__file__).parents[2] / "components" / "push_tasks" / "component.yml"}
    inputs: {{selection: "${{{{parent.inputs.selection}}}}", dataset: "${{{{parent.inputs.dataset}}}}"}}
"""
SECRET = "https://cells.vault.azure.net/secrets/label-studio-token"


def test_a_step_that_labels_gets_label_studios_address_and_its_secrets_but_never_the_token(
    signed_in: Credential, sparsight: Project, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config / "pushing.yml").write_text(PUSHING)
    for name in ("selection", "dataset"):
        (config / name).mkdir()
    monkeypatch.setenv("SPARSIGHT_LABEL_STUDIO_URL", "https://labels.example.com")
    monkeypatch.setenv("SPARSIGHT_LABEL_STUDIO_TOKEN", "never-sent")
    answer = sparsight("submit", str(config / "pushing.yml"), "--dry-run")
    assert answer.code == 2
    assert "SPARSIGHT_LABEL_STUDIO_TOKEN_SECRET isn't set" in answer.err
    assert "label_studio_token_secret into config.json" in answer.err
    monkeypatch.setenv("SPARSIGHT_LABEL_STUDIO_TOKEN_SECRET", "never-sent")
    answer = sparsight("submit", str(config / "pushing.yml"), "--dry-run")
    assert "SPARSIGHT_LABEL_STUDIO_TOKEN_SECRET is not the address of a secret" in answer.err
    monkeypatch.setenv("SPARSIGHT_LABEL_STUDIO_TOKEN_SECRET", SECRET)
    answer = sparsight("submit", str(config / "pushing.yml"), "--dry-run")
    assert answer.code == 0, answer.err
    assert '"SPARSIGHT_LABEL_STUDIO_URL": "https://labels.example.com"' in answer.out
    assert f'"SPARSIGHT_LABEL_STUDIO_TOKEN_SECRET": "{SECRET}"' in answer.out
    assert "never-sent" not in answer.out


def test_a_tuning_gets_the_address_of_its_databases_secret_and_never_a_url(
    sparsight: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSIGHT_TUNING_STORAGE", "postgresql://tuner:never-sent@db.example.com/studies")
    monkeypatch.setenv("SPARSIGHT_TUNING_STORAGE_SECRET", "never-sent")
    answer = sparsight("submit", "tune", "--dry-run")
    assert answer.code == 2
    assert "SPARSIGHT_TUNING_STORAGE_SECRET is not the address of a secret" in answer.err
    secret = "https://cells.vault.azure.net/secrets/studies"
    monkeypatch.setenv("SPARSIGHT_TUNING_STORAGE_SECRET", secret)
    answer = sparsight("submit", "tune", "--dry-run")
    assert answer.code == 0, answer.err
    assert f'"SPARSIGHT_TUNING_STORAGE_SECRET": "{secret}"' in answer.out
    assert "never-sent" not in answer.out
