"""`labels sync` and `labels listen`: what people said in Label Studio into the photos' documents."""

import contextlib
import secrets
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsight.cli.stores import Containers, NoServices, stores_open
from sparsight.errors import SparsightError

if TYPE_CHECKING:
    from sparsight.data.sync.request import SyncRequest

_QUIET, _LONGEST = 5.0, 60.0
_PORT = 8973

Project = Annotated[str, typer.Argument(help="Title of the project in Label Studio.")]
TaxonomyFile = Annotated[
    Path | None, typer.Option(help="A taxonomy's YAML file: retired labels become their successors.")
]
UnknownLabels = Annotated[
    str, typer.Option(help="What becomes of labels that the taxonomy doesn't know: keep, refuse or drop.")
]
AnnotatorNames = Annotated[str, typer.Option(help="What documents call people: hashed, email or id.")]
Reviewers = Annotated[
    str | None, typer.Option(help="E-mail addresses or ids of people whose annotations are reviews, with commas.")
]
Agreeing = Annotated[int, typer.Option(help="So many people with the same labels review each other; 0 is never.")]
MaxCleared = Annotated[
    float, typer.Option(help="Largest share of the project's documents that may lose its annotations at once.")
]


def sync(
    project: Project,
    containers: Containers = "photos",
    export: Annotated[
        Path | None, typer.Option(help="Its JSON export; without one, the running server is asked.")
    ] = None,
    users: Annotated[
        Path | None, typer.Option(help="For an export without e-mail addresses: what GET /api/users/ answers.")
    ] = None,
    taxonomy: TaxonomyFile = None,
    unknown_labels: UnknownLabels = "keep",
    annotators: AnnotatorNames = "hashed",
    reviewers: Reviewers = None,
    agreeing: Agreeing = 0,
    keep_deleted: Annotated[
        bool, typer.Option("--keep-deleted", help="Keep annotations that the export has no longer.")
    ] = False,
    max_cleared: MaxCleared = 0.5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
    no_services: NoServices = False,
) -> None:
    """Bring a project's annotations into the documents of their photos; only what differs is written."""
    from sparsight.data.sync.request import SyncRequest

    request = SyncRequest(
        project=project,
        containers=containers,
        export=export,
        users=users,
        taxonomy=taxonomy,
        unknown_labels=unknown_labels,
        annotators=annotators,
        reviewers=reviewers,
        agreeing=agreeing,
        clear_deleted=not keep_deleted,
        max_cleared=max_cleared,
    )
    services = ["cosmos"] if export else ["cosmos", "label-studio"]
    with stores_open(*services, no_services=no_services):
        print(request.run(dry_run=dry_run))


def listen(
    project: Project,
    containers: Containers = "photos",
    taxonomy: TaxonomyFile = None,
    unknown_labels: UnknownLabels = "keep",
    annotators: AnnotatorNames = "hashed",
    reviewers: Reviewers = None,
    agreeing: Agreeing = 0,
    max_cleared: MaxCleared = 0.5,
    every: Annotated[float, typer.Option(min=1, help="Minutes after which to sync even if nothing was heard.")] = 15,
    port: Annotated[int, typer.Option(help="Where to listen, on 127.0.0.1.")] = _PORT,
    url: Annotated[
        str | None, typer.Option(help="The address at which Label Studio reaches that port, if it runs elsewhere.")
    ] = None,
    no_services: NoServices = False,
) -> None:
    """Sync again whenever somebody annotates, until Ctrl-C; meanwhile Label Studio is asked to tell of changes."""
    from sparsight.data.sync.request import SyncRequest

    request = SyncRequest(
        project=project,
        containers=containers,
        taxonomy=taxonomy,
        unknown_labels=unknown_labels,
        annotators=annotators,
        reviewers=reviewers,
        agreeing=agreeing,
        max_cleared=max_cleared,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with stores_open("cosmos", "label-studio", no_services=no_services), contextlib.suppress(KeyboardInterrupt):
        _listen(request, every * 60, port, url)


def _listen(request: "SyncRequest", patience: float, port: int, url: str | None) -> None:
    """Sync at once, and then after each hint, or when none came for long."""
    from sparsight.local.webhooks import SECRET_HEADER, Hints, listening
    from sparsight.stores.annotations import open_annotations

    secret, hints = secrets.token_urlsafe(32), Hints(_QUIET, _LONGEST)
    hints.give()
    with listening(port, secret, hints) as heard_at, open_annotations() as studio:
        address = url or f"http://127.0.0.1:{heard_at}/"
        with studio.webhook(studio.project(request.project), address, {SECRET_HEADER: secret}):
            print(f"Listening at {address}; end with Ctrl-C.", flush=True)
            while True:
                hints.wait(patience)
                _sync(request)


def _sync(request: "SyncRequest") -> None:
    """Sync; trouble is told, and may be gone by the next time."""
    try:
        print(request.run(), flush=True)
    except SparsightError as error:
        print(f"error: {error}", flush=True)
