"""azure-ai-ml as the local runner calls it: quietly, with errors that a person can read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparsight.local.problems import Problem, refuse
from sparsight.stores.azureml import quiet


def load_job_file(path: Path) -> Any:
    """Call azure-ai-ml's `load_job`, its messages shortened to what a person needs.

    Raises:
        SparsightError: azure-ai-ml can't load the file.
    """
    try:
        with quiet():
            from azure.ai.ml import load_job

            return load_job(path)
    except Exception as error:
        problems = _schema_problems(path, str(error)) or [Problem(str(path), f"azure-ai-ml can't load it: {error!r}")]
        refuse(str(path), problems)
        raise


def validate(job: Any) -> Mapping[str, str]:
    """Ask azure-ai-ml's only validator that needs no workspace; problems by place."""
    with quiet():
        messages: Mapping[str, str] = job._validate().error_messages
    return messages


def _schema_problems(path: Path, message: str) -> list[Problem]:
    start, end = message.find("{"), message.rfind("}")
    try:
        errors = json.loads(message[start : end + 1])["errors"]
    except (ValueError, KeyError, TypeError):
        return [Problem(str(path), message.split("\n\n")[0])]
    return [Problem(f"{error.get('location') or path}: {error['path']}", _shorten(error)) for error in errors]


def _shorten(error: Mapping[str, Any]) -> str:
    value, place = error.get("value"), str(error["path"])
    if place.startswith("inputs.") and isinstance(value, dict):
        return "a pipeline's input is a plain value, or a `type: uri_folder` with a `path`; drop the other keys."
    if "Invalid input type" in error["message"]:
        return f"expected a plain value, a binding or a data input, found {value!r}."
    if place.endswith(".environment"):
        return "azure-ai-ml can't read this environment; a YAML file is named as `file:../path/environment.yml`."
    return str(error["message"]).split("; ")[0][:300]
