"""`labels renew`: gives the photos of labelling tasks new addresses before the old ones expire."""

import asyncio
from typing import Annotated

import typer

from sparsight.cli.stores import NoServices, stores_open


def renew(
    project: Annotated[str, typer.Argument(help="Title of the Label Studio project.")],
    valid_hours: Annotated[
        float, typer.Option(min=1, max=168, help="Hours for which the new addresses are valid.")
    ] = 168,
    everything: Annotated[
        bool, typer.Option("--all", help="Also of tasks that enough people have labelled, to look at them again.")
    ] = False,
    no_services: NoServices = False,
) -> None:
    """Renew addresses of photos of which less than half of the time is left."""
    from sparsight.data.labelling.renewal import renew_urls
    from sparsight.stores.annotations import open_annotations
    from sparsight.stores.image_urls import make_signer

    with stores_open("azurite", "label-studio", no_services=no_services):
        signer = asyncio.run(make_signer(valid_hours))
        with open_annotations() as store:
            tasks = store.tasks(store.project(project))
            renewed = renew_urls(store, signer, (task for task in tasks if everything or not task.is_done))
    until = f", valid until {signer.expiry.astimezone():%Y-%m-%d %H:%M}" if renewed else ""
    print(f"{project}: {renewed:,} photos got a new address{until}.")
