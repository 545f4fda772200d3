"""A pipeline as the job that a workspace takes: values in place, steps named, code and environments known there."""

import copy
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsight.cloud.snapshot import Snapshot, snapshot_of, upload
from sparsight.cloud.workspace import STORES, Workspace
from sparsight.errors import SparsightError
from sparsight.local.distribution import Size, size_of
from sparsight.local.graph import Data, Pipeline, moving_input
from sparsight.local.problems import nearest
from sparsight.stores.azureml import quiet

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

_NEEDED = {
    "cosmos": ("SPARSIGHT_COSMOS_ENDPOINT",),
    "azurite": ("SPARSIGHT_BLOB_ENDPOINT",),
    "label-studio": ("SPARSIGHT_LABEL_STUDIO_URL", "SPARSIGHT_LABEL_STUDIO_TOKEN_SECRET"),
}
"""Variables that a step needs on Azure in place of a local service."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job before it is submitted.

    Args:
        name: unique in the workspace.
        content: azure-ai-ml's PipelineJob.
        snapshots: the code of the steps, by folder.
    """

    name: str
    content: Any
    snapshots: Mapping[Path, Snapshot]


def prepare(
    pipeline: Pipeline,
    workspace: Workspace,
    *,
    version: str,
    compute: str | None = None,
    experiment: str | None = None,
    force: bool = False,
) -> Job:
    """Turn a checked pipeline into a job: its own content is changed. Nothing is sent.

    Args:
        pipeline: with its values in place.
        workspace: where it will go.
        version: of the code, for the record of every step.
        compute: the cluster for every step, in place of those that the YAML names.
        experiment: its experiment, in place of the YAML's.
        force: run every step, also where an earlier result fits.

    Raises:
        SparsightError: the steps' stores are unknown, or a code folder can't be uploaded.
    """
    _check_stores(pipeline, workspace)
    content = pipeline.content
    content.name = f"{pipeline.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    content.experiment_name = experiment or content.experiment_name or f"sparsight-{pipeline.name}"
    for name, value in pipeline.settings.items():
        setattr(content.inputs, name, _input(value) if isinstance(value, Data) else value.value)
    if compute:
        content.settings.default_compute = compute
    if force:
        content.settings.force_rerun = True
    # Nothing here may change from one submission of the same code to the next: Azure ML reuses the result of a step
    # only where the step is the same. The job's own name reaches its steps as AZUREML_ROOT_RUN_ID.
    variables = {**workspace.stores, "SPARSIGHT_CODE_VERSION": version}
    for name, node in content.jobs.items():
        node.display_name = name
    for path, node in commands(content):
        node.display_name = path
        node.environment_variables = {**variables, **(node.environment_variables or {})}
        if moving_input(pipeline, pipeline.steps[path]):
            node.component._is_deterministic = False
        if compute:
            node.compute = None
        _distribute(node, size_of(pipeline, pipeline.steps[path]))
    return Job(name=content.name, content=content, snapshots=_snapshots(content))


def _distribute(node: Any, size: Size) -> None:
    """Say on the node how many processes it runs as, where its inputs ask for more than its component says.

    The component keeps what it says, so that it stays one component, and shared memory is as large as it asks for.
    """
    from azure.ai.ml import MpiDistribution
    from azure.ai.ml.entities import JobResourceConfiguration

    if getattr(node.distribution, "type", None) != "mpi":
        return
    if node.distribution.process_count_per_instance != size.processes:
        node.distribution = MpiDistribution(process_count_per_instance=size.processes)
    resources = copy.copy(node.resources) or JobResourceConfiguration()
    if (resources.instance_count or 1) != size.instances:
        resources.instance_count = size.instances
        node.resources = resources


def commands(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command step of a pipeline and of those nested in it, by its full name."""
    for name, node in (content.jobs or content.component.jobs).items():
        if node.type == "pipeline":
            yield from commands(node, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", node


def submit(client: "MLClient", job: Job, workspace: Workspace) -> Any:
    """Submit a job; each code folder and environment is made known once, whatever the number of steps it serves.

    Returns:
        The job as the workspace took it: name, status, studio_url.

    Raises:
        SparsightError: a compute doesn't exist, or can't give nodes.
    """
    with quiet():
        make_known(client, job, workspace)
        # Its own validation was part of the check; here it would take as long as everything else.
        return client.jobs.create_or_update(job.content, skip_validation=True)


def make_known(client: "MLClient", job: Job, workspace: Workspace) -> None:
    """Check the computes, and put a job's code and environments into the workspace.

    Raises:
        SparsightError: a compute doesn't exist, or can't give nodes.
    """
    with quiet():
        _check_computes(client, job, workspace)
        codes = {folder: upload(client, snapshot) for folder, snapshot in job.snapshots.items()}
        environments: dict[str, str] = {}
        for _, node in commands(job.content):
            component = node.component
            if component.code:
                component.code = codes[_code_folder(component)]
            environment = component.environment
            if environment is not None and not isinstance(environment, str):
                known = environments.get(environment.version)
                known = known or str(client.environments.create_or_update(environment).id)
                environments[environment.version] = component.environment = known


def message(job: Job) -> str:
    """The job as JSON, in the shape in which it is sent; in place of its components' ids their own content."""
    from azure.ai.ml._restclient.arm_ml_service._utils.model_base import SdkJSONEncoder

    with quiet():
        rest = job.content._to_rest_object()
        body = rest.as_dict() if hasattr(rest, "as_dict") else rest
        for name, node in job.content.jobs.items():
            component = node.component
            told = component._to_rest_object().properties.component_spec if component is not None else None
            body["properties"]["jobs"][name]["componentId"] = told
    return json.dumps(body, cls=SdkJSONEncoder, exclude_readonly=True, indent=2, default=str)


def _input(data: Data) -> Any:
    from azure.ai.ml import Input

    return Input(type=data.type, path=str(data.path))


def _snapshots(content: Any) -> dict[Path, Snapshot]:
    folders = {_code_folder(node.component) for _, node in commands(content) if node.component.code}
    return {folder: snapshot_of(folder) for folder in sorted(folders)}


def _code_folder(component: Any) -> Path:
    return Path(component.base_path, str(component.code)).resolve()


def _check_stores(pipeline: Pipeline, workspace: Workspace) -> None:
    needed = {
        variable
        for step in pipeline.steps.values()
        for service in step.services
        for variable in _NEEDED.get(service, ())
    }
    missing = sorted(
        needed - set(workspace.stores) - {key for step in pipeline.steps.values() for key in step.variables}
    )
    if missing:
        keys = ", ".join(f"{STORES[variable]}" for variable in missing)
        raise SparsightError(
            f"The steps of {pipeline.name} wouldn't find photos, metadata or labels: {', '.join(missing)} isn't set.",
            hint=f"Set it in the environment, or write {keys} into config.json beside the workspace's name.",
        )


def _check_computes(client: "MLClient", job: Job, workspace: Workspace) -> None:
    """Refuse computes that don't exist or can't give nodes; Azure ML itself would queue the job for hours."""
    from azure.core.exceptions import ResourceNotFoundError

    names = {str(node.compute) for _, node in commands(job.content) if node.compute}
    names |= {str(name) for name in (job.content.compute, job.content.settings.default_compute) if name}
    for name in sorted({each.removeprefix("azureml:") for each in names} - {"serverless"}):
        try:
            found = client.compute.get(name)
        except ResourceNotFoundError:
            known = sorted(str(each.name) for each in client.compute.list())
            has = f" It has {', '.join(known)}." if known else " It has none yet."
            raise SparsightError(
                f"{workspace} has no compute {name!r}{nearest(name, known)}{has}",
                hint="Name another with --compute, or create it: docs/azure.md says how.",
            ) from None
        if found.provisioning_errors:
            raise SparsightError(
                f"The compute {name!r} can't give nodes: {found.provisioning_errors}.",
                hint="Where that is a quota, ask for more in the portal, or take another compute with --compute NAME.",
            )
