"""A pipeline as the local runner sees it: command steps, where each input comes from, and their order."""

import graphlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Scalar = bool | int | float | str
_ALIAS = re.compile(r"[\w.-]+@[\w.-]+")
_BLOBS = "blob_prefix"
"""The input by which our steps take whatever lies below a prefix in Blob Storage."""
DATA_TYPES = frozenset({"uri_file", "uri_folder", "mltable", "custom_model", "mlflow_model", "triton_model"})


@dataclass(frozen=True, kw_only=True)
class Port:
    """A component's declared input."""

    type: str
    description: str = ""
    default: Scalar | None = None
    optional: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """Say which values are allowed: `1 to 10`, `at least 0`, `yes | no`; empty if all are."""
        if self.choices:
            return " | ".join(self.choices)
        if self.minimum is not None and self.maximum is not None:
            return f"{self.minimum:g} to {self.maximum:g}"
        if self.minimum is not None:
            return f"at least {self.minimum:g}"
        return "" if self.maximum is None else f"at most {self.maximum:g}"


@dataclass(frozen=True)
class Literal:
    """A plain value written in the YAML or given with `--set`; `where` names the place for messages."""

    value: Scalar
    where: str


@dataclass(frozen=True)
class Data:
    """A file or folder of the user."""

    path: Path
    type: str
    where: str

    @property
    def is_remote(self) -> bool:
        """Whether the path names something that only Azure ML can reach."""
        return str(self.path).startswith(("azureml:", "http:", "https:", "wasb:", "wasbs:", "abfs:", "abfss:"))


@dataclass(frozen=True)
class Made:
    """The output of another step."""

    step: str
    output: str


@dataclass(frozen=True)
class Setting:
    """An input of the pipeline itself, by name; its value is in `Pipeline.settings`."""

    name: str


Source = Literal | Data | Made | Setting


@dataclass(frozen=True)
class Distribution:
    """What the YAML says of a step's processes: `mpi`, `pytorch` or another type, how many on a node, and the nodes."""

    type: str = ""
    processes: int = 1
    instances: int = 1


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command to run.

    `sources` lacks an input that takes its component's default, or none; `broken` names those whose binding leads
    nowhere, told already; `services` names the local services that must run while it does; `cores` is how many it
    keeps busy, all its processes together.
    """

    name: str
    component: str
    where: str
    command: str
    code: Path | None
    environment: str
    variables: Mapping[str, str]
    deterministic: bool
    ports: Mapping[str, Port]
    sources: Mapping[str, Source]
    outputs: Mapping[str, str]
    broken: frozenset[str] = frozenset()
    services: tuple[str, ...] = ()
    cores: int = 2
    distribution: Distribution = Distribution()

    @property
    def parents(self) -> list[str]:
        """Names of the steps whose outputs this one reads."""
        return sorted({source.step for source in self.sources.values() if isinstance(source, Made)})

    @property
    def is_ours(self) -> bool:
        """Whether the command runs a step of this package."""
        return "sparsight.steps." in self.command


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A pipeline job, nested pipelines flattened into `parent.child` steps; `content` is azure-ai-ml's PipelineJob."""

    name: str
    file: Path
    description: str
    settings: Mapping[str, Literal | Data]
    steps: Mapping[str, Step]
    outputs: Mapping[str, Made] = field(default_factory=dict)
    force_rerun: bool = False
    content: Any = field(default=None, repr=False, compare=False)

    def order(self) -> list[str]:
        """Names of the steps, parents first, otherwise as written.

        Raises:
            graphlib.CycleError: steps wait for each other.
        """
        return [name for level in self.levels() for name in level]

    def levels(self) -> list[list[str]]:
        """Steps that can run side by side, level by level.

        Raises:
            graphlib.CycleError: steps wait for each other.
        """
        sorter = graphlib.TopologicalSorter({name: step.parents for name, step in self.steps.items()})
        sorter.prepare()
        place = {name: index for index, name in enumerate(self.steps)}
        found = []
        while sorter.is_active():
            ready = sorted(sorter.get_ready(), key=place.__getitem__)
            sorter.done(*ready)
            found.append(ready)
        return found

    def readers(self, setting: str) -> list[tuple[Step, str]]:
        """Steps' inputs that take the value of a pipeline input."""
        return [
            (step, name)
            for step in self.steps.values()
            for name, source in step.sources.items()
            if source == Setting(setting)
        ]

    def source(self, step: Step, name: str) -> Literal | Data | Made | None:
        """Where a step's input comes from, pipeline inputs and defaults looked up; None for a left-out optional one."""
        source = step.sources.get(name)
        if isinstance(source, Setting):
            return self.settings[source.name]
        if source is None:
            default = step.ports[name].default
            return None if default is None else Literal(default, f"{step.where}: default of {name}")
        return source


def moving_input(pipeline: Pipeline, step: Step) -> str | None:
    """Find a text that names a registered model by an alias, such as `name@latest`, a folder by its path, or blobs.

    What it means may change while the text doesn't, so a step that takes it can't be reused.
    """
    for name, port in step.ports.items():
        source = pipeline.source(step, name) if port.type == "string" else None
        text = str(source.value) if isinstance(source, Literal) else ""
        if _ALIAS.fullmatch(text) or (text.startswith("/") and Path(text).is_dir()) or (text and name == _BLOBS):
            return f"{name} {text}"
    return None
