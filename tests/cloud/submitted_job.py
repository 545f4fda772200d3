"""A job that the loopback workspace took: written back as YAML from the wire, and run by the local runner."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

STATES = {
    "waiting": "NotStarted",
    "running": "Running",
    "done": "Completed",
    "reused": "Completed",
    "failed": "Failed",
    "cancelled": "Canceled",
    "skipped": "Canceled",
    "killed": "Failed",
}
_RUN = "import sys; from pathlib import Path; from sparsight.cli import main; main(Path(sys.argv[1]), sys.argv[2:])"


class SubmittedJob:
    """One pipeline job.

    Args:
        name: as submitted.
        body: the message that made it.
        folder: where it is unpacked and run.
    """

    def __init__(self, name: str, body: Mapping[str, Any], folder: Path) -> None:
        self.name, self.body, self.folder = name, body, folder
        self.created = time.time()
        self.cancelled = False
        self.refused = ""
        self.nodes: dict[str, Mapping[str, Any]] = {}
        self.nested: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def properties(self) -> Mapping[str, Any]:
        return self.body["properties"]

    def unpack(self, components: Mapping[str, Mapping[str, Any]]) -> Path:
        """Write the YAML that this job would come from, its components beside it.

        Args:
            components: by id, the message that made each, with `code` as the folder of its snapshot.
        """
        self.folder.mkdir(parents=True)
        jobs = self._unpack(self.properties["jobs"], components, "")
        document = {
            "type": "pipeline",
            "inputs": {key: _written(value) for key, value in self.properties.get("inputs", {}).items()},
            "outputs": {key: {"type": "uri_folder"} for key in self.properties.get("outputs", {})},
            "settings": {"default_compute": "azureml:cpu-cluster"},
            "jobs": jobs,
        }
        file = self.folder / "submitted.yml"
        file.write_text(yaml.safe_dump(document, sort_keys=False))
        return file

    def _unpack(self, nodes: Mapping[str, Any], components: Mapping[str, Mapping[str, Any]], prefix: str) -> Any:
        jobs = {}
        for name, node in nodes.items():
            path = prefix + name
            spec = components[node["componentId"]]
            component = {key: value for key, value in spec.items() if key[0] != "_" and value is not None}
            self.nodes[path] = node
            if spec["type"] == "pipeline":
                self.nested.add(path)
                component["jobs"] = self._unpack(spec["jobs"], components, f"{path}.")
            file = self.folder / f"{path}.component.yml"
            file.write_text(yaml.safe_dump(component))
            jobs[name] = {
                "type": spec["type"],
                "component": f"./{file.name}",
                "inputs": {key: _written(value) for key, value in node.get("inputs", {}).items()},
                "outputs": {key: _written(value) for key, value in node.get("outputs", {}).items()},
            }
            if spec["type"] == "command":
                jobs[name]["environment_variables"] = node.get("environment_variables", {})
        return jobs

    def start(self, file: Path, variables: Mapping[str, str]) -> None:
        """Run the YAML with the local runner, the services being those that the variables name."""
        command = [sys.executable, "-c", _RUN, str(self.folder), "run", str(file), "--no-services"]
        self._log = (self.folder / "runner.log").open("wb")
        self._process = subprocess.Popen(
            command,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **variables},
            start_new_session=True,
        )
        if self.cancelled:  # meanwhile
            self.cancel()

    def cancel(self) -> None:
        self.cancelled = True
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        if self._process:
            self.cancel()
            self._process.wait(30)
            self._log.close()

    @property
    def run(self) -> Path | None:
        """The run's folder, once there is one."""
        return next(iter(sorted((self.folder / "runs").glob("[!.]*/"))), None)

    @property
    def ended(self) -> bool:
        return bool(self.refused) or (self._process is not None and self._process.poll() is not None)

    @property
    def status(self) -> str:
        if self.refused:
            return "Failed"
        if self._process is None:
            return "Preparing"
        code = self._process.poll()
        if code is None:
            return "CancelRequested" if self.cancelled else "Running"
        return "Canceled" if self.cancelled else "Completed" if code == 0 else "Failed"

    def children(self) -> dict[str, "Child"]:
        """The steps, nested pipelines and their steps by the id of their own jobs, in the order of submission."""
        steps = self.nodes or self.properties["jobs"]
        return {child.id: child for child in (Child(self, name) for name in steps)}


class Child:
    """The job of one step."""

    def __init__(self, parent: SubmittedJob, step: str) -> None:
        self.parent, self.step = parent, step
        self.id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{parent.name}/{step}"))

    @property
    def parent_id(self) -> str:
        """The job that this one is part of: that of the pipeline, or of a nested one."""
        outer, _, _ = self.step.rpartition(".")
        return Child(self.parent, outer).id if outer else self.parent.name

    @property
    def is_pipeline(self) -> bool:
        return self.step in self.parent.nested

    @property
    def folder(self) -> Path:
        run = self.parent.run
        return (run or self.parent.folder / "runs" / "none") / self.step

    @property
    def record(self) -> Mapping[str, Any]:
        if self.is_pipeline:
            inner = [each.record for each in self.parent.children().values() if each.parent_id == self.id]
            begun = [record for record in inner if record.get("started")]
            states = {record.get("status", "waiting") for record in inner}
            status = next((each for each in ("failed", "running", "waiting") if each in states), "done")
            return {"status": status, "started": begun[0]["started"]} if begun else {}
        file = self.folder / "step.json"
        return json.loads(file.read_text()) if file.is_file() else {}

    @property
    def status(self) -> str:
        status = STATES[self.record.get("status", "waiting")]
        return "Canceled" if status in {"NotStarted", "Running"} and self.parent.ended else status

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def times(self) -> dict[str, str]:
        record = self.record
        names = {"startTimeUtc": record.get("started"), "endTimeUtc": record.get("finished")}
        return {name: utc(seconds) for name, seconds in names.items() if seconds}

    def outputs(self) -> dict[str, Path]:
        return {path.name: path for path in sorted((self.folder / "outputs").glob("*")) if self.status == "Completed"}


def utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _written(value: Mapping[str, Any]) -> Any:
    """An input or output as a YAML has it: a plain value, a binding, or data with a path."""
    if value.get("job_input_type", value.get("jobInputType")) == "literal":
        return _literal(value["value"])
    if bound := value.get("value") or (value["uri"] if "${{" in value.get("uri", "") else ""):
        return bound
    kinds = ("type", "job_input_type", "jobInputType", "job_output_type", "jobOutputType")
    kind = next(value[name] for name in kinds if name in value)
    return {"type": kind, "path": value["uri"]} if "uri" in value else {"type": kind}


def _literal(text: str) -> Any:
    """A value as it was before it went over the wire, where everything is a text."""
    try:
        return {"True": True, "False": False}[text] if text in {"True", "False"} else json.loads(text)
    except ValueError:
        return text
