"""`labels`: what people say about photos, between Label Studio and the metadata store."""

import typer

from sparsight.cli import labelling_status, simulate, sync, taxonomy

app = typer.Typer(help="Labels: between Label Studio and the stores.", no_args_is_help=True)
app.command("sync")(sync.sync)
app.command("listen")(sync.listen)
app.command("status")(labelling_status.status)
app.command("simulate")(simulate.simulate)
app.add_typer(taxonomy.app, name="taxonomy")
