"""The YAML files of a pipeline, read as they are: what azure-ai-ml passes over in silence is found here."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sparsight.errors import SparsightError
from sparsight.local.problems import Problem, nearest

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_COMMON = {"$schema", "type", "name", "version", "display_name", "description", "tags", "properties"}
_COMMAND = {
    *("command", "code", "environment", "environment_variables", "inputs", "outputs", "resources", "distribution"),
    *("is_deterministic", "limits", "identity", "compute", "additional_includes", "instance_count", "services"),
    *("queue_settings", "experiment_name", "successful_return_code", "intellectual_property"),
}
_PIPELINE = {
    *("inputs", "outputs", "jobs", "settings", "compute", "experiment_name", "identity", "is_deterministic"),
    *("services", "parent_job_name"),
}
_NODE = {*_COMMON, *_COMMAND, "component", "comment", "jobs", "settings"}
_INPUT = {
    "type",
    "description",
    "default",
    "optional",
    "enum",
    "min",
    "max",
    "mode",
    "path",
    "path_on_compute",
    "datastore",
}
_SETTINGS = {
    *("default_datastore", "default_compute", "continue_on_step_failure", "force_rerun", "ssh"),
    *("on_init", "on_finalize", "continue_run_on_failed_optional_input", "default_datastore_name"),
}
_RESOURCES = {
    "instance_count",
    "instance_type",
    "shm_size",
    "docker_args",
    "locations",
    "max_instance_count",
    "properties",
}


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that must hold a mapping.

    Raises:
        SparsightError: the file is missing, isn't YAML, or holds something else.
    """
    if not path.is_file():
        raise SparsightError(f"{path} is not there{_nearest_file(path)}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 (the safe loader, in C)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SparsightError(f"{path} can't be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise SparsightError(f"{path} holds {type(content).__name__}; expected a mapping of keys to values.")
    return content


def _nearest_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        siblings = [each.name for each in folder.parent.iterdir()] if folder.parent.is_dir() else []
        close = difflib.get_close_matches(folder.name, siblings, n=1)
        return f"; did you mean {folder.parent / close[0] / path.name}?" if close else "."
    close = difflib.get_close_matches(path.name, [each.name for each in folder.iterdir()], n=1)
    return f"; did you mean {folder / close[0]}?" if close else "."


@dataclass(frozen=True)
class Document:
    """A pipeline or component as written: its file, the place in it (`jobs.hello`), and the content there."""

    file: Path
    place: str
    content: Mapping[str, Any]

    def at(self, *keys: str) -> str:
        """Name a place in it for a message."""
        return f"{self.file}: {'.'.join([*([self.place] if self.place else []), *keys])}"


def component_of(node: Document) -> Document | None:
    """Find the component that a node names, or that is written in place; None for a workspace's component.

    Raises:
        SparsightError: its file is missing or isn't YAML.
    """
    named = node.content.get("component")
    if isinstance(named, str) and not named.startswith(("azureml:", "azureml/")):
        file = Path(node.file.parent, named.removeprefix("file:"))
        return Document(file, "", read_yaml(file))
    if isinstance(named, dict):
        return Document(node.file, f"{node.place}.component", named)
    return None if isinstance(named, str) else node


def nodes_of(pipeline: Document) -> Iterator[tuple[str, Document]]:
    """The nodes of a pipeline, by name."""
    prefix = f"{pipeline.place}." if pipeline.place else ""
    for name, content in (pipeline.content.get("jobs") or {}).items():
        if isinstance(content, dict):
            yield name, Document(pipeline.file, f"{prefix}jobs.{name}", content)


def check_files(pipeline: Document) -> Iterator[Problem]:
    """Look for unknown keys, missing files and defaults of the wrong type, in a pipeline and all under it."""
    yield from _unknown(pipeline, {*_COMMON, *_PIPELINE, "component"}, "key")
    yield from _unknown_in(pipeline, "settings", _SETTINGS)
    for _, node in nodes_of(pipeline):
        yield from _unknown(node, _NODE, "key")
        yield from _unknown_in(node, "resources", _RESOURCES)
        try:
            component = component_of(node)
        except SparsightError as error:
            yield Problem(node.at("component"), str(error))
            continue
        if component is None:
            yield Problem(
                node.at("component"),
                f"{node.content['component']!r} lives in a workspace; give the path of its YAML to run it here.",
            )
        elif component.content.get("type", "command") == "pipeline" or "jobs" in component.content:
            yield from check_files(component)
        elif component is not node:
            yield from _check_component(component)


def _check_component(component: Document) -> Iterator[Problem]:
    yield from _unknown(component, {*_COMMON, *_COMMAND}, "key")
    yield from _unknown_in(component, "resources", _RESOURCES)
    for name, port in (component.content.get("inputs") or {}).items():
        if isinstance(port, dict):
            place = Document(component.file, f"inputs.{name}", port)
            yield from _unknown(place, _INPUT, "key")
            default = port.get("default")
            if default is not None and not _parses(default, str(port.get("type"))):
                yield Problem(place.at("default"), f"expected {article(str(port.get('type')))}, found {default!r}.")


def _unknown(document: Document, known: set[str], noun: str) -> Iterator[Problem]:
    for key in document.content:
        if key not in known:
            yield Problem(document.at(str(key)), f"unknown {noun} {key!r}{nearest(str(key), known)}")


def _unknown_in(document: Document, key: str, known: set[str]) -> Iterator[Problem]:
    content = document.content.get(key)
    if isinstance(content, dict):
        place = f"{document.place}.{key}" if document.place else key
        yield from _unknown(Document(document.file, place, content), known, "key")


def article(kind: str) -> str:
    """Name a type with its article: `an integer`."""
    return f"an {kind}" if kind[:1] in "aeio" else f"a {kind}"


def _parses(value: Any, kind: str) -> bool:
    if kind == "boolean":
        return isinstance(value, bool) or str(value).lower() in {"true", "false"}
    if kind in {"integer", "number"}:
        try:
            number = float(value)
        except (TypeError, ValueError):
            return False
        return not isinstance(value, bool) and (kind == "number" or number.is_integer())
    return True
