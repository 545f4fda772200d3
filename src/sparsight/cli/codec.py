"""`compress`, `decompress`: images to small files and back, with a trained autoencoder; also alone, as a program."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsight.cli.stores import stores_open
from sparsight.errors import SparsightError
from sparsight.progress import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparsight.models.codec.batch import Summary
    from sparsight.models.codec.codec import Codec
    from sparsight.models.codec.places import Found, Place

Sources = Annotated[list[str], typer.Argument(help="Files, folders, or blob:container/prefix.")]
Model = Annotated[
    str, typer.Option("--model", help="A model folder of train_autoencoder, or a registered one: name@latest, name/3.")
]
Out = Annotated[str, typer.Option(help="The folder to write to, or blob:container/prefix.")]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Files, or parts of one, at a time; by default as many as cores.")
]
NoServices = Annotated[
    bool, typer.Option("--no-services", help="Start no local services; use those that the environment names.")
]


def compress(
    sources: Sources,
    model: Model,
    out: Out,
    bits_per_pixel: Annotated[
        float | None, typer.Option("--bpp", min=0.001, help="Bits a pixel, at most; by default all that the model has.")
    ] = None,
    jobs: Jobs = None,
    no_services: NoServices = False,
) -> None:
    """Compress images of any size: x.jpg becomes x.jpg.spsz."""
    from sparsight.models.codec.batch import IMAGES, compress_files

    def work(codec: "Codec", files: "list[Found]", target: "Place", jobs: int) -> "Summary":
        return compress_files(codec, files, target, bits_per_pixel, jobs)

    _run(work, sources, IMAGES, model, out, jobs, no_services)


def decompress(sources: Sources, model: Model, out: Out, jobs: Jobs = None, no_services: NoServices = False) -> None:
    """Decompress files of the same model: x.jpg.spsz becomes x.jpg.png."""
    from sparsight.models.codec.batch import COMPRESSED, decompress_files

    _run(decompress_files, sources, COMPRESSED, model, out, jobs, no_services)


def _run(
    work: "Callable[[Codec, list[Found], Place, int], Summary]",
    sources: list[str],
    suffixes: tuple[str, ...],
    model: str,
    out: str,
    jobs: int | None,
    no_services: bool,
) -> None:
    from sparsight.models.codec.places import BlobStorage, find, open_place

    began = time.monotonic()
    jobs = jobs or len(os.sched_getaffinity(0))
    with _services(model, [*sources, out], no_services), BlobStorage() as blobs:
        files = find(sources, suffixes, blobs)
        codec = _open_codec(model, jobs)
        summary = work(codec, files, open_place(out, blobs), jobs)
    _tell(summary, time.monotonic() - began)


@contextlib.contextmanager
def _services(model: str, places: list[str], no_services: bool) -> Iterator[None]:
    """Have those local services that are needed: none for files and a model folder."""
    from sparsight.models.codec.places import BLOB

    needed = ["azurite"] if any(place.startswith(BLOB) for place in places) else []
    needed += [] if Path(model).is_dir() else ["mlflow"]
    with stores_open(*needed, no_services=no_services or not needed):
        yield


def _open_codec(model: str, jobs: int) -> "Codec":
    from sparsight.models.codec.codec import Codec
    from sparsight.stores.models import model_folder

    with model_folder(model) as (folder, _):
        return Codec(folder, threads=jobs)


def _tell(summary: "Summary", seconds: float) -> None:
    for name, why in sorted(summary.failed.items()):
        print(f"{name}: {why}", file=sys.stderr)
    size = min(summary.read, summary.written) * 8 / max(1, summary.pixels)
    print(
        f"{summary.files:,} images, {summary.pixels / 1e6:,.1f} megapixels, {size:.3f} bits a pixel, "
        f"{summary.read:,} bytes to {summary.written:,}. Took {duration(seconds)}."
    )
    if summary.failed:
        print(f"{len(summary.failed):,} files failed.", file=sys.stderr)
        raise typer.Exit(1)


app = typer.Typer(
    name="sparsight",
    help="Compress images with a trained autoencoder, and decompress them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(compress)
app.command()(decompress)


def main(arguments: list[str] | None = None) -> None:
    """Run one of the two commands and end the process, with 1 where a file failed and 2 for wrong input."""
    try:
        app(arguments)
    except SparsightError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
