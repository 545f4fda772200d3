"""The step compare, whole: the artefact, and what MLflow gets."""

import uuid
from pathlib import Path

import mlflow
import numpy as np
import pytest

from sparsight.data.artefact import new_artefact, read_manifest
from sparsight.errors import SparsightError
from sparsight.evaluation.metrics import Predictions, evaluate
from sparsight.local.services import Services
from sparsight.steps.compare import Arguments, main


def model(folder: Path, truth: list[str], predicted: list[str]) -> Path:
    told = Predictions(
        ids=list(map(str, range(len(truth)))), truth=truth, predicted=predicted, scores=np.ones(len(truth))
    )
    with new_artefact(folder, "model", {}) as draft:
        (draft.folder / "report").mkdir()
        (draft.folder / "report" / "metrics.json").write_text(evaluate(told, ("a", "b")).model_dump_json())
        told.to_frame().to_csv(draft.folder / "report" / "predictions.csv", index=False)
    return folder


@pytest.fixture(autouse=True)
def run_name(service_environment: Services, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"compare-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("SPARSIGHT_RUN", name)
    return name


def test_models_are_compared_and_tracked(tmp_path: Path, run_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    truth = ["a", "b"] * 10
    main(
        Arguments(
            pretrained=model(tmp_path / "one", truth, truth),
            scratch=model(tmp_path / "two", truth, ["a"] * 20),
            random_features=model(tmp_path / "three", truth, ["b"] * 20),
            comparison=tmp_path / "comparison",
        )
    )
    assert read_manifest(tmp_path / "comparison", "comparison").counts == {"models": 3, "test_images": 20}
    told = capsys.readouterr().out
    assert (tmp_path / "comparison" / "summary.txt").read_text() in told
    assert "pretrained over random_features: +0.667" in told
    (run,) = mlflow.search_runs(
        search_all_experiments=True, filter_string=f"tags.`sparsight.run` = '{run_name}'", output_format="list"
    )
    assert run.data.metrics["pretrained_test_macro_f1"] == 1
    assert run.info.status == "FINISHED"


def test_models_that_cannot_be_compared_leave_nothing_behind(tmp_path: Path) -> None:
    one, two = model(tmp_path / "one", ["a", "b"], ["a", "b"]), model(tmp_path / "two", ["b", "b"], ["a", "b"])
    with pytest.raises(SparsightError, match="scratch was tested on other images"):
        main(Arguments(pretrained=one, scratch=two, comparison=tmp_path / "comparison"))
    assert not list(tmp_path.glob("comparison*"))
