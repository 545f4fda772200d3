"""The classifier's report: one page that stands alone, escapes what it is told, and is the same for the same input."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparsight.evaluation.embedding_map import plot_map
from sparsight.evaluation.metrics import Predictions, read_metrics, read_predictions
from sparsight.evaluation.plots import plot_comparison, plot_confusion, shorten
from sparsight.evaluation.report import ClassifierReport, write_classifier_report

EVIL = "<script>alert('x')</script>"


def content(truth: list[str], predicted: list[str], classes: tuple[str, ...] = ("cat", EVIL)) -> ClassifierReport:
    told = Predictions(
        ids=[f"photo {number}" for number in range(len(truth))],
        truth=truth,
        predicted=predicted,
        scores=np.linspace(0.5, 0.9, len(truth)),
    )
    epochs = [
        {"train_loss": 1 / n, "valid_loss": 1.2 / n, "valid_accuracy": 0.5, "valid_macro_f1": 0.4} for n in (1, 2)
    ]
    return ClassifierReport(
        classes=classes,
        predictions=told,
        pixels=lambda places: np.full((len(places), 8, 8, 3), 128, np.uint8),
        epochs=epochs,
        best_epoch=2,
        lead="A head on a backbone.",
        notes=("No test image of cat & dog.",),
        parameters={"learning_rate": 0.1, "base": EVIL},
    )


MIXED = content(["cat", EVIL, "cat", EVIL], ["cat", "cat", EVIL, EVIL])


class Page(HTMLParser):
    """Collects the tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_needs_nothing_else_and_escapes_every_text(tmp_path: Path) -> None:
    write_classifier_report(tmp_path / "report", MIXED)
    text = (tmp_path / "report" / "index.html").read_text()
    page = Page(text)
    assert not [tag for tag, _ in page.tags if tag in {"script", "link", "iframe"}]
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 3
    assert all(str(picture["src"]).startswith("data:image/png;base64,") and picture["alt"] for picture in pictures)
    assert not re.search(r"https?://", re.sub(r"base64,[^\"]+", "", text))
    assert "cat &amp; dog" in text
    assert ("html", {"lang": "en"}) in page.tags


def test_numbers_and_predictions_are_beside_it(tmp_path: Path) -> None:
    metrics = write_classifier_report(tmp_path / "report", MIXED)
    assert metrics.accuracy == 0.5
    assert read_metrics(tmp_path / "report" / "metrics.json") == metrics
    back = read_predictions(tmp_path / "report" / "predictions.csv")
    assert list(back.predicted) == list(MIXED.predictions.predicted)
    assert back.digest() == metrics.images_digest


def test_the_same_content_gives_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_classifier_report(tmp_path / name, MIXED)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("predicted", [["a", "a"], ["b", "b"], ["a", "b"]])
def test_all_right_all_wrong_and_a_single_epoch_are_drawn_too(tmp_path: Path, predicted: list[str]) -> None:
    report = content(["a", "a"], predicted, ("a", "b"))
    write_classifier_report(tmp_path / "report", dataclasses.replace(report, epochs=report.epochs[:1], best_epoch=1))
    assert (tmp_path / "report" / "gallery.png").stat().st_size > 1000


@pytest.mark.parametrize("count", [2, 30])
def test_a_confusion_matrix_stays_of_a_size_to_look_at(tmp_path: Path, count: int) -> None:
    names = [f"kind {number}/a rather long name of a thing {number}" for number in range(count)]
    plot_confusion(tmp_path / "confusion.png", np.eye(count, dtype=int) * 9, names)
    with Image.open(tmp_path / "confusion.png") as plot:
        assert max(plot.size) < 5000


def test_dollar_signs_in_a_label_are_no_formula(tmp_path: Path) -> None:
    label = "from $5_$ on"
    write_classifier_report(tmp_path / "report", content(["cat", label], [label, label], ("cat", label)))
    plot_map(tmp_path / "map.png", np.zeros((2, 2), np.float32), ["cat", label], "PCA")
    plot_comparison(tmp_path / "comparison.png", {"model": {"Macro F1": 0.5}}, {"model": {label: 0.5}})


def test_a_long_label_keeps_both_its_ends() -> None:
    assert shorten("short") == "short"
    assert shorten("solar cell/polycrystalline/defective", 20) == "solar cel…/defective"
