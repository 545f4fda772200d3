"""`data`: puts sample photos, or anybody's own, into the stores."""

import contextlib
import os
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsight.errors import SparsightError
from sparsight.progress import duration

if TYPE_CHECKING:
    from sparsight.data.loading import LoadSummary

app = typer.Typer(help="Photos in the stores.", no_args_is_help=True)


class Collection(StrEnum):
    """What can be loaded."""

    ELPV = "elpv"
    DIGITS = "digits"
    FOLDER = "folder"
    IDX = "idx"


_FOLDERS = (Collection.FOLDER, Collection.IDX)
_LAYOUT = "folder: <label>/<label>/x.jpg, and unlabelled/. idx: train-images-idx3-ubyte.gz and so on, as MNIST has it."


@app.callback()
def _data() -> None:
    """Keep `load` a command of its own, as more will come beside it."""


@app.command()
def load(
    source: Annotated[Collection, typer.Argument(help="Solar cells, digits, or a folder of your own.")],
    path: Annotated[Path | None, typer.Argument(help=_LAYOUT)] = None,
    name: Annotated[str | None, typer.Option(help="The collection's name, for folder and idx.")] = None,
    limit: Annotated[int | None, typer.Option(help="Take so many photos (samples only).")] = None,
    labelled: Annotated[int | None, typer.Option(help="Give so many photos labels (samples only).")] = None,
    test: Annotated[int | None, typer.Option(help="Set so many photos aside for the test (samples only).")] = None,
    seed: Annotated[int, typer.Option(help="Of the choice and the simulated annotators (samples only).")] = 0,
    no_services: Annotated[
        bool, typer.Option("--no-services", help="Start no local services; use the stores that the environment names.")
    ] = False,
) -> None:
    """Load photos: files to Blob Storage, one document each to Cosmos DB."""
    if (source in _FOLDERS) != (path is not None):
        raise SparsightError(
            f"{source} takes no folder." if path else "Say which folder to load.",
            hint="For example: python execute.py data load folder ~/photos",
        )
    from sparsight.local.services import environment, running_services

    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        if not no_services:
            services = stack.enter_context(running_services(only=["azurite", "cosmos"]))
            os.environ.update(environment(services))
        summary = _load(source, path, name, limit, labelled, test, seed)
    print(f"{summary}\nTook {duration(time.monotonic() - started)}.")


def _load(
    source: Collection,
    path: Path | None,
    name: str | None,
    limit: int | None,
    labelled: int | None,
    test: int | None,
    seed: int,
) -> "LoadSummary":
    from sparsight.data import samples

    if source is Collection.IDX and path is not None:
        from sparsight.data.idx_folder import load_idx

        return load_idx(path, name=name)
    if path is not None:
        return samples.load_folder(path, name=name)
    load = samples.load_elpv if source is Collection.ELPV else samples.load_digits
    return load(limit=limit, labelled=labelled, test=test, seed=seed)
