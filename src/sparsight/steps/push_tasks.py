"""Step push_tasks: make labelling tasks in Label Studio of the photos of a selection, pre-annotated by a model."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsight.steps.arguments import run_step

if TYPE_CHECKING:
    from sparsight.data.labelling.pushing import Pushed


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inputs and outputs of the component push_tasks; components/push_tasks/component.yml says what they mean."""

    selection: Path
    dataset: Path | None = None
    predictions: Path | None = None
    taxonomy: Path | None = None
    language: str | None = None
    project: str = "photos"
    overlap: int | None = None
    valid_hours: float = 168
    tasks: Path


def main(arguments: Arguments) -> None:
    """Read what is to be labelled, and bring it to the project; all inputs are read before the first request."""
    from sparsight.data.artefact import is_finished
    from sparsight.data.labelling.chosen import chosen_photos, read_guesses
    from sparsight.data.labelling.interface import read_interface
    from sparsight.data.labelling.pushing import push_photos, write_tasks
    from sparsight.data.labelling.suggestions import suggest
    from sparsight.data.taxonomy import Taxonomy
    from sparsight.stores.annotations import open_annotations
    from sparsight.stores.image_urls import make_signer

    taxonomy = Taxonomy.read(arguments.taxonomy) if arguments.taxonomy else None
    lists_labels = taxonomy is not None and taxonomy.nodes is not None
    config = taxonomy.label_config(arguments.language) if taxonomy and lists_labels else None
    guesses = read_guesses(arguments.predictions) if arguments.predictions else None
    parameters = _parameters(arguments, guesses.model_version if guesses else None)
    if is_finished(arguments.tasks, "tasks", parameters):
        return
    photos = chosen_photos(arguments.selection, arguments.dataset)
    signer = asyncio.run(make_signer(arguments.valid_hours))
    with open_annotations() as store:
        project = store.ensure_project(arguments.project, config, arguments.overlap)
        interface = read_interface(project.label_config, project.title)
        suggestions = suggest([photo.id for photo in photos], guesses, interface, taxonomy) if guesses else None
        pushed = push_photos(store, project, photos, signer, suggestions)
    write_tasks(pushed, arguments.tasks, parameters)
    _tell(pushed, suggestions.not_offered if suggestions else {}, f"{store.url}/projects/{project.id}")


def _parameters(arguments: Arguments, model_version: str | None) -> dict[str, Any]:
    return {
        "project": arguments.project,
        "overlap": arguments.overlap,
        "language": arguments.language,
        "valid_hours": arguments.valid_hours,
        "model_version": model_version,
    }


def _tell(pushed: "Pushed", not_offered: Mapping[str, int], address: str) -> None:
    new = int((pushed.tasks["state"] == "new").sum())
    print(
        f"{new:,} new tasks, {len(pushed.tasks) - new:,} were there; {pushed.pre_annotated:,} pre-annotated: {address}"
    )
    if pushed.renewed:
        print(f"{pushed.renewed:,} photos got a new address, since theirs would have expired")
    for label, count in sorted(not_offered.items()):
        print(f"warning: {label}, the model's label of {count:,} photos, isn't offered by the labelling interface")


if __name__ == "__main__":
    run_step(Arguments, main)
