"""The main job in a workspace: recognise.yml submitted, run there, followed, fetched, its backbone registered."""

import json
from pathlib import Path

import pytest
from toy_project import Project
from workspace_server import WorkspaceServer

from sparsight.cloud import following
from sparsight.data.samples import load_digits
from sparsight.local.services import Services
from sparsight.stores.models import fetch_model

SIZE = {
    "containers": "digits",
    "train_ratio": "0.75",
    "valid_ratio": "0.25",
    "test_ratio": "0",
    "image_size": "16",
    "backbone": "resnet10_narrow",
    "pretraining_epochs": "1",
    "pretraining_batch_size": "64",
    "queue_size": "128",
    "classifier_epochs": "3",
    "model_name": "recognise-there",
}


@pytest.mark.usefixtures("config", "signed_in")
def test_submitted_run_followed_fetched_registered(
    service_environment: Services,
    workspace_server: WorkspaceServer,
    toys: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load_digits(limit=400, labelled=120, test=80)
    workspace_server.runs_jobs = True
    monkeypatch.setattr(following, "INTERVAL", 0.5)
    pipeline = Path(__file__).parents[2] / "pipelines" / "recognise.yml"
    settings = [f"--set={name}={value}" for name, value in SIZE.items()]
    answer = toys("submit", str(pipeline), *settings, "--wait")
    assert answer.code == 0, answer.out + answer.err
    (job,) = workspace_server.jobs.values()
    for step in job.properties["jobs"]:
        assert f"{step}: done after" in answer.out
    log = toys.root / "jobs" / job.name / "pretrain" / "log.txt"
    assert "epoch 1/1" in log.read_text()

    fetched = toys("fetch", job.name, "--into", str(tmp_path / "fetched"))
    assert fetched.code == 0, fetched.err
    comparison = tmp_path / "fetched" / "compare" / "outputs" / "comparison"
    content = json.loads((comparison / "comparison.json").read_text())
    assert {model["images"] for model in content["models"].values()} == {80}
    assert (comparison / "index.html").is_file()
    backbone = tmp_path / "fetched" / "pretrain" / "outputs" / "model" / "weights.safetensors"
    registered = fetch_model("recognise-there@latest", tmp_path / "registered")
    assert (registered / "weights.safetensors").read_bytes() == backbone.read_bytes()
