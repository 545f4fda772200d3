"""`labels`: what people say about photos, between Label Studio and the metadata store."""

import typer

from sparsight.cli import taxonomy

app = typer.Typer(help="Labels: between Label Studio and the stores.", no_args_is_help=True)
app.add_typer(taxonomy.app, name="taxonomy")


@app.callback()
def _labels() -> None:
    """Keep each command one of its own."""
