"""The local servers: how each is started, on which address it answers, and how to see that it is well."""

import base64
import hashlib
import hmac
import http.client
import json
import os
import secrets
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from sparsight.errors import SparsightError
from sparsight.local import label_studio, optuna_dashboard
from sparsight.local.asking import ask
from sparsight.local.processes import HOST, kept_secret
from sparsight.stores.settings import AZURITE_API_VERSION

ACCOUNT = "devstoreaccount1"
NODE_VERSION = 20
_INSTALL = "Install Node.js 20 or newer from https://nodejs.org, then run `make install`."
# A server gets these from the user's environment and nothing else, so that no stray setting changes what it does.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH")


@dataclass(frozen=True, kw_only=True)
class Server:
    """One kind of server.

    Args:
        title: its name for people.
        patience: seconds it may take to answer after it was started.
        command: its command line, from the port and its data folder; must hold no secret.
        environment: variables it needs beside the few of the user's that every server gets.
        url: the address its clients use, from the port.
        answers: whether it speaks its protocol on this port; raises OSError or HTTPException when it does not.
        note: what people must know to use it by hand, from its data folder; names files with secrets, never a secret.
    """

    title: str
    patience: float
    command: Callable[[int, Path], Sequence[str]]
    environment: Callable[[Path], Mapping[str, str]]
    url: Callable[[int], str]
    answers: Callable[[int, Path], bool]
    note: Callable[[Path], str] = lambda data: ""

    def full_environment(self, data: Path) -> dict[str, str]:
        """Return all the variables that the server's process gets."""
        passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return passed_on | dict(self.environment(data))

    def is_healthy(self, port: int, data: Path) -> bool:
        """Ask the server something in its own protocol; any failure is a no."""
        try:
            return self.answers(port, data)
        except (OSError, http.client.HTTPException, ValueError):
            return False


def account_key(data: Path) -> str:
    """Return the random account key of a data folder, in base64; it is made on first use, for its owner's eyes only."""
    return kept_secret(data / "account.key", lambda: base64.b64encode(secrets.token_bytes(64)).decode())


def node_modules() -> Path:
    """Find the folder that holds both npm packages, in this repository.

    Raises:
        SparsightError: they are not installed.
    """
    for folder in Path(__file__).resolve().parents:
        found = folder / "node_modules"
        if (found / "azurite").is_dir() and (found / "@vercel" / "cosmosdb-server").is_dir():
            return found
    repository = Path(__file__).resolve().parents[3]
    raise SparsightError(
        f"The local services' packages azurite and @vercel/cosmosdb-server are not in {repository / 'node_modules'}.",
        hint="Run `make install`.",
    )


def node() -> str:
    """Find the Node.js program and check its version.

    Raises:
        SparsightError: there is none, or it is too old.
    """
    program = shutil.which("node")
    if program is None:
        raise SparsightError("Node.js is not on the PATH; the local Blob and Cosmos DB servers need it.", hint=_INSTALL)
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    major = version.removeprefix("v").split(".")[0]
    if not major.isdigit() or int(major) < NODE_VERSION:
        found = version or "of a version it does not tell"
        raise SparsightError(
            f"{program} is Node.js {found}; the local servers need {NODE_VERSION} or newer.", hint=_INSTALL
        )
    return program


def _azurite_command(port: int, data: Path) -> list[str]:
    script = node_modules() / "azurite" / "dist" / "src" / "blob" / "main.js"
    options = ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--disableProductStyleUrl"]
    return [node(), str(script), "--blobHost", HOST, "--blobPort", str(port), "--location", str(data), *options]


def _azurite_answers(port: int, data: Path) -> bool:
    """Ask for the account's properties, signed with its shared key: another account's Azurite refuses it."""
    date, path = formatdate(usegmt=True), f"/{ACCOUNT}"
    headers = {"x-ms-date": date, "x-ms-version": AZURITE_API_VERSION}
    canonical = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
    text = "GET" + "\n" * 12 + f"{canonical}/{ACCOUNT}{path}\ncomp:properties\nrestype:account"
    signature = _sign(account_key(data), text)
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{signature}"
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    return ask(connection, f"{path}?comp=properties&restype=account", headers)[0] == 200


def _cosmos_command(port: int, data: Path) -> list[str]:
    node_modules()
    return [node(), str(Path(__file__).with_name("cosmos_server.js")), str(port), str(data)]


def _cosmos_answers(port: int, data: Path) -> bool:
    # The server's certificate is its package's own and public; what proves it here is that it listens on loopback.
    connection = http.client.HTTPSConnection(HOST, port, timeout=2, context=ssl._create_unverified_context())  # noqa: S323
    status, body = ask(connection, "/", {})
    return status == 200 and "writableLocations" in json.loads(body)


def _mlflow_command(port: int, data: Path) -> list[str]:
    # `mlflow server` keeps a second process of the same size only to wait for this one.
    options = ["--host", HOST, "--port", str(port), "--workers", "1", "--log-level", "warning", "--no-access-log"]
    return [sys.executable, "-m", "uvicorn", *options, "mlflow.server.fastapi_app:app"]


def _mlflow_environment(data: Path) -> dict[str, str]:
    artifacts = data / "artifacts"
    artifacts.mkdir(mode=0o700, exist_ok=True)
    return {
        # What `mlflow server` tells its worker process by its options of these names.
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{data / 'mlflow.db'}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": artifacts.as_uri(),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "PYTHONWARNINGS": "ignore",
    }


def _mlflow_answers(port: int, data: Path) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    body = json.dumps({"max_results": 1}).encode()
    status, _ = ask(connection, "/health", {})
    if status != 200:
        return False
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    headers = {"Content-Type": "application/json"}
    return ask(connection, "/api/2.0/mlflow/experiments/search", headers, method="POST", body=body)[0] == 200


def _sign(key: str, text: str) -> str:
    return base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()


SERVERS: Mapping[str, Server] = {
    "azurite": Server(
        title="Azurite (Blob Storage)",
        patience=60,
        command=_azurite_command,
        environment=lambda data: {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{account_key(data)}"},
        url=lambda port: f"http://{HOST}:{port}/{ACCOUNT}",
        answers=_azurite_answers,
    ),
    "cosmos": Server(
        title="the Cosmos DB server",
        patience=60,
        command=_cosmos_command,
        environment=lambda data: {"SPARSIGHT_COSMOS_KEY": account_key(data)},
        url=lambda port: f"https://{HOST}:{port}/",
        answers=_cosmos_answers,
    ),
    "mlflow": Server(
        title="MLflow",
        patience=180,
        command=_mlflow_command,
        environment=_mlflow_environment,
        url=lambda port: f"http://{HOST}:{port}",
        answers=_mlflow_answers,
    ),
    "label-studio": Server(
        title="Label Studio",
        patience=900,  # where its database has to be made first
        command=label_studio.command,
        environment=label_studio.environment,
        url=lambda port: f"http://{HOST}:{port}",
        answers=label_studio.answers,
        note=label_studio.how_to_sign_in,
    ),
    "optuna-dashboard": Server(
        title="optuna-dashboard",
        patience=120,
        command=optuna_dashboard.command,
        environment=optuna_dashboard.environment,
        url=lambda port: f"http://{HOST}:{port}",
        answers=optuna_dashboard.answers,
    ),
}
USUAL = ("azurite", "cosmos", "mlflow")
"""What `services up` starts by itself, and what a step of Sparsight gets that names no services."""
