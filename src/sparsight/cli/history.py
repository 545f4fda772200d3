"""`runs`: which runs there were, and what each of their steps did."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsight.errors import SparsightError

if TYPE_CHECKING:
    from sparsight.local.records import RunFolder, RunRecord, StepRecord


def runs(
    context: typer.Context,
    run: Annotated[str | None, typer.Argument(help="A run to look into; `latest` is the newest.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="List at most so many runs, newest first.")] = 20,
) -> None:
    """List the runs, or show one: its steps, logs and outputs."""
    from sparsight.local.records import find_run

    folder: Path = context.obj / "runs"
    if run is None:
        _list(folder, limit)
    else:
        _show(find_run(folder, run))


def _list(runs: Path, limit: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from sparsight.local.records import all_runs, status_of
    from sparsight.local.view import STYLES

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("run", "pipeline", "status", "started", "took"):
        table.add_column(title, no_wrap=True)
    folders = list(all_runs(runs))
    for folder in folders[:limit]:
        try:
            record = folder.read()
        except SparsightError:
            table.add_row(folder.id, "", "[red]unreadable[/]", "", "")
            continue
        status = status_of(record)
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.started))
        table.add_row(folder.id, record.pipeline, f"[{STYLES[status]}]{status}[/]", started, _took(record))
    if folders:
        Console(highlight=False).print(table)
    else:
        print("There are no runs yet. Start one: python execute.py run PIPELINE")
    if len(folders) > limit:
        print(f"{len(folders) - limit} more: python execute.py runs --limit {len(folders)}")


def _took(record: "RunRecord") -> str:
    from sparsight.progress import duration

    return duration(record.finished - record.started) if record.finished else ""


def _show(folder: "RunFolder") -> None:
    from sparsight.local.records import StepRecord, status_of

    record = folder.read()
    status = status_of(record)
    inputs = " ".join(f"{name}={value}" for name, value in record.settings.items())
    print(f"{record.id}: {record.pipeline}, {status}, code {record.code_version}\n  inputs: {inputs or 'none'}")
    for name in record.steps:
        step = folder.read_step(name) or StepRecord(name=name, component="")
        if status != "running" and step.status == "running":
            step.status = "killed"
        _show_step(folder, step)
    if status in {"failed", "killed", "cancelled"}:
        print(f"Take it up again with: python execute.py run --resume {record.id}")


def _show_step(folder: "RunFolder", step: "StepRecord") -> None:
    from sparsight.progress import duration

    took = f" after {duration(step.finished - step.started)}" if step.started and step.finished else ""
    reason = f" ({step.reason})" if step.reason else ""
    print(f"{step.name}: {step.status}{took}{reason}")
    if folder.log(step.name).is_file():
        print(f"  log     {folder.log(step.name)}")
    for output in step.outputs.values():
        print(f"  output  {folder.path.parent / output['path']}")
