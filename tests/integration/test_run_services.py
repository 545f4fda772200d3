"""A run starts the services that its steps name, hands over their variables, and leaves no key behind."""

from pathlib import Path

import pytest

from sparsight.cli import main
from sparsight.local.services import Services, environment

COMPONENT = """\
$schema: https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json
name: look
version: "1"
type: command
tags: {services: azurite}
outputs:
  seen: {type: uri_folder}
environment: {image: mcr.microsoft.com/azureml/minimal-ubuntu22.04-py39-cpu-inference}
command: >-
  echo "$SPARSIGHT_BLOB_ENDPOINT" > ${{outputs.seen}}/endpoint.txt;
  test -n "$SPARSIGHT_BLOB_KEY" && test -z "$MLFLOW_TRACKING_URI" && echo complete > ${{outputs.seen}}/variables.txt
"""
PIPELINE = """\
$schema: https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json
type: pipeline
settings: {default_compute: azureml:cpu}
jobs:
  look: {type: command, component: ./look.yml}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "look.yml").write_text(COMPONENT)
    (tmp_path / "looking.yml").write_text(PIPELINE)
    return tmp_path


def run(root: Path, *arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(root, ["run", str(root / "looking.yml"), *arguments])
    return ended.value.code


def test_a_step_finds_the_services_it_names(root: Path, services: Services) -> None:
    assert run(root) == 0
    seen = next(root.glob("runs/*/look/outputs/seen"))
    assert (seen / "endpoint.txt").read_text().strip() == services["azurite"].url
    assert (seen / "variables.txt").read_text() == "complete\n"
    key = environment(services)["SPARSIGHT_BLOB_KEY"]
    assert not [file for file in root.rglob("*") if file.is_file() and key in file.read_text()]


def test_without_services_a_step_finds_what_the_environment_names(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSIGHT_BLOB_ENDPOINT", "https://photos.example")
    assert run(root, "--no-services") == 1  # no key there
    assert next(root.glob("runs/*/look/outputs/seen/endpoint.txt")).read_text() == "https://photos.example\n"
