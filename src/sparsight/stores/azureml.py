"""The Azure ML workspace that a step runs in: its client, and the job that the step is part of."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from sparsight.stores.settings import signed_in

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

_WORKSPACE = ("AZUREML_ARM_SUBSCRIPTION", "AZUREML_ARM_RESOURCEGROUP", "AZUREML_ARM_WORKSPACE_NAME")
"""What tells a job of Azure ML its workspace."""
_PIPELINE = "AZUREML_ROOT_RUN_ID"
"""What tells a step's job the pipeline's job."""


def workspace_of_job(environment: Mapping[str, str] = os.environ) -> tuple[str, str, str] | None:
    """Say in which workspace this process runs: subscription, resource group, name; None where it isn't Azure ML's."""
    subscription, group, name = (environment.get(variable, "") for variable in _WORKSPACE)
    return (subscription, group, name) if subscription and group and name else None


def cancel_pipeline_of_job(environment: Mapping[str, str] = os.environ) -> str | None:
    """Ask for the end of the pipeline that this process is a step of.

    Returns:
        The pipeline's job, or None where this isn't a step of Azure ML's.

    Raises:
        AzureError, MlException: as Azure's client does.
    """
    workspace, job = workspace_of_job(environment), environment.get(_PIPELINE, "")
    if workspace is None or not job:
        return None
    client = open_client(*workspace)
    with quiet():
        client.jobs.begin_cancel(job)
    return job


def open_client(subscription: str, resource_group: str, workspace: str) -> "MLClient":
    """Open a workspace's client, signed in as whoever runs this: in a job its user or its managed identity."""
    with quiet():
        from azure.ai.ml import MLClient

        return MLClient(
            signed_in(), subscription, resource_group, workspace, show_progress=False, enable_telemetry=False
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep azure-ai-ml's notes on experimental classes, anonymous assets and old calls of its own off the screen."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            yield
    finally:
        logging.disable(level)
