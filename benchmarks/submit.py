"""Seconds from `execute.py submit recognise` to the job accepted, against a workspace on loopback.

The peer is azure-ai-ml alone on the same YAML: `load_job` and `jobs.create_or_update`, which checks less and uploads
the code once a step. Each submission is a process of its own. Of ours the part that isn't the import of azure-ai-ml
is told apart: `own_seconds`, which holds the checks, the uploads and every answer of the workspace. The first
submission finds nothing uploaded (`first_seconds`), those after it find the code as it is.

The workspace is the one of tests/cloud, its storage a real Azurite. How long Azure itself takes to answer can't be
seen here.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "cloud")]

from workspace_server import GROUP, NAME, SUBSCRIPTION, WorkspaceServer  # noqa: E402
from workspace_storage import WorkspaceStorage  # noqa: E402

from sparsight.local.services import environment, running_services  # noqa: E402

PIPELINE = "recognise"
POINT = """
import os, sys
from pathlib import Path
from loopback import Credential, open_client, storage_address
mapping, key, value = storage_address(os.environ["SPARSIGHT_BLOB_ENDPOINT"])
mapping[key] = value
"""
OURS = (
    POINT
    + """
from sparsight.cli import main
from sparsight.cloud import workspace
workspace.open_client = lambda where: open_client(where, sys.argv[1], Credential())
main(Path(sys.argv[2]), ["submit", sys.argv[3]])
"""
)
PEERS = (
    POINT
    + """
from azure.ai.ml import load_job
from sparsight.cloud.workspace import find_workspace
client = open_client(find_workspace(environment=os.environ), sys.argv[1], Credential())
client.jobs.create_or_update(load_job(Path(sys.argv[2], "pipelines", sys.argv[3] + ".yml")))
"""
)
IMPORT = "from azure.ai.ml import MLClient, load_job"


@contextmanager
def loopback() -> Iterator[tuple[WorkspaceServer, dict[str, str]]]:
    """Run a workspace; gives it and the environment in which it is found."""
    with tempfile.TemporaryDirectory() as home, running_services(Path(home, "services")) as services:
        stores = environment(services)
        variables = {
            "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
            "AZURE_RESOURCE_GROUP": GROUP,
            "AZUREML_WORKSPACE_NAME": NAME,
            "PYTHONPATH": str(ROOT / "tests" / "cloud"),
        }
        storage = WorkspaceStorage(stores)
        with WorkspaceServer(Path(home, "workspace"), storage, stores) as server:
            yield server, {**os.environ, **stores, **variables}
        storage.close()


def seconds(program: str, *arguments: str, within: dict[str, str] | None = None) -> float:
    """Time a program in a process of its own."""
    start = time.perf_counter()
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
    done = subprocess.run(command, env=within, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one submission of each: within a minute")
    quick = parser.parse_args().quick
    rounds = 1 if quick else 5
    imports, ours, peers = [], [], []
    with loopback() as (server, within):
        seconds(IMPORT)  # files that no other process has read yet are not our time
        first = seconds(OURS, server.url, str(ROOT), PIPELINE, within=within)
        print(f"first submission, code and environments uploaded: {first:.1f} s")
        for _ in range(rounds):
            imports.append(seconds(IMPORT))
            ours.append(seconds(OURS, server.url, str(ROOT), PIPELINE, within=within))
            peers.append(seconds(PEERS, server.url, str(ROOT), PIPELINE, within=within))
            print(f"import {imports[-1]:.1f} s, submit {ours[-1]:.1f} s, azure-ai-ml alone {peers[-1]:.1f} s")
        accepted = len(server.jobs)
    if accepted != 1 + 2 * rounds:
        sys.exit(f"{accepted} jobs were accepted, expected {1 + 2 * rounds}")
    bare, own, peer = (statistics.median(times) for times in (imports, ours, peers))
    result = {
        "name": "submit",
        "peer": "azure-ai-ml, load_job and create_or_update",
        "ratio": round(peer / own, 2),
        "seconds": round(own, 2),
        "first_seconds": round(first, 2),
        "own_seconds": round(own - bare, 2),
        "first_own_seconds": round(first - bare, 2),
        "import_seconds": round(bare, 2),
        "peer_seconds": round(peer, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
