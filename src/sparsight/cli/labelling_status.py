"""`labels status`: the queue of a labelling project, how far people agree, and what labels have bought so far."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsight.cli.stores import NoServices, stores_open
from sparsight.cli.sync import Project

if TYPE_CHECKING:
    from sparsight.stores.annotations import AnnotationStore
    from sparsight.stores.annotations import Project as AnnotatedProject


def status(
    project: Project,
    model: Annotated[str, typer.Option(help="The classifier whose learning curve to show.")] = "classifier",
    metric: Annotated[str, typer.Option(help="Its scores' name.")] = "macro_f1",
    plot: Annotated[
        Path, typer.Option(help="Where to draw the learning curve, as PNG; drawn once two versions tell it.")
    ] = Path("learning_curve.png"),
    no_services: NoServices = False,
) -> None:
    """Show what is labelled and what waits, how far people agree, and a model's scores against labels spent."""
    from sparsight.data.labelling.queue import Queue
    from sparsight.evaluation.learning_curve import learning_curve, plot_learning_curve
    from sparsight.stores.annotations import open_annotations
    from sparsight.stores.registry import open_registry

    with stores_open("label-studio", "mlflow", no_services=no_services):
        with open_annotations() as store:
            found = store.project(project)
            queue = Queue.of(store.tasks(found))
            print(f"{project}: {queue}", flush=True)
            if queue.annotations:
                print("\n".join(_agreement(store, found)))
        points = learning_curve(open_registry().versions(model), metric)
    if not points:
        print(f"{model}: no version yet that tells its annotations and {metric}.")
        return
    print(f"\n{'version':<24} {'annotations':>12} {'photos':>8} {metric:>12}")
    for point in points:
        notes = ["in production"] * (point.stage == "production") + ["other test images"] * (not point.comparable)
        row = f"{point.reference:<24} {point.annotations:>12,} {point.photos:>8,} {point.score:>12.3f}"
        print(f"{row}  {', '.join(notes)}".rstrip())
    if len(points) > 1:
        plot_learning_curve(plot, points, model=model, metric=metric)
        print(f"\nDrawn in {plot}.")


def _agreement(store: "AnnotationStore", project: "AnnotatedProject") -> list[str]:
    """Say how far annotators agree, in lines of text, from what they have said until now."""
    from sparsight.data.labelling.answers import answers
    from sparsight.data.sync.annotators import Annotators
    from sparsight.data.sync.export import parse_tasks
    from sparsight.evaluation.disagreements import LabelRule
    from sparsight.evaluation.label_quality import agreement_by_level, measure_labels

    exported = parse_tasks(store.export(project), f"The export of {project.title!r}")
    said = answers(exported, Annotators(emails=store.users()))
    if not len(said):
        return []
    return ["", *agreement_by_level(measure_labels(said, LabelRule()).quality)]
