"""`run`: checks a pipeline's inputs, runs it or takes it up again, and says how it ended."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsight.cli.pipelines import find_pipeline
from sparsight.errors import SparsightError

if TYPE_CHECKING:
    from rich.console import Console

    from sparsight.local.graph import Pipeline
    from sparsight.local.records import RunFolder, RunRecord, StepRecord
    from sparsight.local.runner import Runner

_EXIT = {"done": 0, "skipped": 0, "failed": 1, "cancelled": 130}
_LOG_LINES = 15


def run(
    context: typer.Context,
    pipeline: Annotated[
        str | None, typer.Argument(help="A pipeline's name, or the path of any Azure ML pipeline-job YAML.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Give an input a value; repeatable.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Take up a run that failed or was killed; `latest` is the newest.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run every step, also where an earlier result fits.")] = False,
    at_once: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Steps side by side. By default as many as there are 4 GB of free memory and enough cores for: "
            "2 each, or what the component's tag `cores` says.",
        ),
    ] = None,
    no_services: Annotated[
        bool,
        typer.Option(
            "--no-services", help="Start no local services; steps find the stores that the environment names."
        ),
    ] = False,
) -> None:
    """Run a pipeline on this machine.

    A step is skipped when its code, command, inputs and environment equal those of a finished step whose outputs are
    still whole. Services are started when the first step of Sparsight runs, and stopped with the run unless they ran
    before.
    """
    root: Path = context.obj
    earlier = _earlier(root, resume, settings or [], force=force) if resume else None
    ready = _prepare(root, pipeline, settings or [], earlier[1] if earlier else None)
    status = _carry_out(root, ready, earlier, force=force, at_once=at_once, services=not no_services)
    raise typer.Exit(_EXIT[status])


def _earlier(root: Path, name: str, pairs: Sequence[str], *, force: bool) -> "tuple[RunFolder, RunRecord]":
    """Open the run to take up."""
    from sparsight.local.records import find_run, status_of

    if force:
        raise SparsightError("--force and --resume exclude each other.", hint="Leave one of them out.")
    folder = find_run(root / "runs", name)
    record = folder.read()
    if status_of(record) == "running":
        raise SparsightError(
            f"{folder.id} is still running (process {record.process[0]}).", hint="Wait for it, or end it with Ctrl-C."
        )
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key in record.settings and str(record.settings[key]) != value:
            raise SparsightError(
                f"{folder.id} was started with {key}={record.settings[key]}; --set {pair} contradicts that.",
                hint="Resume without --set, or start a new run: what still fits is reused there too.",
            )
    return folder, record


def _prepare(root: Path, name: str | None, pairs: Sequence[str], earlier: "RunRecord | None") -> "Pipeline":
    """Load a pipeline, put the inputs in place and check everything."""
    from sparsight.local.checks import apply_settings, check
    from sparsight.local.distribution import check_distributions, check_horovod
    from sparsight.local.loading import load_pipeline
    from sparsight.local.problems import refuse

    if earlier is not None:
        file = Path(root, earlier.file)
        if name is not None and find_pipeline(root, name).resolve() != file.resolve():
            raise SparsightError(f"{earlier.id} is a run of {earlier.file}, not of {name}.", hint="Leave the name out.")
        pairs = [*(f"{key}={value}" for key, value in earlier.settings.items()), *pairs]
    elif name is None:
        raise SparsightError("Say which pipeline to run.", hint="List them: python execute.py list")
    else:
        file = find_pipeline(root, name)
    pipeline, problems = load_pipeline(file)
    pipeline, wrong = apply_settings(pipeline, pairs, Path.cwd())
    refuse(str(file), [*problems, *wrong, *check(pipeline), *check_distributions(pipeline)])
    check_horovod(pipeline)
    return pipeline


def _carry_out(
    root: Path,
    pipeline: "Pipeline",
    earlier: "tuple[RunFolder, RunRecord] | None",
    *,
    force: bool,
    at_once: int | None,
    services: bool,
) -> str:
    from rich.console import Console

    from sparsight.local.cache import Cache
    from sparsight.local.records import new_run
    from sparsight.local.runner import Runner
    from sparsight.local.surroundings import Surroundings, code_version, lock_digest
    from sparsight.local.view import View

    runs = root / "runs"
    _check_place(runs, pipeline)
    version, lock = code_version(root), lock_digest(root)
    folder = earlier[0] if earlier else new_run(runs, pipeline.name)
    record = _record(root, folder, pipeline, version, lock, earlier[1] if earlier else None)
    console = Console(highlight=False)
    with Surroundings(pipeline, version, services=services) as surroundings:
        runner = Runner(pipeline, folder, Cache(runs, lock), surroundings.variables, force=force, at_once=at_once)
        print(f"{'Resuming' if earlier else 'Run'} {folder.id}: {len(pipeline.steps)} steps", flush=True)
        with View(folder, runner.records, console) as view:
            status = runner.carry_out(record, view)
    _tell(folder, runner, status, console)
    return status


def _check_place(runs: Path, pipeline: "Pipeline") -> None:
    """Refuse a folder for runs whose path some component's command can't take: outputs are pasted as they are."""
    from sparsight.local.command import pasting_problem, placeholders

    path = str(runs.absolute())
    for step in pipeline.steps.values():
        for kind, name, quote, _ in placeholders(step.command):
            if kind == "outputs" and (problem := pasting_problem(path, quote)):
                raise SparsightError(
                    f"The path {path!r} {problem} (output {name!r} of component {step.component}).",
                    hint="Move the repository to a path without such characters, or quote the output in that command.",
                )


def _record(
    root: Path, folder: "RunFolder", pipeline: "Pipeline", version: str, lock: str, earlier: "RunRecord | None"
) -> "RunRecord":
    import psutil

    from sparsight.local.graph import Data
    from sparsight.local.records import RunRecord
    from sparsight.local.surroundings import package_versions

    values = pipeline.settings.items()
    return RunRecord(
        id=folder.id,
        pipeline=pipeline.name,
        file=os.path.relpath(pipeline.file.resolve(), root),
        settings={name: str(value.path) if isinstance(value, Data) else value.value for name, value in values},
        steps=pipeline.order(),
        process=(os.getpid(), psutil.Process().create_time()),
        started=earlier.started if earlier else time.time(),
        code_version=version,
        lock=lock,
        versions=package_versions(),
    )


def _tell(folder: "RunFolder", runner: "Runner", status: str, console: "Console") -> None:
    """Say how the run ended, where its results are, and what to do next."""
    from sparsight.local.records import FINISHED

    def say(text: Any) -> None:
        console.print(text, markup=False, soft_wrap=True)

    for record in runner.records.values():
        if record.status in FINISHED:
            for name in record.outputs:
                show_output(say, record.name, folder.step(record.name) / "outputs" / name)
        elif record.status == "failed":
            _tell_failure(say, folder, record)
    if status in {"done", "skipped"}:
        say(f"{status.capitalize()}: {relative(folder.path)}")
    else:
        say(f"{status.capitalize()}. Take it up again with: python execute.py run --resume {folder.id}")


def show_output(say: Callable[[str], None], step: str, output: Path) -> None:
    """Say where a step's output is, which page to open, and what its summary says."""
    say(f"{step}: {relative(output)}")
    for page in (output / "index.html", output / "report" / "index.html"):
        if page.is_file():
            say(f"{step}: open {relative(page)}")
    summary = output / "summary.txt"
    if summary.is_file():
        say(summary.read_text(encoding="utf-8").rstrip())


def _tell_failure(say: Any, folder: "RunFolder", record: "StepRecord") -> None:
    from sparsight.local.view import last_lines

    log = folder.log(record.name)
    say(f"\n{record.name} failed with exit code {record.exit_code}. The end of {relative(log)}:")
    for line in last_lines(log, _LOG_LINES):
        say(f"  {line}")


def relative(path: Path) -> str:
    """Write a path from the current folder where it lies below it."""
    absolute = path.absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)
