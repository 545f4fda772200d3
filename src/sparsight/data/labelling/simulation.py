"""Simulated annotators at work: they label a project's open tasks through Label Studio's API, as people would."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparsight.data.annotators import SimulatedAnnotator
from sparsight.data.labelling.interface import Interface, read_interface
from sparsight.data.labels import Path, join_path
from sparsight.errors import SparsightError
from sparsight.progress import Progress
from sparsight.stores.annotations import AnnotationStore, Project
from sparsight.stores.settings import is_loopback

DOMAIN = "simulated.invalid"
"""Of their e-mail addresses; no address can end like this."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What simulated annotators did.

    Attributes:
        tasks: that they labelled.
        annotations: that they gave.
        wrong: of these, labels other than the true one.
        cost: of all annotations.
        unknown: open tasks whose true label isn't known; they stay open.
    """

    tasks: int
    annotations: int
    wrong: int
    cost: float
    unknown: int

    def __str__(self) -> str:
        left = f"; {self.unknown:,} open without a known truth" if self.unknown else ""
        return (
            f"{self.annotations:,} annotations of {self.tasks:,} tasks, {self.wrong:,} of them wrong, "
            f"for {self.cost:,.2f}{left}"
        )


def annotate_tasks(
    store: AnnotationStore,
    project: Project,
    annotators: Sequence[SimulatedAnnotator],
    truths: Mapping[str, Path],
    *,
    limit: int | None = None,
) -> Work:
    """Have simulated annotators label open tasks, in the order of the queue.

    Each task gets as many annotations as the project's overlap asks for, each by somebody else.

    Args:
        store: Label Studio, on this machine.
        project: whose tasks.
        annotators: one or more; with fewer than the overlap, tasks stay open.
        truths: the true label by the photo's id.
        limit: tasks labelled at most.

    Raises:
        SparsightError: the server isn't on this machine: made-up labels don't belong among those of people.
    """
    if not is_loopback(store.url):
        raise SparsightError(
            f"Label Studio at {store.url} isn't on this machine; simulated annotators label there only.",
            hint="Use the local one: python execute.py services up --with label-studio",
        )
    interface = read_interface(project.label_config, project.title)
    _check_offered(interface, annotators, project)
    users = {annotator.name: store.ensure_user(f"{annotator.name}@{DOMAIN}") for annotator in annotators}
    tasks = sorted(store.export(project), key=lambda task: int(task["id"]))
    left = [task for task in tasks if _missing(task, project) > 0]
    known = [task for task in left if str(task["data"].get("id")) in truths]
    given: list[tuple[SimulatedAnnotator, bool]] = []
    progress = Progress("annotate", len(known[:limit]), "tasks")
    for task in known[:limit]:
        photo = str(task["data"]["id"])
        for annotator in _free(task, project, annotators, users):
            said = annotator.says(photo, truths[photo])
            store.annotate(int(task["id"]), users[annotator.name], [_result(interface, said)])
            given.append((annotator, said == truths[photo]))
        progress.advance()
    progress.finish()
    return Work(
        tasks=len(known[:limit]),
        annotations=len(given),
        wrong=sum(not right for _, right in given),
        cost=sum(annotator.cost for annotator, _ in given),
        unknown=len(left) - len(known),
    )


def _check_offered(interface: Interface, annotators: Sequence[SimulatedAnnotator], project: Project) -> None:
    missing = sorted({join_path(path) for each in annotators for path in each.labels if not interface.offers(path)})
    if missing:
        raise SparsightError(
            f"The labelling interface of project {project.title!r} doesn't offer {', '.join(missing[:5])}.",
            hint="Push tasks with a taxonomy that lists the labels of these photos.",
        )


def _missing(task: Mapping[str, Any], project: Project) -> int:
    """How many annotations a task lacks."""
    return project.overlap - sum(not each.get("was_cancelled") for each in task["annotations"])


def _free(
    task: Mapping[str, Any],
    project: Project,
    annotators: Sequence[SimulatedAnnotator],
    users: Mapping[str, int],
) -> list[SimulatedAnnotator]:
    """Who labels a task: those who haven't yet, beginning with another one at each task, as many as are missing."""
    there = {_user(each["completed_by"]) for each in task["annotations"]}
    start = int(task["id"]) % len(annotators)
    turn = [*annotators[start:], *annotators[:start]]
    free = [annotator for annotator in turn if users[annotator.name] not in there]
    return free[: _missing(task, project)]


def _user(completed_by: Any) -> int:
    return int(completed_by["id"] if isinstance(completed_by, Mapping) else completed_by)


def _result(interface: Interface, path: Path) -> dict[str, object]:
    result = interface.result(path, 1.0)
    return {name: value for name, value in result.items() if name != "score"}
