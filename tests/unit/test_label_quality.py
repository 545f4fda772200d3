"""The report on label quality: what it counts, what it leaves out, and what its files hold."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from sparsight.errors import SparsightError
from sparsight.evaluation.disagreements import LabelRule
from sparsight.evaluation.label_errors import no_suspects
from sparsight.evaluation.label_quality import MeasuredLabels, Suspects, measure_labels, read_quality, summary, verdict
from sparsight.evaluation.quality_report import QualityReport, write_quality_report
from sparsight.evaluation.review import photos_to_review

Rows = list[tuple[str, str, str]]
EVIL = "<script>alert('$x$')</script>"


def table(rows: Rows, reviewed: Sequence[str] = ()) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["id", "annotator", "label"])
    return frame.assign(container="pets", uri="pets/" + frame["id"], reviewed=frame["id"].isin(reviewed))


def crowd(photos: int = 60) -> Rows:
    """Three annotators; dee takes every fourth poodle for a boxer, and nobody else errs."""
    labels = ["dog/poodle", "dog/boxer", "cat"]
    rows = []
    for number in range(photos):
        label = labels[number % 3]
        rows += [(f"p{number:03d}", who, label) for who in ("ann", "bob")]
        rows.append((f"p{number:03d}", "dee", "dog/boxer" if number % 12 == 0 else label))
    return rows


def suspects() -> pd.DataFrame:
    row = {
        "rank": 1, "container": "pets", "id": "p001", "uri": "pets/p001", "split": "train", "label": EVIL,
        "suggested": "cat", "quality": 0.1, "probability": 0.8, "said": json.dumps({EVIL: ["dog", EVIL]}),
    }  # fmt: skip
    return pd.DataFrame([row])


def grey(uris: Sequence[str]) -> list[NDArray[np.uint8] | None]:
    return [None if uri.endswith("p000") else np.full((8, 8, 3), 128, np.uint8) for uri in uris]


def report(measured: MeasuredLabels, *, found: bool = True) -> QualityReport:
    numbers = Suspects(examined=60, accuracy=0.6, suspected=1, left_out={"with several labels": 3})
    return QualityReport(
        measured=measured,
        suspected=suspects() if found else no_suspects(),
        suspects=numbers if found else None,
        fetch=grey,
    )


def test_who_errs_and_on_what_shows() -> None:
    measured = measure_labels(table(crowd()), LabelRule())
    annotators = measured.at_level("annotators").set_index("annotator")["agreement"]
    assert annotators.idxmin() == "dee"
    assert annotators["ann"] == 1
    labels = measured.at_level("labels").set_index("label")["alpha"]
    assert labels["cat"] == 1
    assert labels["dog/poodle"] < 0.9
    assert measured.quality.alpha(1).alpha == 1
    assert measured.quality.levels == [1, 2, 0]
    confusion = measured.at_level("confusion").set_index(["label", "other"])["count"]
    assert confusion["dog/poodle", "dog/boxer"] == confusion["dog/boxer", "dog/poodle"] == 5
    assert (measured.quality.disagreements, measured.quality.unsettled) == (5, 0)
    text = "\n".join(summary(measured))
    assert "60 annotated photos, 3 annotators; 60 photos with two or more" in text
    assert "level 1     1.000 (1.000 to 1.000), reliable" in text
    assert "5 photos with different labels, 0 of them unsettled" in text


def test_reviewed_photos_are_left_out_of_the_agreement_alone() -> None:
    rows = [*crowd(), ("put right", "ann", "cat"), ("put right", "bob", "dog/boxer"), ("put right", "dee", "cat")]
    reviewed = [f"p{number:03d}" for number in range(0, 60, 2)]
    measured = measure_labels(table(rows, [*reviewed, "put right"]), LabelRule())
    assert (measured.quality.photos, measured.quality.reviewed, measured.quality.measured) == (61, 31, 30)
    assert measured.quality.alpha().alpha == 1
    assert "put right" in set(measured.disagreements["id"])
    assert measured.notes == (
        "31 photos with a review are left out of the agreement: a review may have put them right.",
    )
    everything = measure_labels(table(rows, reviewed), LabelRule(), exclude_reviewed=False)
    assert everything.quality.alpha().photos == 61
    assert everything.notes == ()


def test_where_all_are_reviewed_all_are_measured_and_the_reader_is_told() -> None:
    rows = crowd(6)
    measured = measure_labels(table(rows, [photo for photo, _, _ in rows]), LabelRule())
    assert measured.quality.measured == 6
    assert measured.notes == (
        "All photos have a review, which may have put annotations right: the agreement flatters.",
    )


def test_one_annotator_is_nothing_to_compare() -> None:
    measured = measure_labels(table([("u", "ann", "dog"), ("v", "bob", "cat")]), LabelRule())
    assert measured.quality.alpha().alpha is None
    assert measured.notes == ("No photo has two annotators at this level: nothing can be said of their agreement.",)
    same = measure_labels(table([("u", "ann", "dog"), ("u", "bob", "dog")]), LabelRule())
    assert same.notes == ("All annotators always say the same one thing: chance would bring that about, too.",)


def test_no_annotation_and_none_that_deep_are_told() -> None:
    with pytest.raises(SparsightError, match="No annotator has given any label"):
        measure_labels(table([]), LabelRule())
    with pytest.raises(SparsightError, match="No label reaches level 3 of the taxonomy"):
        measure_labels(table(crowd(3)), LabelRule(taxonomy_level=3))


@pytest.mark.parametrize(
    ("alpha", "word"), [(None, "unknown"), (0.8, "reliable"), (0.667, "tentative"), (0.66, "unreliable")]
)
def test_verdicts(alpha: float | None, word: str) -> None:
    assert verdict(alpha) == word


def test_the_report_holds_numbers_tables_plots_and_a_page(tmp_path: Path) -> None:
    rows = [*crowd(), ("p000", EVIL, EVIL)]
    measured = measure_labels(table(rows), LabelRule())
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        quality = write_quality_report(tmp_path / name, report(measured))
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    assert set(files) == {
        *("quality.json", "summary.txt", "index.html", "agreement.csv", "labels.csv", "annotators.csv", "pairs.csv"),
        *("confusion.csv", "confusion_by_pair.csv", "disagreements.csv", "suspected.csv"),
        *("agreement_by_label.png", "agreement_by_annotator.png", "confusion_between_annotators.png"),
    }
    assert read_quality(tmp_path / "one" / "quality.json") == quality
    assert quality.overall() == pytest.approx(
        {
            "alpha": quality.alpha().alpha,
            "disagreements": 5,
            "unsettled": 1,  # p000, two against two
            "suspected": 1,
            "label_accuracy": 0.6,
        }
    )
    page = files["index.html"].decode()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert page.count('<div class="missing">') == 1  # of p000 there is no picture
    assert page.count("<figure>") == 1 + 5
    for note in ("3 photos with several labels were not examined", "The heads agree with 60% of the labels only"):
        assert note in page
        assert f"note: {note}" in files["summary.txt"].decode()
    saved = pd.read_csv(tmp_path / "one" / "agreement.csv")
    assert set(saved["distance"]) == {"nominal", "jaccard", "masi"}


def test_a_report_without_anything_to_compare_has_no_plots(tmp_path: Path) -> None:
    measured = measure_labels(table([("u", "ann", "dog"), ("v", "ann", "cat")]), LabelRule())
    write_quality_report(tmp_path, report(measured, found=False))
    assert not list(tmp_path.glob("*.png"))
    page = (tmp_path / "index.html").read_text()
    assert "<figure>" not in page
    assert "no label was examined for errors" in page
    assert read_quality(tmp_path / "quality.json").overall() == {"disagreements": 0, "unsettled": 0}


def test_a_file_that_is_no_quality_is_refused(tmp_path: Path) -> None:
    (tmp_path / "quality.json").write_text("{}")
    with pytest.raises(SparsightError, match="can't be read as label quality"):
        read_quality(tmp_path / "quality.json")


def test_disagreements_and_suspects_take_turns_in_the_review() -> None:
    differing = pd.DataFrame(
        {"container": "pets", "id": ["a", "b", "c"], "uri": ["x/a", "x/b", "x/c"], "reviewed": [False, True, False]}
    )
    doubted = pd.DataFrame({"container": "pets", "id": ["d", "a", "e"], "uri": ["x/d", "x/a", "x/e"]})
    listed = photos_to_review(differing, doubted, 10)
    assert listed[["rank", "id", "reason"]].to_numpy().tolist() == [
        [1, "a", "annotators differ"],
        [2, "d", "label suspected"],
        [3, "c", "annotators differ"],
        [4, "e", "label suspected"],
    ]
    assert listed["uri"].tolist() == ["x/a", "x/d", "x/c", "x/e"]
    assert photos_to_review(differing, doubted, 2)["id"].tolist() == ["a", "d"]
    assert len(photos_to_review(differing[:0], no_suspects(), 2)) == 0
