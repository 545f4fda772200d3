"""`services`: starts, stops and shows the local servers for images, metadata, experiments, labels and studies."""

from typing import Annotated

import typer

app = typer.Typer(help="Local services on 127.0.0.1: Blob Storage, Cosmos DB, MLflow, and more.", no_args_is_help=True)


@app.command()
def up(
    more: Annotated[
        list[str] | None,
        typer.Option(
            "--with", metavar="SERVICE", help="Start this one, too: label-studio or optuna-dashboard; repeatable."
        ),
    ] = None,
) -> None:
    """Start Blob Storage, Cosmos DB and MLflow; they stay until `services down`."""
    from sparsight.local import services
    from sparsight.local.servers import USUAL

    services.up(only=dict.fromkeys([*USUAL, *(more or [])]))
    status()


@app.command()
def down() -> None:
    """Stop the services; their data stay."""
    from sparsight.local import services

    stopped = services.down()
    print(f"Stopped {', '.join(stopped)}." if stopped else "No service was running.")


@app.command()
def status() -> None:
    """Show the services: state, address, memory, log."""
    from sparsight.local import services

    for each in services.status():
        memory = f"{each.memory / 2**20:,.0f} MB" if each.memory else ""
        print(f"{each.name:<16} {each.state:<8} {each.url:<48} {memory:>8}  {each.log}")
        if each.note:
            print(f"{'':<16} {each.note}")
