"""An Azure ML workspace on loopback: what MLClient asks of one, with Azurite as its storage.

It answers the messages of azure-ai-ml's own clients, keeps all of them, and runs what is submitted with the local
runner. What it answers was read from the SDK's models of the service; a real workspace may refuse what this one takes.
"""

import base64
import json
import re
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, unquote, urlsplit

from submitted_job import Child, SubmittedJob, utc
from workspace_storage import ARTIFACTS, BLOBSTORE, WorkspaceStorage

SUBSCRIPTION, GROUP, NAME = "11111111-2222-3333-4444-555555555555", "photos-rg", "photos-ws"
WORKSPACE = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    f"/providers/Microsoft.MachineLearningServices/workspaces/{NAME}"
)
_DATA_PLANE = re.compile(r"^/(history|data|rundata|mlflow)/v1\.0")
_ROUTES: list[tuple[str, re.Pattern[str], str]] = []


@dataclass(frozen=True)
class Message:
    """One request, as it came."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    body: Any
    headers: Mapping[str, str] = field(repr=False)

    @property
    def token(self) -> Mapping[str, Any]:
        """What the bearer token claims; its signature is nobody's here."""
        _, _, token = self.headers.get("authorization", "").partition(" ")
        part = token.split(".")[1] if token.count(".") == 2 else "e30"
        return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


class Refusal(Exception):  # noqa: N818
    """An answer other than 200, in Azure's shape for errors."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    @property
    def body(self) -> Mapping[str, Any]:
        return {"error": {"code": self.code, "message": self.message}}


def route(method: str, pattern: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a method answer requests; `{name}` in the pattern is one part of the path, after the workspace's own."""

    def take(function: Callable[..., Any]) -> Callable[..., Any]:
        parts = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)
        _ROUTES.append((method, re.compile(f"^{parts}$"), function.__name__))
        return function

    return take


class WorkspaceServer:
    """The workspace. Use it as a context.

    Args:
        folder: where submitted jobs are unpacked and run.
        storage: its storage account.
        variables: what the steps' processes find in their environment: where the stores and MLflow are, and the keys
            of the local ones, which no message holds.

    Attributes:
        messages: every request, in order.
        runs_jobs: whether what is submitted is run; else it stays in preparation.
        compute_errors: compute -> what keeps it from giving nodes.
        trouble: called with each message before it is answered; may raise a Refusal, or OSError to hang up.
    """

    computes: ClassVar[tuple[str, ...]] = ("cpu-cluster", "gpu-cluster", "cpu")

    def __init__(self, folder: Path, storage: WorkspaceStorage, variables: Mapping[str, str]) -> None:
        self.folder, self.storage, self.variables = folder, storage, dict(variables)
        self.messages: list[Message] = []
        self.compute_errors: dict[str, str] = {}
        self.trouble: Callable[[Message], None] = lambda message: None
        self.jobs: dict[str, SubmittedJob] = {}
        self.resources: dict[str, Mapping[str, Any]] = {}
        self.schedules: dict[str, Mapping[str, Any]] = {}
        self.runs_jobs = False
        self._beginnings: list[threading.Thread] = []
        self._account = storage.settings.endpoint.rstrip("/") + "/"
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for beginning in self._beginnings:
            beginning.join()
        for job in self.jobs.values():
            job.close()
        self._server.shutdown()
        self._server.server_close()

    def sent(self, method: str, pattern: str) -> list[Message]:
        """Messages of a method whose path matches."""
        return [each for each in self.messages if each.method == method and re.search(pattern, each.path)]

    def answer(self, message: Message) -> tuple[int, Any]:
        """Answer a message."""
        with self._lock:
            self.messages.append(message)
        try:
            self.trouble(message)
            if message.path != "/discovery" and message.token.get("exp", 0) < time.time():
                raise Refusal(401, "ExpiredAuthenticationToken", "The access token expiry is in the past.")
            path = _DATA_PLANE.sub("", message.path)
            plane = path != message.path
            if not path.startswith((WORKSPACE, "/discovery")):
                raise Refusal(404, "ResourceNotFound", f"The workspace of {path} was not found.")
            rest = ("data-plane" if plane else "") + path.removeprefix(WORKSPACE)
            for method, pattern, name in _ROUTES:
                if method == message.method and (match := pattern.match(rest)):
                    return 200, getattr(self, name)(message, **match.groupdict())
            raise Refusal(404, "NotFound", f"Nothing answers {message.method} {message.path} here.")
        except Refusal as refusal:
            return refusal.status, refusal.body

    # The workspace itself, its computes and datastores

    @route("GET", "")
    def workspace(self, message: Message) -> Any:
        properties = {
            "friendlyName": NAME,
            "discoveryUrl": "https://westeurope.api.azureml.ms/discovery",
            "mlFlowTrackingUri": f"azureml://westeurope.api.azureml.ms/mlflow/v1.0{WORKSPACE}",
            "storageAccount": "/storageAccounts/photos",
        }
        return {"id": WORKSPACE, "name": NAME, "location": "westeurope", "properties": properties}

    @route("GET", "/discovery")
    def discovery(self, message: Message) -> Any:
        return dict.fromkeys(("history", "api", "mlflow"), "https://westeurope.api.azureml.ms")

    @route("GET", "/computes/{name}")
    def compute(self, message: Message, name: str) -> Any:
        if name not in self.computes:
            raise Refusal(404, "UserError", f"The specified compute {name} was not found.")
        scale = {"minNodeCount": 0, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT2M"}
        cluster = {
            "vmSize": "STANDARD_D4S_V5",
            "vmPriority": "LowPriority",
            "scaleSettings": scale,
            "subnet": {"id": ""},
        }
        properties = {"computeType": "AmlCompute", "provisioningState": "Succeeded", "properties": cluster}
        if error := self.compute_errors.get(name):
            properties["provisioningErrors"] = [{"error": {"code": error, "message": error}}]
        return {"id": f"{WORKSPACE}/computes/{name}", "name": name, "location": "westeurope", "properties": properties}

    @route("GET", "/computes")
    def list_computes(self, message: Message) -> Any:
        return {"value": [self.compute(message, name) for name in self.computes]}

    @route("GET", "/datastores")
    def default_datastore(self, message: Message) -> Any:
        return {"value": [self.datastore(message, "workspaceblobstore")]}

    @route("GET", "/datastores/{name}")
    def datastore(self, message: Message, name: str) -> Any:
        containers = {"workspaceblobstore": BLOBSTORE, "workspaceartifactstore": ARTIFACTS}
        if name not in containers:
            raise Refusal(404, "UserError", f"Could not find datastore with name: {name}.")
        properties = {
            "datastoreType": "AzureBlob",
            "accountName": self.storage.settings.account,
            "containerName": self.storage.container(containers[name]).container_name,
            "credentials": {"credentialsType": "Sas"},
            "isDefault": name == "workspaceblobstore",
        }
        return {"id": f"{WORKSPACE}/datastores/{name}", "name": name, "properties": properties}

    @route("POST", "/datastores/{name}/listSecrets")
    def secrets(self, message: Message, name: str) -> Any:
        containers = {"workspaceblobstore": BLOBSTORE, "workspaceartifactstore": ARTIFACTS}
        return {"secretsType": "Sas", "sasToken": self.storage.sas(self.storage.container(containers[name]))}

    # Models: before the routes for versions of any kind, which would take theirs too

    @route("GET", "/models")
    def list_models(self, message: Message) -> Any:
        names = {path.split("/")[2] for path in self.resources if path.startswith("/models/")}
        return {"value": [self.model(message, name) for name in sorted(names)]}

    @route("GET", "/models/{name}")
    def model(self, message: Message, name: str) -> Any:
        numbers = [int(path.split("/")[4]) for path in self.resources if path.startswith(f"/models/{name}/versions/")]
        if not numbers:
            raise Refusal(404, "UserError", f"Model container {name} was not found.")
        properties = {"latestVersion": str(max(numbers)), "nextVersion": str(max(numbers) + 1)}
        return {"id": f"{WORKSPACE}/models/{name}", "name": name, "properties": properties}

    @route("PUT", "/models/{name}/versions/{version}")
    def put_model(self, message: Message, name: str, version: str) -> Any:
        """Tags may change; where the files are and the properties that are there may not."""
        with self._lock:
            before = self.resources.get(f"/models/{name}/versions/{version}")
            properties = {"flavors": {}, **message.body["properties"]}
            if before and before["properties"]["modelUri"] != properties["modelUri"]:
                raise Refusal(400, "UserError", "Asset paths cannot be updated.")
            kept = before["properties"].get("properties", {}) if before else {}
            if any(properties.get("properties", {}).get(key) != value for key, value in kept.items()):
                raise Refusal(400, "UserError", "Properties cannot be changed.")
            body = self.put_version(message, "models", name, version)
            made = before["systemData"] if before else {"createdAt": utc(time.time()), "createdBy": "Nobody"}
            body |= {"properties": properties, "systemData": made}
            return body

    # Code, environments, components, data

    @route("GET", "/codes/{name}/versions")
    def find_code(self, message: Message, name: str) -> Any:
        wanted = message.query.get("hash", [""])[0]
        found = [
            body
            for path, body in self.resources.items()
            if path.startswith(f"/codes/{name}/")
            and body["properties"].get("properties", {}).get("hash_sha256") == wanted
        ]
        return {"value": found}

    @route("POST", "/{kind}/{name}/versions/{version}/startPendingUpload")
    def start_upload(self, message: Message, kind: str, name: str, version: str) -> Any:
        # A container of its own for each: in a shared one files that are there count as unchanged.
        container = self.storage.container(f"upload-{uuid.uuid4().hex[:8]}")
        uri = self._account + container.container_name
        credential = {"credentialType": "SAS", "sasUri": f"{uri}?{self.storage.sas(container)}"}
        reference = {"blobUri": uri, "storageAccountArmId": "/storageAccounts/photos", "credential": credential}
        return {
            "pendingUploadId": container.container_name,
            "pendingUploadType": "TemporaryBlobReference",
            "blobReferenceForConsumption": reference,
        }

    @route("PUT", "/{kind}/{name}/versions/{version}")
    def put_version(self, message: Message, kind: str, name: str, version: str) -> Any:
        path = f"/{kind}/{name}/versions/{version}"
        self.resources[path] = {"id": WORKSPACE + path, "name": version, "type": kind, **message.body}
        return self.resources[path]

    @route("GET", "/{kind}/{name}/versions/{version}")
    def get_version(self, message: Message, kind: str, name: str, version: str) -> Any:
        path = f"/{kind}/{name}/versions/{version}"
        if path not in self.resources:
            raise Refusal(404, "UserError", f"Asset {path} was not found.")
        return self.resources[path]

    @route("GET", "/{kind}/{name}/versions")
    def list_versions(self, message: Message, kind: str, name: str) -> Any:
        return {
            "value": [body for path, body in self.resources.items() if path.startswith(f"/{kind}/{name}/versions/")]
        }

    # Jobs

    @route("PUT", "/jobs/{name}")
    def submit(self, message: Message, name: str, properties: Mapping[str, Any] | None = None) -> Any:
        body = message.body if properties is None else {"properties": properties}
        job = SubmittedJob(name, body, self.folder / name)
        self.jobs[name] = job
        if self.runs_jobs:
            beginning = threading.Thread(target=self._begin, args=(job,), daemon=True)
            self._beginnings.append(beginning)
            beginning.start()
        return self.job(message, name)

    @route("GET", "/jobs/{name}")
    def job(self, message: Message, name: str) -> Any:
        job = self._find(name)
        if isinstance(job, Child):
            # Without properties: MLClient then asks the run history for them.
            return {"id": f"{WORKSPACE}/jobs/{name}", "name": name}
        studio = f"https://ml.azure.com/runs/{name}?wsid={WORKSPACE}"
        services = {"Tracking": _service("azureml://"), "Studio": _service(studio)}
        properties = {**job.properties, "status": job.status, "services": services}
        made = {"createdAt": utc(job.created), "createdBy": "Nobody"}
        return {"id": f"{WORKSPACE}/jobs/{name}", "name": name, "properties": properties, "systemData": made}

    @route("GET", "/jobs")
    def list_jobs(self, message: Message) -> Any:
        return {"value": [self.job(message, name) for name in reversed(self.jobs)]}

    @route("POST", "/jobs/{name}/cancel")
    def cancel(self, message: Message, name: str) -> Any:
        job = self._find(name)
        assert isinstance(job, SubmittedJob)
        job.cancel()
        return {}

    # Schedules

    @route("PUT", "/schedules/{name}")
    def put_schedule(self, message: Message, name: str) -> Any:
        properties = {"isEnabled": True, **message.body["properties"], "provisioningState": "Succeeded"}
        self.schedules[name] = {"id": f"{WORKSPACE}/schedules/{name}", "name": name, "properties": properties}
        return self.schedules[name]

    @route("GET", "/schedules/{name}")
    def get_schedule(self, message: Message, name: str) -> Any:
        if name not in self.schedules:
            raise Refusal(404, "UserError", f"Schedule {name} was not found.")
        return self.schedules[name]

    @route("GET", "/schedules")
    def list_schedules(self, message: Message) -> Any:
        every = message.query.get("listViewType") == ["All"]
        return {"value": [each for each in self.schedules.values() if every or each["properties"]["isEnabled"]]}

    def fire(self, name: str) -> str:
        """Start what a schedule starts, as its day and hour would; gives the job's name."""
        schedule = self.schedules[name]["properties"]
        assert schedule["isEnabled"]
        job = f"{name}-{len(self.jobs)}"
        self.submit(Message("PUT", f"{WORKSPACE}/jobs/{job}", {}, None, {}), job, schedule["action"]["jobDefinition"])
        return job

    # Run history

    @route("GET", "data-plane/runs/{name}")
    def run(self, message: Message, name: str) -> Any:
        return self._run(self._find(name))

    @route("GET", "data-plane/runs/{name}/children")
    def run_children(self, message: Message, name: str) -> Any:
        job = self._find(name)
        pipeline = job.parent if isinstance(job, Child) else job
        started = [
            each for each in pipeline.children().values() if each.parent_id == name and each.record.get("started")
        ]
        return {"value": [self._run(child) for child in started]}

    @route("GET", "data-plane/runs/{name}/details")
    def run_details(self, message: Message, name: str) -> Any:
        job = self._find(name)
        return {**self._run(job), "logFiles": self._logs(job) if isinstance(job, Child) else {}}

    @route("POST", "data-plane/rundata")
    def run_data(self, message: Message) -> Any:
        job = self._find(message.body["runId"])
        outputs = job.outputs() if isinstance(job, Child) else {}
        references = {name: {"assetId": self._asset(job, name), "type": "uri_folder"} for name in outputs}
        return {"runMetadata": {**self._run(job), "outputs": references}}

    @route("POST", "data-plane/dataversion/batchGetResolvedUris")
    def resolve_uris(self, message: Message) -> Any:
        return {
            "values": {asset: {"uri": self._publish(asset), "type": "uri_folder"} for asset in message.body["values"]}
        }

    def _find(self, name: str) -> SubmittedJob | Child:
        for job in self.jobs.values():
            if name == job.name:
                return job
            if child := job.children().get(name):
                return child
        raise Refusal(404, "UserError", f"Run {name} was not found.")

    def _run(self, job: SubmittedJob | Child) -> dict[str, Any]:
        if isinstance(job, SubmittedJob):
            error = {"error": {"error": {"code": "UserError", "message": job.refused}}} if job.refused else {}
            return {
                "runId": job.name,
                "status": job.status,
                "displayName": job.name,
                "properties": {},
                "tags": {},
                **error,
            }
        title = job.parent.nodes[job.step].get("display_name", job.step)
        run = {"runId": job.id, "parentRunId": job.parent_id, "status": job.status, "displayName": title}
        reused = {"azureml.isreused": "true"} if job.record.get("status") == "reused" else {}
        return {**run, **job.times(), "properties": reused, "tags": {}}

    def _logs(self, child: Child) -> Mapping[str, str]:
        if not child.log.is_file():
            return {}
        container = self.storage.container(ARTIFACTS)
        name = f"ExperimentRun/dcid.{child.id}/user_logs/std_log.txt"
        container.upload_blob(name, child.log.read_bytes(), overwrite=True)
        return {"user_logs/std_log.txt": f"{container.get_blob_client(name).url}?{self.storage.sas(container)}"}

    def _asset(self, job: SubmittedJob | Child, output: str) -> str:
        return f"azureml://locations/westeurope/workspaces/1/data/{job.id if isinstance(job, Child) else ''}/{output}"

    def _publish(self, asset: str) -> str:
        """Upload a step's output to the workspace's store, and give its address there."""
        child, output = asset.split("/")[-2:]
        found = self._find(child)
        assert isinstance(found, Child)
        prefix = f"azureml/{child}/{output}"
        self.storage.upload(BLOBSTORE, found.outputs()[output].resolve(), prefix)
        place = WORKSPACE.replace("/providers/Microsoft.MachineLearningServices", "")
        return f"azureml:/{place}/datastores/workspaceblobstore/paths/{prefix}/"

    def _begin(self, job: SubmittedJob) -> None:
        try:
            known: dict[str, Mapping[str, Any]] = {}
            self._components(job.properties["jobs"], known)
            for each in job.properties.get("inputs", {}).values():
                if str(each.get("uri", "")).startswith("azureml://"):
                    each["uri"] = str(self._downloaded(each["uri"], job.folder.with_name(f"{job.name}-data")))
            unpacked = job.unpack(known)
            job.start(unpacked, self.variables)
        except Exception as error:
            job.refused = f"This workspace can't run it: {error!r}"

    def _downloaded(self, uri: str, folder: Path) -> Path:
        """Bring data here that was uploaded to the workspace's store."""
        if not folder.is_dir():
            self.storage.download(self.storage.container(BLOBSTORE), folder)
        return folder / uri.partition("/paths/")[2]

    def _components(self, nodes: Mapping[str, Any], known: dict[str, Mapping[str, Any]]) -> None:
        """Look up the components of nodes, and those of the pipelines among them, by id."""
        for node in nodes.values():
            body = self.resources[node["componentId"].removeprefix(WORKSPACE)]
            spec = body["properties"]["componentSpec"]
            if spec["type"] == "pipeline":
                known[node["componentId"]] = spec
                self._components(spec["jobs"], known)
            else:
                known[node["componentId"]] = self._component(body)

    def _component(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The component's YAML, its code as the folder of the snapshot that was uploaded."""
        spec = dict(body["properties"]["componentSpec"])
        environment = self.resources[spec["environment"].removeprefix("azureml:").removeprefix(WORKSPACE)]
        assert environment["properties"].get("build") or environment["properties"].get("image")
        spec["environment"] = f"azureml:{spec['environment'].split('/')[-3]}:1"
        if "code" not in spec:
            return spec
        code = self.resources[spec["code"].removeprefix("azureml:").removeprefix(WORKSPACE)]
        container, _, prefix = code["properties"]["codeUri"].removeprefix(self._account).partition("/")
        folder = self.folder / "snapshots" / container
        with self._lock:
            if not folder.is_dir():
                self.storage.download(self.storage.service.get_container_client(container), folder)
        return {**spec, "code": str(folder / prefix)}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def do(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length") or 0))
                address = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = json.loads(raw) if raw else None
                message = Message(self.command, unquote(address.path), parse_qs(address.query), body, headers)
                try:
                    status, content = answer(message)
                except OSError:  # trouble: the line is cut
                    self.close_connection = True
                    return
                except Exception as error:
                    traceback.print_exc()
                    status, content = 500, {"error": {"code": "InternalServerError", "message": repr(error)}}
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = do  # noqa: N815

        return Handler


def _service(endpoint: str) -> Mapping[str, Any]:
    return {"endpoint": endpoint, "jobServiceType": "Studio", "status": "Running"}
