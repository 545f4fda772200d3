"""Photos become tasks in a labelling project, each once, with what a model says of them."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import pandas as pd

from sparsight.data.artefact import new_artefact
from sparsight.data.labelling.chosen import ChosenPhoto
from sparsight.data.labelling.renewal import renew_urls
from sparsight.data.labelling.suggestions import Suggestions
from sparsight.progress import Progress
from sparsight.stores.annotations import AnnotationStore, Project, Task
from sparsight.stores.image_urls import UrlSigner

COLUMNS = ["id", "container", "task", "state"]
Prediction = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What became of the photos.

    Args:
        tasks: columns id, container, task (Label Studio's number), and state: `new` or `known`.
        pre_annotated: tasks that got a prediction.
        renewed: tasks whose photo got a new address.
    """

    tasks: pd.DataFrame
    pre_annotated: int
    renewed: int


def push_photos(
    store: AnnotationStore,
    project: Project,
    photos: Sequence[ChosenPhoto],
    signer: UrlSigner,
    suggestions: Suggestions | None = None,
) -> Pushed:
    """Make a task of every photo of which the project has none; those it has get newer predictions and addresses.

    Interrupted and run again, it goes on where it was. Two at once in one project may make a task twice.

    Args:
        store: Label Studio.
        project: where to.
        photos: the first to be labelled first.
        signer: makes the addresses by which people's browsers show the photos.
        suggestions: predictions of one model version, which people are shown from then on.

    Raises:
        SparsightError: Label Studio refuses.
        ImageError: a photo isn't in the account that the signer signs for.
    """
    tasks = list(store.tasks(project))
    there = _there(photos, tasks)
    predictions = suggestions.by_photo if suggestions else {}
    made = _make(store, project, [photo for photo in photos if photo not in there], signer)
    numbers = made | {photo: task.id for photo, task in there.items()}
    added = store.add_predictions(project, _missing(numbers, there, predictions))
    for prediction in itertools.islice(predictions.values(), 1):
        store.show_predictions(project, prediction["model_version"])
    renewed = renew_urls(store, signer, (task for task in tasks if not task.is_done))
    return Pushed(tasks=_table(photos, numbers, there), pre_annotated=added, renewed=renewed)


def _there(photos: Sequence[ChosenPhoto], tasks: Sequence[Task]) -> dict[ChosenPhoto, Task]:
    """Find the tasks of photos, by id and container, since addresses change; of several for one photo the oldest."""
    known = {(task.data.get("container"), task.data.get("id")): task for task in reversed(tasks)}
    return {photo: known[key] for photo in photos if (key := (photo.container, photo.id)) in known}


def _table(
    photos: Sequence[ChosenPhoto], numbers: Mapping[ChosenPhoto, int], there: Mapping[ChosenPhoto, Task]
) -> pd.DataFrame:
    rows = [(photo.id, photo.container, numbers[photo], "known" if photo in there else "new") for photo in photos]
    return pd.DataFrame(rows, columns=COLUMNS)


def _missing(
    numbers: Mapping[ChosenPhoto, int], there: Mapping[ChosenPhoto, Task], predictions: Mapping[str, Prediction]
) -> Iterator[Prediction]:
    """Predictions for tasks that have none of this model version yet."""
    for photo, number in numbers.items():
        prediction, before = predictions.get(photo.id), there.get(photo)
        if prediction and not (before and prediction["model_version"] in before.model_versions):
            yield {"task": number, **prediction}


def _make(
    store: AnnotationStore, project: Project, photos: Sequence[ChosenPhoto], signer: UrlSigner
) -> dict[ChosenPhoto, int]:
    """Make tasks; returns their numbers."""
    progress = Progress("push photos", len(photos), "tasks")
    contents = [{"image": signer.url(photo.uri), "id": photo.id, "container": photo.container} for photo in photos]
    made: dict[ChosenPhoto, int] = {}
    for photo, number in zip(photos, store.add_tasks(project, contents), strict=True):
        made[photo] = number
        progress.advance()
    progress.finish()
    return made


def write_tasks(pushed: Pushed, target: FilePath, parameters: Mapping[str, Any]) -> None:
    """Write the tasks artefact: tasks.csv, in the order in which photos are to be labelled."""
    with new_artefact(target, "tasks", parameters) as draft:
        pushed.tasks.to_csv(draft.folder / "tasks.csv", index=False, lineterminator="\n", encoding="utf-8")
        draft.counts["tasks"] = len(pushed.tasks)
        draft.counts["new"] = int((pushed.tasks["state"] == "new").sum())
        draft.counts["pre_annotated"] = pushed.pre_annotated
