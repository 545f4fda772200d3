"""`labels simulate`: annotators who aren't there, to try the labelling loop without people."""

from pathlib import Path
from typing import Annotated

import typer

from sparsight.cli.stores import NoServices, stores_open
from sparsight.cli.sync import Project
from sparsight.errors import SparsightError


def simulate(
    project: Project,
    truth: Annotated[
        str, typer.Option(help="Where the true labels are from: digits, elpv, or a CSV file with columns id and label.")
    ],
    annotators: Annotated[int, typer.Option(min=1, max=100, help="How many there are.")] = 3,
    error_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of photos that each of them gets wrong.")
    ] = 0.05,
    cost: Annotated[float, typer.Option(min=0, help="Of one annotation, in any currency.")] = 1.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Label so many tasks at most.")] = None,
    seed: Annotated[int, typer.Option(help="Of the errors.")] = 0,
    no_services: NoServices = False,
) -> None:
    """Have simulated annotators label open tasks of a project in the local Label Studio."""
    from sparsight.data.annotators import SimulatedAnnotator
    from sparsight.data.labelling.simulation import annotate_tasks
    from sparsight.stores.annotations import open_annotations

    truths = _truths(truth)
    labels = sorted(set(truths.values()))
    people = [
        SimulatedAnnotator(name=f"annotator-{number}", labels=labels, error_rate=error_rate, seed=seed, cost=cost)
        for number in range(1, annotators + 1)
    ]
    with stores_open("label-studio", no_services=no_services), open_annotations() as store:
        print(annotate_tasks(store, store.project(project), people, truths, limit=limit))


def _truths(source: str) -> dict[str, tuple[str, ...]]:
    import pandas as pd

    from sparsight.data.labels import split_path
    from sparsight.data.samples import LABELLED_SHARE, sample_truths

    if source in LABELLED_SHARE:
        return dict(sample_truths(source))
    file = Path(source)
    if not file.is_file():
        raise SparsightError(
            f"truth is {source!r}, which is neither a file nor one of {', '.join(LABELLED_SHARE)}.",
            hint="Give a CSV file with the columns id and label (a label path such as dog/poodle).",
        )
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    if not {"id", "label"} <= set(table.columns) or not len(table):
        raise SparsightError(f"{file} has the columns {list(table.columns)}; expected id and label, and a row or more.")
    return {photo: split_path(label) for photo, label in zip(table["id"], table["label"], strict=True) if label}
