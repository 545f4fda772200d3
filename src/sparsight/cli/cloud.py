"""`submit`, `jobs` and `fetch`: pipelines on an Azure ML workspace."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsight.cli.pipelines import PipelineName, find_pipeline, step_line
from sparsight.cli.running import relative, show_output
from sparsight.errors import SparsightError

if TYPE_CHECKING:
    from rich.console import Console

    from sparsight.cloud.following import Follower, JobState
    from sparsight.cloud.job import Job
    from sparsight.cloud.workspace import Workspace
    from sparsight.local.graph import Pipeline

_EXIT = {"done": 0, "failed": 1, "cancelled": 130}
_LOG_LINES = 15
_WHERE = "Workspace; by default that of the environment or of config.json"

Subscription = Annotated[str | None, typer.Option(help="Its subscription's id.", rich_help_panel=_WHERE)]
ResourceGroup = Annotated[str | None, typer.Option(help="Its resource group.", rich_help_panel=_WHERE)]
WorkspaceName = Annotated[str | None, typer.Option("--workspace", help="Its name.", rich_help_panel=_WHERE)]
JobName = Annotated[str, typer.Argument(help="A job's name, as `submit` and `jobs` tell it.")]


def submit(
    context: typer.Context,
    pipeline: PipelineName,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Give an input a value; repeatable.")
    ] = None,
    compute: Annotated[str | None, typer.Option(help="The cluster for all steps, in place of the YAML's.")] = None,
    experiment: Annotated[str | None, typer.Option(help="The experiment to submit to, in place of the YAML's.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run every step, also where an earlier result fits.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job, and end with its status.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")] = False,
    subscription: Subscription = None,
    resource_group: ResourceGroup = None,
    workspace: WorkspaceName = None,
) -> None:
    """Submit a pipeline to an Azure ML workspace.

    Inputs are checked as `run` checks them, before anything is sent. Code that the workspace has already is not
    uploaded again.
    """
    from sparsight.cloud.job import prepare
    from sparsight.cloud.workspace import find_workspace
    from sparsight.local.surroundings import code_version

    where = find_workspace(subscription=subscription, resource_group=resource_group, name=workspace)
    loaded = checked(find_pipeline(context.obj, pipeline), settings or [])
    version = code_version(context.obj)
    job = prepare(loaded, where, version=version, compute=compute, experiment=experiment, force=force)
    if dry_run:
        tell_job(loaded, job, where)
        return
    _send(job, where)
    if wait:
        raise typer.Exit(_wait(_follower(context.obj, where, job.name), list(loaded.order())))
    print(f"Follow it: python execute.py jobs {job.name} --wait\nFetch it:  python execute.py fetch {job.name}")


def jobs(
    context: typer.Context,
    job: Annotated[str | None, typer.Argument(help="A job to look into; without one, the newest are listed.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="List at most so many jobs, newest first.")] = 20,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job, and end with its status.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel the job.")] = False,
    subscription: Subscription = None,
    resource_group: ResourceGroup = None,
    workspace: WorkspaceName = None,
) -> None:
    """List the workspace's jobs; show, follow or cancel one."""
    from sparsight.cloud.workspace import find_workspace

    where = find_workspace(subscription=subscription, resource_group=resource_group, name=workspace)
    if job is None:
        if wait or cancel:
            raise SparsightError("Say which job is meant.", hint="List them: python execute.py jobs")
        _list(where, limit)
    elif cancel:
        _cancel(where, job)
    elif wait:
        raise typer.Exit(_wait(_follower(context.obj, where, job), []))
    else:
        _show(_follower(context.obj, where, job))


def fetch(
    context: typer.Context,
    job: JobName,
    step: Annotated[str | None, typer.Argument(help="One step's name; without it, all steps.")] = None,
    into: Annotated[Path | None, typer.Option(help="The folder to fill; by default jobs/<JOB>.")] = None,
    subscription: Subscription = None,
    resource_group: ResourceGroup = None,
    workspace: WorkspaceName = None,
) -> None:
    """Download the outputs and logs of a job, by the names of its steps."""
    from sparsight.cloud.answers import told
    from sparsight.cloud.fetching import fetch as fetch_job
    from sparsight.cloud.workspace import find_workspace

    where = find_workspace(subscription=subscription, resource_group=resource_group, name=workspace)
    follower = _follower(context.obj, where, job, into)
    with told(f"fetch {job}", where):
        found = fetch_job(follower.client(), follower, step)
    if not found:
        print(f"No step of {job} has begun yet.")
    for each in found:
        print(f"{each.step}: {each.status}")
        if each.log:
            print(f"{each.step}: {relative(each.log)}")
        for output in each.outputs.values():
            show_output(print, each.step, output)


def checked(file: Path, pairs: list[str]) -> "Pipeline":
    """Load a pipeline, put the inputs in place and check everything, as `run` does."""
    from sparsight.local.checks import apply_settings, check
    from sparsight.local.loading import load_pipeline
    from sparsight.local.problems import refuse

    loaded, problems = load_pipeline(file)
    loaded, wrong = apply_settings(loaded, pairs, Path.cwd())
    refuse(str(file), [*problems, *wrong, *check(loaded)])
    return loaded


def _send(job: "Job", where: "Workspace") -> None:
    from sparsight.cloud import job as jobs
    from sparsight.cloud import workspace
    from sparsight.cloud.answers import told

    with told(f"submit {job.name}", where):
        taken = jobs.submit(workspace.open_client(where), job, where)
    print(f"Submitted {job.name} to {where}")
    if taken.studio_url:
        print(taken.studio_url)


def tell_job(pipeline: "Pipeline", job: "Job", where: "Workspace") -> None:
    """Print what would be sent: the graph, the code's files, and the job."""
    from sparsight.cloud.job import message

    print(f"{pipeline.name} would go to {where}, experiment {job.content.experiment_name}.\n\nSteps:")
    for number, level in enumerate(pipeline.levels(), 1):
        for name in level:
            print(f"  {number}  {step_line(pipeline.steps[name])}")
    for snapshot in job.snapshots.values():
        print(f"\nCode: {relative(snapshot.folder)}, {len(snapshot.files)} files, {snapshot.size / 1000:,.0f} kB")
        for name, size in snapshot.files.items():
            print(f"  {size:>9,}  {name}")
    print(f"\nJob:\n{message(job)}\n\nNothing was sent.")


def _follower(root: Path, where: "Workspace", job: str, into: Path | None = None) -> "Follower":
    from sparsight.cloud import workspace
    from sparsight.cloud.following import Follower
    from sparsight.local.records import RunFolder

    return Follower(lambda: workspace.open_client(where), where, job, RunFolder(into or root / "jobs" / job))


def _wait(follower: "Follower", steps: list[str]) -> int:
    """Follow a job to its end; Ctrl-C asks whether to cancel it."""
    from rich.console import Console

    from sparsight.cloud.answers import told
    from sparsight.local.records import StepRecord
    from sparsight.local.view import View

    console = Console(highlight=False)
    records = {name: StepRecord(name=name, component="") for name in steps}
    try:
        with told(f"follow {follower.name}", follower.workspace), View(follower.folder, records, console) as view:
            state = follower.follow(view, records)
    except KeyboardInterrupt:
        return _interrupted(follower)
    _tell(follower, state, console)
    return 0 if _had_nothing_to_do(follower, state) else _EXIT[state.status]


def _had_nothing_to_do(follower: "Follower", state: "JobState") -> bool:
    """Whether a job cancelled itself, as its log says: here such a run is skipped, with status 0."""
    from sparsight.errors import NOTHING_TO_DO_WORDS
    from sparsight.local.view import last_lines

    logs = [follower.folder.log(name) for name in state.steps]
    lines = [line for log in logs if log.is_file() for line in last_lines(log, 2)]
    return state.status == "cancelled" and any(line.startswith(NOTHING_TO_DO_WORDS) for line in lines)


def _interrupted(follower: "Follower") -> int:
    name = follower.name
    if sys.stdin.isatty() and typer.confirm(f"\nCancel {name} as well?", default=False):
        _cancel(follower.workspace, name)
    else:
        print(f"{name} goes on. Cancel it with: python execute.py jobs {name} --cancel")
    return 130


def _cancel(where: "Workspace", job: str) -> None:
    from sparsight.cloud import workspace
    from sparsight.cloud.answers import told
    from sparsight.stores.azureml import quiet

    with told(f"cancel {job}", where), quiet():
        workspace.open_client(where).jobs.begin_cancel(job)
    print(f"Asked for the cancellation of {job}.")


def _tell(follower: "Follower", state: "JobState", console: "Console") -> None:
    """Say how the job ended, with the end of what failed."""
    from sparsight.local.view import last_lines

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    for name, record in state.steps.items():
        if record.status == "failed":
            log = follower.folder.log(name)
            say(f"\n{name} failed{f': {record.reason}' if record.reason else '.'} The end of {relative(log)}:")
            for line in last_lines(log, _LOG_LINES) if log.is_file() else []:
                say(f"  {line}")
    if state.trouble:
        say(f"Azure ML says: {state.trouble}")
    say(f"{'Skipped' if _had_nothing_to_do(follower, state) else state.status.capitalize()}: {follower.name}")
    if state.status == "done":
        say(f"Fetch its outputs: python execute.py fetch {follower.name}")


def _list(where: "Workspace", limit: int) -> None:
    import itertools

    from rich import box
    from rich.console import Console
    from rich.table import Table

    from sparsight.cloud import workspace
    from sparsight.cloud.answers import told
    from sparsight.cloud.following import status_of
    from sparsight.local.view import STYLES
    from sparsight.stores.azureml import quiet

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("job", "experiment", "status", "submitted"):
        table.add_column(title, no_wrap=True)
    with told("list the jobs", where), quiet():
        found = list(itertools.islice(workspace.open_client(where).jobs.list(), limit))
    for job in (each for each in found if each is not None):
        status = status_of(job)
        made = job.creation_context.created_at if job.creation_context else None
        submitted = made.astimezone().strftime("%Y-%m-%d %H:%M") if made else ""
        table.add_row(str(job.name), str(job.experiment_name or ""), f"[{STYLES[status]}]{status}[/]", submitted)
    if found:
        Console(highlight=False).print(table)
    else:
        print(f"There are no jobs in {where} yet. Start one: python execute.py submit PIPELINE")


def _show(follower: "Follower") -> None:
    from sparsight.cloud.answers import told
    from sparsight.progress import duration

    with told(f"look into {follower.name}", follower.workspace):
        state = follower.state()
    print(f"{follower.name}: {state.status}")
    for name, record in state.steps.items():
        took = f" after {duration(record.finished - record.started)}" if record.started and record.finished else ""
        print(f"{name}: {record.status}{took}{f' ({record.reason})' if record.reason else ''}")
    if state.trouble:
        print(f"Azure ML says: {state.trouble}")
