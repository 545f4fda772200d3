"""Comparing classifiers: same images only, a bootstrap that is what it says, a table and page for people."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from sparsight.data.artefact import new_artefact
from sparsight.errors import SparsightError
from sparsight.evaluation.bootstrap import bootstrap_gain
from sparsight.evaluation.comparison import Gain, read_entry, write_comparison
from sparsight.evaluation.metrics import Predictions, evaluate

CLASSES = ("cat", "dog")


def model(folder: Path, truth: list[str], predicted: list[str], **parameters: object) -> Path:
    """Write the part of a model folder that a comparison reads."""
    told = Predictions(
        ids=[f"photo-{number}" for number in range(len(truth))],
        truth=truth,
        predicted=predicted,
        scores=np.full(len(truth), 0.8),
    )
    with new_artefact(folder, "model", parameters) as draft:
        (draft.folder / "report").mkdir()
        (draft.folder / "report" / "metrics.json").write_text(evaluate(told, CLASSES).model_dump_json())
        told.to_frame().to_csv(draft.folder / "report" / "predictions.csv", index=False)
    return folder


TRUTH = ["cat", "dog"] * 30
GOOD = ["cat", "dog"] * 27 + ["dog", "cat"] * 3
BAD = ["cat", "cat"] * 30


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    return {
        "pretrained": model(tmp_path / "one", TRUTH, GOOD, freeze_backbone=True, base={"origin": "<b>photos/1</b>"}),
        "scratch": model(tmp_path / "two", TRUTH, BAD, freeze_backbone=False),
    }


def test_the_gain_is_told_as_table_numbers_and_page(folders: dict[str, Path], tmp_path: Path) -> None:
    entries = {name: read_entry(folder) for name, folder in folders.items()}
    summary = write_comparison(tmp_path, entries, ["scratch", "random_features"])

    assert summary == (tmp_path / "summary.txt").read_text()
    assert "The same 60 test images, 2 classes" in summary
    assert "pretrained over scratch: +0.567 macro F1 (95% interval +" in summary
    table = pd.read_csv(tmp_path / "comparison.csv", index_col="model")
    assert table.loc["pretrained", "macro_f1"] == pytest.approx(0.9)
    assert table.loc["scratch", "f1 of dog"] == 0
    numbers = json.loads((tmp_path / "comparison.json").read_text())
    assert numbers["models"]["pretrained"]["parameters"]["freeze_backbone"] is True
    (gain,) = numbers["gains"]
    assert gain["low"] < gain["gain"] < gain["high"]
    page = (tmp_path / "index.html").read_text()
    assert "&lt;b&gt;photos/1&lt;/b&gt;" in page
    assert "freeze_backbone" in page
    assert "http" not in page.split("base64,")[0]


def test_an_unsettled_gain_says_so() -> None:
    assert "not settled" in Gain(model="a", over="b", gain=0.01, low=-0.02, high=0.04).sentence()
    assert "not settled" not in Gain(model="a", over="b", gain=-0.1, low=-0.2, high=-0.04).sentence()


def test_models_tested_on_other_images_or_labels_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folders["random_features"] = model(tmp_path / "three", TRUTH[:50], BAD[:50])
    entries = {name: read_entry(folder) for name, folder in folders.items()}
    with pytest.raises(SparsightError, match=r"random_features was tested on other images or labels \(50\)"):
        write_comparison(tmp_path, entries, ["scratch"])
    assert not (tmp_path / "summary.txt").exists()


def test_a_model_without_a_classifiers_report_is_named(tmp_path: Path) -> None:
    with new_artefact(tmp_path / "backbone", "model", {}):
        pass
    with pytest.raises(SparsightError, match=r"no report/predictions\.csv; expected a model made by train_classifier"):
        read_entry(tmp_path / "backbone")


labels = st.sampled_from(["a", "b", "c"])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(labels, labels, labels), min_size=2, max_size=20), st.integers(0, 100))
def test_the_bootstrap_equals_a_loop_over_draws(drawn: list[tuple[str, str, str]], seed: int) -> None:
    truth, ours, theirs = (np.array(each) for each in zip(*drawn, strict=True))

    def macro(places: np.ndarray, predicted: np.ndarray) -> float:
        present = np.unique(truth[places])
        return f1_score(truth[places], predicted[places], labels=present, average="macro", zero_division=0.0)

    generator = np.random.default_rng(seed)
    share = np.full(len(truth), 1 / len(truth))
    differences = []
    for counts in generator.multinomial(len(truth), share, size=8):
        places = np.repeat(np.arange(len(truth)), counts)
        differences.append(macro(places, ours) - macro(places, theirs))
    everything = np.arange(len(truth))
    gain, low, high = bootstrap_gain(list(truth), list(ours), list(theirs), resamples=8, seed=seed)
    assert gain == pytest.approx(macro(everything, ours) - macro(everything, theirs))
    assert (low, high) == pytest.approx(tuple(np.percentile(differences, [2.5, 97.5])))


def test_the_interval_holds_the_true_gain_about_as_often_as_it_says() -> None:
    generator, held = np.random.default_rng(0), 0
    for _ in range(60):
        truth = generator.integers(0, 2, 120)
        one, other = (np.where(generator.random(120) < right, truth, 1 - truth) for right in (0.9, 0.7))
        _, low, high = bootstrap_gain(*(each.astype(str).tolist() for each in (truth, one, other)), resamples=300)
        held += low <= 0.2 <= high
    assert held >= 50
