"""`services`: starts, stops and shows the local servers for images, metadata and experiments."""

import typer

app = typer.Typer(help="Local services on 127.0.0.1: Blob Storage, Cosmos DB and MLflow.", no_args_is_help=True)


@app.command()
def up() -> None:
    """Start the services; they stay until `services down`."""
    from sparsight.local import services

    services.up()
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
        print(f"{each.name:<8} {each.state:<8} {each.url:<48} {memory:>8}  {each.log}")
