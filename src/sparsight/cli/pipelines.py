"""`list` and `show`: which pipelines there are, their inputs and their graph."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsight.errors import SparsightError

if TYPE_CHECKING:
    from sparsight.local.graph import Pipeline, Step

PipelineName = Annotated[str, typer.Argument(help="A pipeline's name (see `list`), or the path of its YAML.")]


def list_pipelines(context: typer.Context) -> None:
    """List the pipelines."""
    from sparsight.local.files import read_yaml

    files = sorted((context.obj / "pipelines").glob("*.yml"))
    width = max((len(file.stem) for file in files), default=0)
    for file in files:
        lines = str(read_yaml(file).get("description", "")).strip().splitlines() or [""]
        print(f"{file.stem:<{width}}  {lines[0]}")
    if not files:
        print(f"No pipelines in {context.obj / 'pipelines'}.")


def find_pipeline(root: Path, name: str) -> Path:
    """Find a pipeline's YAML by name or path.

    Raises:
        SparsightError: there is no such pipeline.
    """
    from sparsight.local.problems import nearest

    named = root / "pipelines" / f"{name}.yml"
    if named.is_file():
        return named
    if Path(name).is_file():
        return Path(name)
    known = [file.stem for file in (root / "pipelines").glob("*.yml")]
    raise SparsightError(
        f"There is no pipeline {name!r}{nearest(name, known)}", hint="List them: python execute.py list"
    )


def show(context: typer.Context, pipeline: PipelineName) -> None:
    """Show a pipeline's inputs and graph."""
    from rich.console import Console
    from rich.markup import escape

    from sparsight.local.checks import check
    from sparsight.local.loading import load_pipeline
    from sparsight.local.problems import refuse

    file = find_pipeline(context.obj, pipeline)
    loaded, problems = load_pipeline(file)
    refuse(str(file), [*problems, *check(loaded)])
    console = Console(highlight=False)
    console.print(f"[bold]{escape(loaded.name)}[/]  {escape(loaded.description)}\n", soft_wrap=True)
    if loaded.settings:
        console.print(_inputs(loaded))
    console.print("\n[bold]Steps[/], those on one level side by side:")
    for number, level in enumerate(loaded.levels(), 1):
        for name in level:
            console.print(f"  {number}  {escape(step_line(loaded.steps[name]))}", soft_wrap=True)
    for name, made in loaded.outputs.items():
        console.print(f"  output {escape(name)}  from {escape(made.step)}.{escape(made.output)}", soft_wrap=True)


def _inputs(pipeline: "Pipeline") -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from sparsight.local.checks import setting_type
    from sparsight.local.graph import Data

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("input", "type", "default", "allowed", "what it is"):
        table.add_column(title, overflow="fold")
    for name, value in pipeline.settings.items():
        ports = [step.ports[port] for step, port in pipeline.readers(name)]
        default = str(value.path) if isinstance(value, Data) else str(value.value)
        allowed = ports[0].allowed if ports else ""
        about = ports[0].description if ports else ""
        row = (name, setting_type(pipeline, name), default, allowed, about)
        table.add_row(*(Text(cell) for cell in row))
    return table


def step_line(step: "Step") -> str:
    """Describe a step in a line: its name, its component, what it waits for."""
    after = f"  after {', '.join(step.parents)}" if step.parents else ""
    runs = "" if step.deterministic else "  (runs every time)"
    return f"{step.name} [{step.component}]{after}{runs}"
