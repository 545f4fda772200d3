"""Decides whether a step's earlier result can be reused, and says why not."""

import contextlib
import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsight.data.artefact import write_text
from sparsight.errors import SparsightError
from sparsight.local.digests import code_digests, content_digest, data_digest, is_whole, stamps
from sparsight.local.graph import Data, Literal, Made, Pipeline, Step
from sparsight.local.imports import ImportGraph
from sparsight.local.processes import file_lock
from sparsight.local.records import FINISHED, RunFolder, StepRecord

_REMEMBERED = 8
_PARTS = {"environment": "environment changed", "lock": "requirements.lock changed", "python": "Python changed"}


@dataclass(frozen=True)
class Found:
    """A finished step whose outputs are whole: the run it is in, and its record."""

    run: str
    record: StepRecord


class Cache:
    """Finished steps under a runs folder, found by key through small files in `runs/.index`."""

    def __init__(self, runs: Path, lock: str) -> None:
        self.runs, self.lock = runs, lock
        self._index = runs / ".index"
        self._code: dict[Path, tuple[dict[str, str], ImportGraph]] = {}

    def parts(self, pipeline: Pipeline, step: Step, finished: Mapping[str, StepRecord]) -> dict[str, Any]:
        """Gather all that a step's result depends on; the inputs' data by content, not by place."""
        values: dict[str, str] = {}
        inputs: dict[str, str] = {}
        for name in step.ports:
            match pipeline.source(step, name):
                case Literal(value=value):
                    values[name] = str(value)
                case Data(path=path):
                    inputs[name] = data_digest(path, self._index / "data")
                case Made(step=parent, output=output):
                    inputs[name] = finished[parent].outputs[output]["digest"]
        if (written := step.distribution).processes * written.instances > 1:  # else only inputs can say more than one
            values["distribution"] = f"{written.processes} x {written.instances}"
        return {
            "command": step.command,
            "values": values,
            "inputs": inputs,
            "outputs": dict(step.outputs),
            "code": self._code_of(step),
            "environment": step.environment,
            "lock": self.lock,
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "variables": dict(step.variables),
        }

    def _code_of(self, step: Step) -> dict[str, str]:
        if step.code is None:
            return {}
        if step.code not in self._code:
            self._code[step.code] = code_digests(step.code), ImportGraph(step.code)
        digests, graph = self._code[step.code]
        reachable = graph.reachable(step.command)
        if reachable is None:
            return digests
        return {name: digest for name, digest in digests.items() if name in reachable or not name.endswith(".py")}

    def find(self, key: str, pipeline: str, step: str, parts: Mapping[str, Any]) -> Found | str:
        """Find a finished step with this key, or say why there is none to reuse."""
        gone = ""
        for run, record in self._remembered(f"keys/{key}"):
            if record is None or record.key != key or record.status != "done":
                gone = gone or f"outputs of {run} are gone"
            elif not self.outputs_whole(record):
                gone = gone or f"outputs of {run} are gone or changed"
            else:
                return Found(run, record)
        if gone:
            return gone
        for _, record in self._remembered(f"last/{pipeline}/{step}"):
            if record is not None:
                return difference(record.parts, parts)
        return "no earlier run"

    def outputs_whole(self, record: StepRecord) -> bool:
        """Tell whether all that a step made is still as it was."""
        made = record.outputs.values()
        return all(is_whole(self.runs / each["path"], each["files"], each["digest"]) for each in made)

    def remember(self, run: RunFolder, record: StepRecord, pipeline: str) -> None:
        """Note a finished step so that later runs find it."""
        origin = record.reused_from or f"{run.id}/{record.name}"
        self._index.mkdir(parents=True, exist_ok=True)
        with file_lock(self._index / "lock", what="another run that notes what it made"):
            self._note(origin, record, pipeline)

    def _note(self, origin: str, record: StepRecord, pipeline: str) -> None:
        for place in (f"keys/{record.key}", f"last/{pipeline}/{record.name}"):
            path = self._index / f"{place}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            known = [origin, *(each for each in self._names(place) if each != origin)]
            write_text(path, json.dumps(known[:_REMEMBERED]))

    def _names(self, place: str) -> list[str]:
        with contextlib.suppress(OSError, ValueError):
            return [str(each) for each in json.loads((self._index / f"{place}.json").read_text(encoding="utf-8"))]
        return []

    def _remembered(self, place: str) -> Iterator[tuple[str, StepRecord | None]]:
        for name in self._names(place):
            run, _, step = name.partition("/")
            record = None
            with contextlib.suppress(SparsightError):  # one that another version wrote is as good as gone
                record = RunFolder(self.runs / run).read_step(step)
            yield run, record

    def describe(self, path: Path) -> dict[str, Any]:
        """Describe an output for a step's record: path, content digest, files."""
        return {"path": path.relative_to(self.runs).as_posix(), "digest": content_digest(path), "files": stamps(path)}


def key_of(parts: Mapping[str, Any]) -> str:
    """Hash a step's parts (SHA-256, as hex)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say what changed since an earlier run of a step."""
    if before.keys() != now.keys():
        return "another version of Sparsight ran it last"
    if before["command"] != now["command"] or before["outputs"] != now["outputs"]:
        return "command changed"
    found = []
    if names := _changed(before["values"] | before["inputs"], now["values"] | now["inputs"]):
        found.append(f"input{'s' * (len(names) > 1)} {', '.join(names)} changed")
    if names := _changed(before["code"], now["code"]):
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        found.append(f"code changed: {', '.join(names[:3])}{more}")
    found += [text for part, text in _PARTS.items() if before[part] != now[part]]
    if names := _changed(before["variables"], now["variables"]):
        found.append(f"environment variable {', '.join(names)} changed")
    return "; ".join(found)


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def reused(record: StepRecord, found: Found) -> StepRecord:
    """Write the record of a step that takes over what an earlier one made."""
    return dataclasses.replace(
        record,
        status="reused",
        reused_from=found.record.reused_from or f"{found.run}/{found.record.name}",
        outputs=found.record.outputs,
        reason=f"same as in {found.run}",
    )


def is_finished(record: StepRecord | None) -> bool:
    """Tell whether a step of a run ended well."""
    return record is not None and record.status in FINISHED
