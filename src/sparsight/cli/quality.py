"""`labels quality`: how far annotators agree, straight from the photos' documents."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from sparsight.cli.stores import Containers, NoServices, stores_open

if TYPE_CHECKING:
    import pandas as pd


def quality(
    containers: Containers,
    level: Annotated[int, typer.Option(min=0, help="Level of the taxonomy, 1 is the first; 0 is the whole path.")] = 0,
    include_reviewed: Annotated[
        bool,
        typer.Option("--include-reviewed", help="Measure on reviewed photos, too, which a review may have put right."),
    ] = False,
    no_services: NoServices = False,
) -> None:
    """Print how far annotators agree: by level, on the worst labels, and each with the others."""
    from sparsight.evaluation.disagreements import LabelRule
    from sparsight.evaluation.label_quality import measure_labels, summary

    with stores_open("cosmos", no_services=no_services):
        annotations = asyncio.run(_annotations(containers))
    rule = LabelRule(taxonomy_level=level)
    measured = measure_labels(annotations, rule, exclude_reviewed=not include_reviewed)
    print("\n".join([*summary(measured), *(f"note: {note}" for note in measured.notes)]))
    command = f"python execute.py run label_quality --set containers={containers} --set taxonomy_level={level}"
    print(f"\nFor photos, and labels that are likely wrong: {command}")


async def _annotations(containers: str) -> "pd.DataFrame":
    from sparsight.data.annotations import annotations_of
    from sparsight.data.query import PhotoQuery, container_names, fetch
    from sparsight.stores.metadata import open_metadata

    async with open_metadata() as store:
        return annotations_of(await fetch(store, PhotoQuery(containers=container_names(containers))))
