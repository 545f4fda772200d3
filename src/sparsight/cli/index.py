"""`index`: photos that look like another one: builds an index of embeddings, changes, searches and serves it."""

import contextlib
import dataclasses
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsight.cli.stores import NoServices, stores_open
from sparsight.errors import SparsightError

if TYPE_CHECKING:
    from sparsight.search.filters import DocumentFilter
    from sparsight.search.searching import Neighbour

app = typer.Typer(help="Photos that look alike: an index to search in.", no_args_is_help=True)

_PORT = 8974

Folder = Annotated[Path, typer.Argument(metavar="INDEX", help="The index's folder.")]
EmbeddingsFolder = Annotated[Path, typer.Option(help="Embeddings of the photos, as the step embed writes them.")]
Dataset = Annotated[Path, typer.Option(help="Dataset that those images were made of; it tells where photos are.")]
Where = Annotated[
    str, typer.Option(help="A condition in Cosmos SQL on the document c, asked now: only such photos are found.")
]
WhereParameters = Annotated[str, typer.Option(help='Values of its parameters, as JSON: {"@width": 300}.')]
Rerank = Annotated[
    list[Path] | None,
    typer.Option(metavar="EMBEDDINGS", help="Put what is found in order by these embeddings; repeatable."),
]
Model = Annotated[
    str | None, typer.Option(help="Where to take the index's model from, in place of the version it names.")
]


@app.command()
def build(
    folder: Folder,
    embeddings: EmbeddingsFolder,
    dataset: Dataset,
    code: Annotated[str, typer.Option(help="learned, itq, pca_sign or random_hyperplanes.")] = "learned",
    bits: Annotated[int, typer.Option(help="Of a code; a multiple of 8.")] = 64,
    structure: Annotated[str, typer.Option(help="auto, flat, ivf or hnsw.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of the code.")] = 0,
) -> None:
    """Build an index into a new folder, which appears only when whole."""
    from sparsight.cli.running import relative
    from sparsight.data.embeddings import Embeddings
    from sparsight.search import Index, IndexOptions, build_index

    options = IndexOptions(code=code, bits=bits, structure=structure, seed=seed)
    build_index(Embeddings(embeddings), dataset, folder, options)
    print(f"{relative(folder)}: {len(Index(folder)):,} photos as codes of {bits} bits.")


@app.command()
def add(folder: Folder, embeddings: EmbeddingsFolder, dataset: Dataset) -> None:
    """Add photos to an index; those that are in it are brought up to date."""
    from sparsight.data.embeddings import Embeddings
    from sparsight.search import add_photos

    print(add_photos(folder, Embeddings(embeddings), dataset))


@app.command()
def remove(
    folder: Folder,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of photos.")] = None,
    file: Annotated[Path | None, typer.Option(help="A text file of more ids, one on each line.")] = None,
) -> None:
    """Remove photos from an index; ids that aren't in it are passed over."""
    from sparsight.search import remove_photos

    names = [*(ids or []), *(_lines(file) if file else [])]
    if not names:
        raise SparsightError("Say which photos to remove.", hint="Give ids, or a file of them with --file.")
    print(remove_photos(folder, names))


@app.command()
def search(
    folder: Folder,
    image: Annotated[Path, typer.Argument(help="The photo to find others like: JPEG, PNG, WebP or TIFF.")],
    count: Annotated[int, typer.Option("--count", "-k", min=1, max=1000, help="How many to find.")] = 10,
    label: Annotated[str, typer.Option(help="Find only photos indexed with this label or one below it.")] = "",
    where: Where = "",
    where_parameters: WhereParameters = "{}",
    rerank: Rerank = None,
    model: Model = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    no_services: NoServices = False,
) -> None:
    """Find the photos of an index that look most like an image file, nearest first."""
    from sparsight.search.session import Session

    documents = _documents(where, where_parameters)
    content = _read(image)
    with _stores(no_services, cosmos=documents is not None):
        session = Session(folder, model=model, embeddings=rerank or (), documents=documents)
        found = session.search(content, count, label)
    if as_json:
        print(json.dumps([dataclasses.asdict(each) for each in found], indent=2))
    else:
        _print(found)


@app.command()
def serve(
    folder: Folder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where, on 127.0.0.1; 0 is a free one.")] = _PORT,
    where: Where = "",
    where_parameters: WhereParameters = "{}",
    rerank: Rerank = None,
    model: Model = None,
    no_services: NoServices = False,
) -> None:
    """Serve a page and a JSON endpoint to search an index with, on this machine, until Ctrl-C."""
    from sparsight.local.search_answers import Answers
    from sparsight.local.search_server import serving
    from sparsight.search.session import Session

    documents = _documents(where, where_parameters)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        contextlib.suppress(KeyboardInterrupt),
        _stores(no_services, "azurite", cosmos=documents is not None),
    ):
        answers = Answers(Session(folder, model=model, embeddings=rerank or (), documents=documents))
        with serving(port, answers, answers.about) as heard_at:
            print(f"Open http://127.0.0.1:{heard_at}/ in a browser; end with Ctrl-C.", flush=True)
            threading.Event().wait()


@contextlib.contextmanager
def _stores(no_services: bool, *names: str, cosmos: bool) -> Iterator[None]:
    """Have the stores for the length of a block: the registry, those named, and the database where it is asked."""
    # One query gains nothing from a second thread, and loses a lot where somebody else wants the other core.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with stores_open("mlflow", *names, *(["cosmos"] if cosmos else []), no_services=no_services):
        yield


def _documents(where: str, parameters: str) -> "DocumentFilter | None":
    from sparsight.search.filters import DocumentFilter

    try:
        values = json.loads(parameters)
    except ValueError as error:
        raise SparsightError(f"where_parameters is no JSON: {error}.") from error
    if not isinstance(values, dict):
        raise SparsightError(f'where_parameters is {parameters}; expected a JSON object, such as {{"@width": 300}}.')
    return DocumentFilter(where=where, parameters=values) if where or values else None


def _lines(file: Path) -> list[str]:
    return [line for line in _read(file).decode("utf-8").splitlines() if line]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SparsightError(f"{file} can't be read: {error.strerror}.") from error


def _print(found: "list[Neighbour]") -> None:
    width = max((len(each.id) for each in found), default=2)
    print(f"{'distance':>8}  {'cosine':>7}  {'id':<{width}}  label, where it is")
    for each in found:
        cosine = "" if each.cosine_distance is None else f"{each.cosine_distance:.4f}"
        print(f"{each.distance:>8}  {cosine:>7}  {each.id:<{width}}  {', '.join(filter(None, [each.label, each.uri]))}")
