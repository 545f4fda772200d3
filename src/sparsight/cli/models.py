"""`models`: registered models, in the local MLflow or in a workspace: list, show, promote, download."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsight.cli.cloud import ResourceGroup, Subscription
from sparsight.cli.running import relative
from sparsight.errors import SparsightError

if TYPE_CHECKING:
    from sparsight.evaluation.promotion import Verdict
    from sparsight.stores.registry import ModelRegistry, ModelVersion

app = typer.Typer(help="Registered models, here or in a workspace.", no_args_is_help=True)

_WHERE = "Workspace; without one, the models of this machine"
_STYLES = {"production": "green", "candidate": "cyan", "archived": "dim"}
WorkspaceName = Annotated[
    str | None,
    typer.Option("--workspace", help="Its name; the rest may come from config.json.", rich_help_panel=_WHERE),
]
Reference = Annotated[
    str, typer.Argument(metavar="MODEL", help="Such as photos@latest, photos@production, photos@candidate or photos/3.")
]
NoServices = Annotated[
    bool, typer.Option("--no-services", help="Start no MLflow; use the one that MLFLOW_TRACKING_URI names.")
]


@app.command("list")
def list_models(
    name: Annotated[str | None, typer.Argument(help="A model whose versions to list; without it, all models.")] = None,
    no_services: NoServices = False,
    subscription: Subscription = None,
    resource_group: ResourceGroup = None,
    workspace: WorkspaceName = None,
) -> None:
    """List the registered models, or one's versions."""
    with _registry(no_services, subscription, resource_group, workspace) as registry:
        if name is not None:
            from sparsight.stores.registry import resolve

            _print_versions(resolve(registry, f"{name}@latest").name, registry)
            return
        found = {each: registry.versions(each) for each in registry.names()}
        found = {each: versions for each, versions in found.items() if versions}
        if found:
            _print_models(found)
        else:
            print(f"There are no models in {registry.where} yet. Make one: python execute.py run recognise")


@app.command()
def show(
    model: Reference,
    no_services: NoServices = False,
    subscription: Subscription = None,
    resource_group: ResourceGroup = None,
    workspace: WorkspaceName = None,
) -> None:
    """Show a version: its stage, how good it was, and where it is from."""
    from sparsight.stores.registry import resolve

    with _registry(no_services, subscription, resource_group, workspace) as registry:
        _print_version(resolve(registry, model))


@app.command()
def promote(
    model: Reference,
    metric: Annotated[str, typer.Option(help="What to compare on the test images.")] = "macro_f1",
    by: Annotated[float, typer.Option(min=0.0, help="The least gain that counts; by default any.")] = 0.0,
    images: Annotated[
        Path | None,
        typer.Option(help="Test both now, on the test split of this folder of packed images, as data_prep makes it."),
    ] = None,
    force: Annotated[
        str | None, typer.Option(metavar="REASON", help="Promote it whatever was measured; the reason is recorded.")
    ] = None,
    no_services: NoServices = False,
    subscription: Subscription = None,
    resource_group: ResourceGroup = None,
    workspace: WorkspaceName = None,
) -> None:
    """Put a version into production, if it beats the one there on the same test images; ends with 1 where it doesn't.

    Without one in production it is promoted as it is.
    """
    from sparsight.evaluation.promotion import promote as promote_model

    with _registry(no_services, subscription, resource_group, workspace) as registry:
        verdict = promote_model(registry, model, metric=metric, by=by, images=images, force=force)
    raise typer.Exit(_tell(verdict))


@app.command()
def download(
    context: typer.Context,
    model: Reference,
    into: Annotated[Path | None, typer.Option(help="The folder to make; by default models/NAME-VERSION.")] = None,
    no_services: NoServices = False,
    subscription: Subscription = None,
    resource_group: ResourceGroup = None,
    workspace: WorkspaceName = None,
) -> None:
    """Download a version into a new folder, which appears only when whole."""
    from sparsight.stores.models import fetch_model
    from sparsight.stores.registry import resolve

    with _registry(no_services, subscription, resource_group, workspace) as registry:
        version = resolve(registry, model)
        folder = fetch_model(version, into or context.obj / "models" / f"{version.name}-{version.number}", registry)
    print(f"{version.reference}: {relative(folder)}")


@app.command()
def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Such as photos@production or photos/3, or a model folder's path.")
    ],
    onnx: Annotated[Path, typer.Option(metavar="FILE", help="The file to make.")],
    no_services: NoServices = False,
    subscription: Subscription = None,
    resource_group: ResourceGroup = None,
    workspace: WorkspaceName = None,
) -> None:
    """Export a version as an ONNX file, which appears only when onnxruntime gives what torch gives."""
    from sparsight.models.onnx_export import export_onnx
    from sparsight.stores.models import model_folder

    with contextlib.ExitStack() as stack:
        where = (no_services, subscription, resource_group, workspace)
        registry = None if Path(model).is_dir() else stack.enter_context(_registry(*where))
        folder, version = stack.enter_context(model_folder(model, registry))
        export_onnx(folder, onnx, version=version)
    print(f"{version or model}: {relative(onnx)}")


@contextlib.contextmanager
def _registry(
    no_services: bool, subscription: str | None, resource_group: str | None, workspace: str | None
) -> "Iterator[ModelRegistry]":
    """Open the registry that is meant: a workspace's where one of its names is given, else this machine's."""
    if subscription or resource_group or workspace:
        yield _of_workspace(subscription, resource_group, workspace)
        return
    from sparsight.local.services import environment, running_services
    from sparsight.stores.registry import open_registry

    with contextlib.ExitStack() as stack:
        if not no_services:
            os.environ.update(environment(stack.enter_context(running_services(only=["mlflow"]))))
        elif not os.environ.get("MLFLOW_TRACKING_URI"):
            raise SparsightError(
                "--no-services is given, but MLFLOW_TRACKING_URI isn't set: there is no telling where the models are.",
                hint="Set it to your server's address, leave --no-services out, or name a workspace with --workspace.",
            )
        yield open_registry()


def _of_workspace(subscription: str | None, resource_group: str | None, name: str | None) -> "ModelRegistry":
    from sparsight.cloud import workspace
    from sparsight.stores.azureml_registry import AzureMLRegistry

    where = workspace.find_workspace(subscription=subscription, resource_group=resource_group, name=name)
    return AzureMLRegistry(workspace.open_client(where))


def _tell(verdict: "Verdict") -> int:
    if not verdict.allowed:
        print(f"Refused: {verdict.reason}\n{verdict.hint}", file=sys.stderr)
        return 1
    print(verdict.reason)
    if not verdict.in_place:
        print(f"{verdict.candidate.reference} is in production now: {verdict.candidate.name}@production.")
        if verdict.incumbent:
            print(f"{verdict.incumbent.reference} went to the archive.")
    return 0


def _print_models(found: "dict[str, list[ModelVersion]]") -> None:
    from rich.markup import escape

    table = _table("model", "kind", "latest", "production", "macro F1", "registered")
    for name, versions in found.items():
        latest = versions[-1]
        used = next((version for version in versions if version.stage == "production"), None)
        row = [name, _lineage(latest).kind, latest.reference, used.reference if used else "", _score(used or latest)]
        table.add_row(*map(escape, [*row, _when(latest)]))
    _print(table)


def _print_versions(name: str, registry: "ModelRegistry") -> None:
    from rich.markup import escape

    table = _table("version", "stage", "macro F1", "test images", "run", "code", "registered")
    for version in reversed(registry.versions(name)):
        lineage = _lineage(version)
        rest = [_score(version), f"{lineage.test_images or ''}", lineage.pipeline_run, lineage.code_version]
        style = _STYLES[version.stage]
        table.add_row(version.reference, f"[{style}]{version.stage}[/]", *map(escape, [*rest, _when(version)]))
    _print(table)


def _print_version(version: "ModelVersion") -> None:
    from sparsight.evaluation.promotion import promotion_of

    lineage = _lineage(version)
    print(f"{version.reference}: {', '.join(dict.fromkeys([version.stage, *version.aliases]))}")
    rows: list[tuple[str, Any]] = [
        ("registered", _when(version)),
        ("kind", " on ".join(filter(None, [lineage.kind, lineage.backbone]))),
        ("base model", lineage.base_model),
        ("step", lineage.step),
        ("pipeline run", lineage.pipeline_run),
        ("MLflow run", lineage.run_id),
        ("code", lineage.code_version),
        ("dataset", lineage.dataset_digest[:12]),
        *((f"  {key}", value) for key, value in lineage.dataset_counts.items()),
        ("query", " " if lineage.dataset_query else ""),
        *((f"  {key}", value) for key, value in lineage.dataset_query.items()),
        ("test images", f"{lineage.test_images:,} ({lineage.test_digest[:12]})" if lineage.test_digest else ""),
        *((f"  {key}", f"{value:.4f}") for key, value in sorted(lineage.metrics.items())),
        ("promoted", " " if promotion_of(version) else ""),
        *((f"  {key}", value) for key, value in promotion_of(version).items()),
    ]
    for title, value in rows:
        if value not in (None, ""):
            print(f"  {title:<22}{value}".rstrip())


def _lineage(version: "ModelVersion") -> Any:
    from sparsight.stores.lineage import Lineage

    return Lineage.of_tags(version.tags)


def _score(version: "ModelVersion") -> str:
    score = _lineage(version).metrics.get("macro_f1")
    return "" if score is None else f"{score:.3f}"


def _when(version: "ModelVersion") -> str:
    return version.created.astimezone().strftime("%Y-%m-%d %H:%M") if version.created else ""


def _table(*titles: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _print(table: Any) -> None:
    from rich.console import Console

    Console(highlight=False).print(table)
