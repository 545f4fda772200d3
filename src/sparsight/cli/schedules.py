"""`schedule`: pipelines that a workspace starts by itself."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsight.cli.cloud import ResourceGroup, Subscription, WorkspaceName, checked, tell_job
from sparsight.errors import SparsightError

if TYPE_CHECKING:
    from sparsight.cloud.workspace import Workspace


def schedule(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="A schedule of pipelines/schedules, or its YAML's path; without one, all are listed."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Give an input a value; repeatable.")
    ] = None,
    compute: Annotated[str | None, typer.Option(help="The cluster for all steps, in place of the YAML's.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Put it out of force.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")] = False,
    subscription: Subscription = None,
    resource_group: ResourceGroup = None,
    workspace: WorkspaceName = None,
) -> None:
    """Put a schedule into force in an Azure ML workspace, or out of force; without a name, list them.

    Its pipeline is checked as `submit` checks it. Putting it into force again replaces it, with the code of now.
    """
    from sparsight.cloud.workspace import find_workspace

    where = find_workspace(subscription=subscription, resource_group=resource_group, name=workspace)
    if name is None:
        if off or dry_run or settings or compute:
            raise SparsightError("Say which schedule is meant.", hint="List them: python execute.py schedule")
        _list(context.obj, where)
        return
    file = _find(context.obj, name)
    if off and (dry_run or settings or compute):
        raise SparsightError("--off goes with no other option: it only puts the schedule out of force.")
    if off:
        _stop(where, file)
    else:
        _put(context.obj, where, file, settings or [], compute, dry_run=dry_run)


def _put(
    root: Path, where: "Workspace", file: Path, settings: list[str], compute: str | None, *, dry_run: bool
) -> None:
    from sparsight.cloud import workspace
    from sparsight.cloud.answers import told
    from sparsight.cloud.job import prepare
    from sparsight.cloud.scheduling import load_schedule, put_schedule
    from sparsight.local.surroundings import code_version

    loaded = load_schedule(file)
    pipeline = checked(loaded.pipeline, [*loaded.settings, *settings])
    job = prepare(pipeline, where, version=code_version(root), compute=compute)
    if dry_run:
        print(f"{loaded.name} would start {pipeline.name} {_when(loaded.content.trigger)}.\n")
        tell_job(pipeline, job, where)
        return
    with told(f"put the schedule {loaded.name} into force", where):
        put_schedule(workspace.open_client(where), loaded, job, where)
    print(f"{loaded.name} starts {pipeline.name} in {where} {_when(loaded.content.trigger)}.")
    print(f"Stop it: python execute.py schedule {file.stem} --off")


def _stop(where: "Workspace", file: Path) -> None:
    from sparsight.cloud import workspace
    from sparsight.cloud.answers import told
    from sparsight.cloud.scheduling import load_schedule, stop_schedule

    name = load_schedule(file).name
    with told(f"put the schedule {name} out of force", where):
        stop_schedule(workspace.open_client(where), name)
    print(f"{name} is out of force. Jobs that it has started go on: python execute.py jobs")


def _list(root: Path, where: "Workspace") -> None:
    from sparsight.cloud import workspace
    from sparsight.cloud.answers import told
    from sparsight.stores.azureml import quiet

    with told("list the schedules", where), quiet():
        from azure.ai.ml._restclient.arm_ml_service.models import ScheduleListViewType

        found = list(workspace.open_client(where).schedules.list(list_view_type=ScheduleListViewType.ALL))
    for each in found:
        print(f"{each.name}: {_when(each.trigger) if each.is_enabled else 'out of force'}")
    if not found:
        known = ", ".join(sorted(file.stem for file in _files(root))) or "none"
        print(f"No schedule is in force in {where}. In pipelines/schedules: {known}.")


def _files(root: Path) -> list[Path]:
    return list((root / "pipelines" / "schedules").glob("*.yml"))


def _find(root: Path, name: str) -> Path:
    from sparsight.local.problems import nearest

    known = {file.stem: file for file in _files(root)}
    if name in known:
        return known[name]
    if Path(name).is_file():
        return Path(name)
    raise SparsightError(
        f"There is no schedule {name!r}{nearest(name, list(known))}", hint="They are in pipelines/schedules."
    )


def _when(trigger: Any) -> str:
    """Say in words when a trigger fires: `every week on monday at 03:00 UTC`."""
    zone = _word(trigger.time_zone or "UTC")
    if getattr(trigger, "expression", None):
        return f"at '{trigger.expression}' (cron, {zone})"
    pattern, frequency = trigger.schedule, _word(trigger.frequency).lower()
    often = f"every {frequency}" if trigger.interval == 1 else f"every {trigger.interval} {frequency}s"
    if pattern is None:
        return f"{often} ({zone})"
    days = [_word(day).lower() for day in _listed(pattern.week_days)]
    times = [f"{hour:02d}:{minute:02d}" for hour in _listed(pattern.hours) for minute in _listed(pattern.minutes)]
    on = f" on {', '.join(days)}" if days else ""
    return f"{often}{on} at {', '.join(times)} {zone}"


def _word(value: Any) -> str:
    """A word that azure-ai-ml gives as a text here, as a member of an enumeration there."""
    return str(getattr(value, "value", value))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]
