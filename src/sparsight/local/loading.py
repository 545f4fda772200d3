"""Loads a pipeline-job YAML with azure-ai-ml and turns it into the local runner's graph."""

from pathlib import Path
from typing import Any

from sparsight.errors import SparsightError
from sparsight.local.files import Document, check_files, read_yaml
from sparsight.local.graph import Data, Literal, Pipeline, Setting
from sparsight.local.problems import Problem, refuse
from sparsight.local.scopes import Scope, plain_source
from sparsight.local.sdk import load_job_file, validate


def load_pipeline(path: Path) -> tuple[Pipeline, list[Problem]]:
    """Read a pipeline and everything it is made of.

    Args:
        path: an Azure ML pipeline-job YAML made of command components and nested pipelines.

    Returns:
        The flat graph, and the problems that did not keep it from being built (bindings to things that don't exist,
        unknown inputs and outputs, what azure-ai-ml's own validation says).

    Raises:
        SparsightError: a file is missing or broken, or azure-ai-ml can't load it.
    """
    document = Document(path, "", read_yaml(path))
    if document.content.get("type", "pipeline") != "pipeline" or "jobs" not in document.content:
        raise SparsightError(f"{path} is not a pipeline: expected `type: pipeline` and `jobs:`.")
    refuse(str(path), check_files(document))
    job = load_job_file(path)
    settings, problems = _settings(job, document)
    root = Scope(document, "", job.jobs, {name: Setting(name) for name in settings}, problems)
    root.enter()
    outputs = {name: made for name in job.outputs if (made := root.output_of(name))}
    problems += [
        Problem(f"{path}: {place}", text)
        for place, text in validate(job).items()
        if not text.startswith("Required input")  # our own check names its type, and skips what is told already
    ]
    pipeline = Pipeline(
        name=path.stem,
        file=path,
        description=job.description or "",
        settings=settings,
        steps=root.steps(),
        outputs=outputs,
        force_rerun=bool(getattr(job.settings, "force_rerun", False)),
        content=job,
    )
    return pipeline, problems


def _settings(job: Any, document: Document) -> tuple[dict[str, Literal | Data], list[Problem]]:
    settings: dict[str, Literal | Data] = {}
    problems: list[Problem] = []
    for name, holder in job.inputs.items():
        where = document.at("inputs", name)
        source = plain_source(holder._to_job_input(), where, document.file.parent)
        if isinstance(source, str):
            problems.append(Problem(where, source))
        elif source is not None:
            settings[name] = source
    return settings, problems
