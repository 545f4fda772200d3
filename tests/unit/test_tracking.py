"""Tracking without a server: what a person is told."""

import pytest

from sparsight.errors import SparsightError
from sparsight.training.tracking import tracked_run


def test_a_server_that_is_gone_is_told(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told = r"MLflow at http://127.0.0.1:9 says.*\n.*MLFLOW_TRACKING_URI"
    with pytest.raises(SparsightError, match=told), tracked_run("step", {"a": 1}):
        pass
