"""What commands that read or write the stores share: local services while they run, or those of the environment."""

import contextlib
import os
from collections.abc import Iterator
from typing import Annotated

import typer

Containers = Annotated[str, typer.Option(help="Cosmos DB containers, separated by commas.")]
NoServices = Annotated[
    bool, typer.Option("--no-services", help="Start no local services; use the stores that the environment names.")
]


@contextlib.contextmanager
def stores_open(*names: str, no_services: bool) -> Iterator[None]:
    """Have local services for the length of a block, and the environment point at them.

    Args:
        names: of the services.
        no_services: leave the environment as it is, and start nothing.
    """
    if no_services:
        yield
        return
    from sparsight.local.services import environment, running_services

    with running_services(only=names) as services:
        os.environ.update(environment(services))
        yield
