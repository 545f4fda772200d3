"""Simulated annotators: how often they err, in what way, and that they say the same whenever they are asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsight.data.annotators import SimulatedAnnotator
from sparsight.errors import SparsightError

LABELS = [("animal", "cat"), ("animal", "dog"), ("animal", "horse"), ("vehicle", "car"), ("vehicle", "ship")]
PHOTOS = [f"photo-{number}" for number in range(4000)]


def test_errors_come_at_the_rate_asked_for_and_are_mostly_near():
    annotator = SimulatedAnnotator(name="ann", labels=LABELS, error_rate=0.2)
    wrong = [said for photo in PHOTOS if (said := annotator.says(photo, ("animal", "cat"))) != ("animal", "cat")]
    assert 0.17 < len(wrong) / len(PHOTOS) < 0.23
    near = sum(said[0] == "animal" for said in wrong) / len(wrong)
    assert 0.75 < near < 0.91, "two thirds, and half of the other third by chance"
    assert set(wrong) == set(LABELS) - {("animal", "cat")}


def test_annotators_err_apart_and_seeds_give_other_errors():
    def wrong(name: str, seed: int) -> set[str]:
        annotator = SimulatedAnnotator(name=name, labels=LABELS, error_rate=0.1, seed=seed)
        return {photo for photo in PHOTOS if annotator.says(photo, LABELS[0]) != LABELS[0]}

    one = wrong("ann", 0)
    for other in (wrong("bob", 0), wrong("ann", 1)):
        both = len(one & other) / len(PHOTOS)
        assert both < 0.03, "independent errors meet on one photo in a hundred"
    assert wrong("ann", 0) == one


@given(st.sampled_from(LABELS), st.floats(0, 1), st.text())
def test_a_label_said_is_one_that_may_be_said(truth, rate, photo):
    assert SimulatedAnnotator(name="ann", labels=LABELS, error_rate=rate).says(photo, truth) in LABELS


def test_with_one_label_nobody_can_err():
    annotator = SimulatedAnnotator(name="ann", labels=[("cat",)], error_rate=1.0)
    assert annotator.says("a", ("cat",)) == ("cat",)


@pytest.mark.parametrize("wrong", [{"error_rate": 1.5}, {"error_rate": -0.1}, {"cost": -1.0}])
def test_impossible_annotators_are_refused(wrong):
    with pytest.raises(SparsightError, match="expected a share from 0 to 1"):
        SimulatedAnnotator(name="ann", labels=LABELS, **wrong)
