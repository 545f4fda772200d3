"""Metrics: equal to their definitions, honest about classes nobody predicted or nobody saw."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsight.errors import SparsightError
from sparsight.evaluation.calibration import calibration_error
from sparsight.evaluation.metrics import Predictions, evaluate, read_metrics, read_predictions

CLASSES = ("bird", "cat", "dog")
pairs = st.lists(st.tuples(st.sampled_from([*CLASSES, "unseen"]), st.sampled_from(CLASSES)), min_size=1, max_size=40)


def predictions(truth: list[str], predicted: list[str]) -> Predictions:
    ids = [f"photo-{number}" for number in range(len(truth))]
    return Predictions(ids=ids, truth=truth, predicted=predicted, scores=np.full(len(truth), 0.75))


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_equals_the_definitions(drawn: list[tuple[str, str]]) -> None:
    truth, predicted = [list(side) for side in zip(*drawn, strict=True)]
    metrics = evaluate(predictions(truth, predicted), CLASSES)

    f1 = {}
    for label in set(truth):
        hits = sum(t == p == label for t, p in drawn)
        precision = hits / max(1, predicted.count(label))
        recall = hits / truth.count(label)
        f1[label] = 2 * precision * recall / (precision + recall) if hits else 0.0
        assert metrics.classes[label].precision == pytest.approx(precision)
        assert metrics.classes[label].recall == pytest.approx(recall)
        assert metrics.classes[label].f1 == pytest.approx(f1[label])
        assert metrics.classes[label].support == truth.count(label)
    assert metrics.macro_f1 == pytest.approx(np.mean(list(f1.values())))
    assert metrics.weighted_f1 == pytest.approx(sum(f1[label] * truth.count(label) for label in f1) / len(truth))
    assert metrics.accuracy == pytest.approx(np.mean([t == p for t, p in drawn]))
    names = list(metrics.classes)
    for row, label in enumerate(names):
        for column, other in enumerate(names):
            assert metrics.confusion[row][column] == sum(t == label and p == other for t, p in drawn)


def test_a_class_that_training_never_saw_counts_as_wrong() -> None:
    metrics = evaluate(predictions(["cat", "cat", "yeti"], ["cat", "cat", "cat"]), ("cat", "dog"))
    assert list(metrics.classes) == ["cat", "dog", "yeti"]
    assert metrics.classes["yeti"].f1 == 0
    assert metrics.macro_f1 == pytest.approx(0.8 / 2)


def test_a_class_without_test_images_leaves_the_mean_alone() -> None:
    assert evaluate(predictions(["cat"], ["cat"]), CLASSES).macro_f1 == 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
def test_calibration_error_equals_its_definition(drawn: list[tuple[float, bool]]) -> None:
    scores, right = (np.array(side) for side in zip(*drawn, strict=True))
    expected = 0.0
    for number in range(15):
        inside = np.array([min(int(score * 15), 14) == number for score in scores])
        if inside.any():
            expected += inside.mean() * abs(scores[inside].mean() - right[inside].mean())
    assert calibration_error(scores, right) == pytest.approx(expected)


def test_the_digest_knows_the_images_and_labels_but_not_their_order() -> None:
    one = Predictions(ids=["a", "b"], truth=["x", "y"], predicted=["x", "x"], scores=np.ones(2))
    turned = Predictions(ids=["b", "a"], truth=["y", "x"], predicted=["y", "y"], scores=np.ones(2))
    relabelled = Predictions(ids=["a", "b"], truth=["y", "x"], predicted=["x", "x"], scores=np.ones(2))
    assert one.digest() == turned.digest() != relabelled.digest()


def test_metrics_and_predictions_come_back_from_their_files(tmp_path: Path) -> None:
    told = Predictions(ids=["007", "nan"], truth=["NA", "x,y"], predicted=["x,y", "NA"], scores=np.array([0.5, 1.0]))
    told.to_frame().to_csv(tmp_path / "predictions.csv", index=False)
    back = read_predictions(tmp_path / "predictions.csv")
    assert (back.ids, back.truth, back.predicted) == (told.ids, told.truth, told.predicted)
    metrics = evaluate(told, ("NA", "x,y"))
    (tmp_path / "metrics.json").write_text(metrics.model_dump_json())
    assert read_metrics(tmp_path / "metrics.json") == metrics


@pytest.mark.parametrize("content", ["", "{}", '{"accuracy": 1}', "not json"])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(content)
    with pytest.raises(SparsightError, match=r"metrics\.json"):
        read_metrics(path)
    with pytest.raises(SparsightError, match=r"nothing\.csv"):
        read_predictions(tmp_path / "nothing.csv")
