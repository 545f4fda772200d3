"""Which workspace is meant: flags before the environment before config.json."""

import json
from pathlib import Path

import pytest

from sparsight.cloud.workspace import find_workspace
from sparsight.errors import SparsightError

CONFIG = {"subscription_id": "s", "resource_group": "g", "workspace_name": "from-config", "blob_endpoint": "https://b"}


def test_config_json_is_found_in_a_folder_above(tmp_path: Path) -> None:
    (tmp_path / ".azureml").mkdir()
    (tmp_path / ".azureml" / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "deep" / "er").mkdir(parents=True)
    found = find_workspace(folder=tmp_path / "deep" / "er", environment={})
    assert (found.subscription, found.resource_group, found.name) == ("s", "g", "from-config")
    assert found.stores == {"SPARSIGHT_BLOB_ENDPOINT": "https://b"}


def test_the_environment_comes_before_it_and_what_is_given_before_both(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    environment = {"AZUREML_WORKSPACE_NAME": "from-environment", "SPARSIGHT_BLOB_ENDPOINT": "https://e"}
    found = find_workspace(folder=tmp_path, environment=environment)
    assert found.name == "from-environment"
    assert found.stores == {"SPARSIGHT_BLOB_ENDPOINT": "https://e"}
    assert find_workspace(name="given", folder=tmp_path, environment=environment).name == "given"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match="its resource group, name isn't said") as caught:
        find_workspace(subscription="s", folder=tmp_path, environment={})
    assert "AZUREML_WORKSPACE_NAME" in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_broken_config_json_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(SparsightError, match=r"config\.json"):
        find_workspace(folder=tmp_path, environment={})
