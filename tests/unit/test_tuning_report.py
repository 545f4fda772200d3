"""The pages of a tuning: everything is in them, nothing is loaded, and texts stay texts."""

import json
from pathlib import Path

import pytest

from sparsight.evaluation.tuning_report import TrialResult, TuningResult, write_tuning_report

EVIL = "</script><script>alert(1)</script>"


def result(**changes: object) -> TuningResult:
    trials = [
        TrialResult(number=0, state="complete", value=0.5, inputs={"rate": 0.1, "mode": EVIL}, epochs={1: 0.4, 2: 0.5}),
        TrialResult(number=1, state="pruned", value=None, inputs={"rate": 0.5}, epochs={1: 0.1}),
        TrialResult(number=2, state="fail", value=None, inputs={"rate": 2.0}, epochs={}, failure="No <b>memory</b>."),
        TrialResult(number=3, state="complete", value=0.75, inputs={"rate": 0.25, "mode": True}, epochs={1: 0.7}),
    ]
    usual = {
        "study": "digits",
        "parameters": {"step": "train_moco", "metric": "knn_accuracy", "direction": "maximise"},
        "fixed": {"epochs": 2},
        "searched": ["rate", "mode"],
        "trials": trials,
        "best_number": 3,
        "importances": {"rate": 0.9, "mode": 0.1},
        "model": "tuned/4",
    }
    return TuningResult(**{**usual, **changes})  # type: ignore[arg-type]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_tuning_report(tmp_path, result())
    return tmp_path


def test_the_page_tells_of_every_trial(written: Path) -> None:
    page = (written / "index.html").read_text()
    for text in ("tuned/4", "pruned after epoch 1", "epochs (fixed)", "What mattered"):
        assert text in page
    assert "failed: No &lt;b&gt;memory&lt;/b&gt;." in page
    assert EVIL not in page
    summary = (written / "summary.txt").read_text()
    assert summary.startswith("Trial 3 of 4 is the best: knn_accuracy 0.75, tuned/4\n  rate: 0.25")


def test_numbers_are_kept_whole(written: Path) -> None:
    content = json.loads((written / "trials.json").read_text())
    assert content["best"]["inputs"] == {"rate": 0.25, "mode": True}
    assert [trial["state"] for trial in content["trials"]] == ["complete", "pruned", "fail", "complete"]


def test_hiplot_shows_what_was_tried_as_data(written: Path) -> None:
    page = (written / "hiplot.html").read_text()
    assert EVIL not in page
    assert "default-src 'none'" in page
    assert '"knn_accuracy": 0.75' in page
    assert '"state": "failed"' in page


def test_the_same_result_makes_the_same_files(written: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    again = tmp_path_factory.mktemp("again")
    write_tuning_report(again, result())
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {
        path.name: path.read_bytes() for path in written.iterdir()
    }


def test_few_trials_tell_nothing_about_importance(tmp_path: Path) -> None:
    write_tuning_report(tmp_path, result(importances={}))
    page = (tmp_path / "index.html").read_text()
    assert "too few trials to tell which inputs matter" in page
    assert "What mattered" not in page
    assert not (tmp_path / "importances.png").exists()
