"""The command line behind execute.py: one function for each command, in the modules beside this one."""

import sys
from pathlib import Path

import typer

from sparsight.cli import (
    cloud,
    codec,
    data,
    history,
    index,
    labels,
    models,
    pipelines,
    running,
    schedules,
    services,
    tune,
)
from sparsight.errors import SparsightError

app = typer.Typer(
    name="execute.py",
    help="Run Azure ML pipelines, here or on a workspace: image recognition from many photos and few labels.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("list")(pipelines.list_pipelines)
app.command("show")(pipelines.show)
app.command("run")(running.run)
app.command("runs")(history.runs)
app.command("submit")(cloud.submit)
app.command("jobs")(cloud.jobs)
app.command("fetch")(cloud.fetch)
app.command("schedule")(schedules.schedule)
app.command("tune")(tune.tune)
app.command("compress")(codec.compress)
app.command("decompress")(codec.decompress)
app.add_typer(services.app, name="services")
app.add_typer(data.app, name="data")
app.add_typer(labels.app, name="labels")
app.add_typer(models.app, name="models")
app.add_typer(index.app, name="index")


def console() -> None:
    """Run a command in the repository that is the working directory: what the script `sparsight` does."""
    main(Path.cwd())


def main(root: Path, arguments: list[str] | None = None) -> None:
    """Run a command and end the process.

    Its status is 0 where all went well, 1 where a step failed or a promotion was refused, 2 for wrong input, 130 where
    it was interrupted.

    Args:
        root: the repository, with `pipelines/` and `runs/` in it.
        arguments: the command line; this process's own by default.
    """
    try:
        app(arguments, obj=root)
    except SparsightError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None
