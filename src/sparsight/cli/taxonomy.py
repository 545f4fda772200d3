"""`labels taxonomy`: checks a taxonomy's file, makes one of the labels in use, and writes Label Studio's interface."""

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsight.cli.stores import Containers, NoServices, stores_open
from sparsight.errors import SparsightError

if TYPE_CHECKING:
    from sparsight.data.labels import Path as LabelPath
    from sparsight.data.taxonomy import Taxonomy

app = typer.Typer(help="The taxonomy: which labels there are, in one file.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="The taxonomy's YAML file; docs/taxonomy.md describes it.")]


@app.command()
def check(
    file: File,
    containers: Annotated[
        str, typer.Option(help="Cosmos DB containers whose labels to hold against it, separated by commas.")
    ] = "",
    no_services: NoServices = False,
) -> None:
    """Check a taxonomy's file, and the labels in use against it; ends with 1 where a label in use is unknown."""
    from sparsight.data.taxonomy import Taxonomy
    from sparsight.data.taxonomy_checks import doubts

    taxonomy = Taxonomy.read(file)
    print(_told(taxonomy))
    for sentence in doubts(taxonomy):
        print(f"warning: {sentence}")
    if not containers:
        return
    review = taxonomy.check(_counts(containers, no_services=no_services))
    for sentence in review.sentences():
        print(sentence)
    if review.unknown:
        raise typer.Exit(1)
    print(f"Every label in {containers} has its place.")


@app.command()
def derive(
    containers: Containers,
    out: Annotated[Path | None, typer.Option(help="The file to write; without it, it is printed.")] = None,
    no_services: NoServices = False,
) -> None:
    """Write a taxonomy of the labels in use, with how often each was given, to go on from by hand."""
    from sparsight.data.artefact import write_text
    from sparsight.data.taxonomy import derive_taxonomy
    from sparsight.data.taxonomy_checks import doubts
    from sparsight.data.taxonomy_file import taxonomy_text

    if out is not None and out.exists():
        raise SparsightError(f"{out} is there already.", hint="Give another name with --out, or remove it.")
    counts = _counts(containers, no_services=no_services)
    if not counts:
        raise SparsightError(f"No photo in {containers} has a label, so there is nothing to derive a taxonomy from.")
    taxonomy = derive_taxonomy(counts)
    for sentence in doubts(taxonomy):
        print(f"warning: {sentence}", file=sys.stderr)
    text = taxonomy_text(taxonomy, counts)
    if out is None:
        print(text, end="")
        return
    write_text(out, text)
    print(f"{out}: {_told(taxonomy)}")


@app.command()
def config(
    file: File,
    language: Annotated[str | None, typer.Option(help="Show the nodes' names in it, such as de.")] = None,
) -> None:
    """Print the labelling interface for Label Studio; what it stores are the nodes' own names in any language."""
    from sparsight.data.taxonomy import Taxonomy

    print(Taxonomy.read(file).label_config(language), end="")


def _told(taxonomy: "Taxonomy") -> str:
    parts = [
        "any label" if taxonomy.nodes is None else f"{len(taxonomy.nodes):,} nodes",
        f"{len(taxonomy.retired):,} retired",
        f"{len(taxonomy.rejects()):,} that reject a photo",
        f"names in {', '.join(taxonomy.languages()) or 'no language'}",
    ]
    return ", ".join(parts)


def _counts(containers: str, *, no_services: bool) -> "Counter[LabelPath]":
    from sparsight.data.label_counts import count_labels
    from sparsight.data.query import container_names
    from sparsight.stores.metadata import open_metadata

    names = container_names(containers)

    async def count() -> "Counter[LabelPath]":
        async with open_metadata() as store:
            return await count_labels(store, names)

    with stores_open("cosmos", no_services=no_services):
        return asyncio.run(count())
