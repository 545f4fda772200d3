"""`labels`: what people say about photos, between Label Studio and the metadata store."""

import typer

from sparsight.cli import labelling_status, quality, renewing, simulate, sync, taxonomy

app = typer.Typer(help="Labels: between Label Studio and the stores.", no_args_is_help=True)
app.command()(sync.sync)
app.command()(sync.listen)
app.command()(labelling_status.status)
app.command()(renewing.renew)
app.command()(quality.quality)
app.command()(simulate.simulate)
app.add_typer(taxonomy.app, name="taxonomy")
