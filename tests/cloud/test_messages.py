"""What is sent for each pipeline, word for word: jobs, components and environments as golden/ holds them.

After a change that is meant to change messages: `python -m pytest tests/cloud/test_messages.py --update-golden`, and
look at the difference.
"""

from pathlib import Path

import pytest
import yaml
from golden_messages import Golden, Normaliser, version
from loopback import Credential
from toy_project import Project
from workspace_server import WorkspaceServer

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.usefixtures("config")]


@pytest.mark.parametrize("pipeline", [path.stem for path in sorted((ROOT / "pipelines").glob("*.yml"))])
def test_the_messages_of_a_pipeline(
    pipeline: str,
    golden: Golden,
    signed_in: Credential,
    workspace_server: WorkspaceServer,
    sparsight: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPARSIGHT_LABEL_STUDIO_URL", "https://labels.example.com")
    monkeypatch.setenv(
        "SPARSIGHT_LABEL_STUDIO_TOKEN_SECRET", "https://vault.vault.azure.net/secrets/label-studio-token"
    )
    answer = sparsight("submit", pipeline)
    assert answer.code == 0, answer.err
    plain = Normaliser(workspace_server)
    (job,) = workspace_server.sent("PUT", "/jobs/")
    golden(f"jobs/{pipeline}", plain(job.body))
    for message in workspace_server.sent("PUT", "/components/"):
        step = plain.names[version(message)]
        written = yaml.safe_load((ROOT / "components" / step / "component.yml").read_text())["is_deterministic"]
        sent = message.body["properties"]["componentSpec"]["is_deterministic"]
        golden(f"components/{step}{'' if sent == written else '-with-an-alias'}", plain(message.body))
    for message in workspace_server.sent("PUT", "/environments/"):
        golden(f"environments/{plain.names[version(message)]}", plain(message.body))
