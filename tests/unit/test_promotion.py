"""Promotion: only what is better on the very same test images takes the place, whatever the numbers."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsight.data.artefact import new_artefact
from sparsight.errors import SparsightError
from sparsight.evaluation.annotations import annotations_since
from sparsight.evaluation.promotion import JUDGED_AT, LOWER_IS_BETTER, judge, promote, promotion_of
from sparsight.stores.lineage import Lineage
from sparsight.stores.registry import PROMOTED_AT, ModelVersion

SCORES = st.floats(0, 1)
METRICS = st.sampled_from(["macro_f1", "accuracy", "weighted_f1", "calibration_error"])


def version(number: int, digest: str = "same", **metrics: float) -> ModelVersion:
    lineage = Lineage(
        kind="classifier",
        backbone="resnet18",
        step="train_classifier",
        run_id="r",
        metrics=metrics,
        test_digest=digest,
        test_images=100,
    )
    return ModelVersion(name="photos", number=number, stage="candidate", tags=lineage.tags())


class Memory:
    """A registry in memory, of one model."""

    where = "memory"

    def __init__(self, *versions: ModelVersion) -> None:
        self.known = {each.number: each for each in versions}

    def names(self) -> list[str]:
        return ["photos"]

    def versions(self, name: str) -> list[ModelVersion]:
        return [self.known[number] for number in sorted(self.known)] if name == "photos" else []

    def register(self, folder: Path, name: str, *, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        raise NotImplementedError

    def download(self, version: ModelVersion, folder: Path) -> None:
        raise NotImplementedError

    def promote(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        for number, each in self.known.items():
            if each.stage == "production":
                self.known[number] = replace(each, stage="archived")
        self.tag(version, tags)
        self.known[version.number] = replace(self.known[version.number], stage="production")

    def tag(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        known = self.known[version.number]
        self.known[version.number] = replace(known, tags={**known.tags, **tags})

    @property
    def used(self) -> list[int]:
        return [number for number, each in self.known.items() if each.stage == "production"]


@given(SCORES, SCORES, METRICS)
def test_the_better_one_wins_and_never_both(ours: float, theirs: float, metric: str) -> None:
    one, other = version(1, **{metric: ours}), version(2, **{metric: theirs})
    there, back = judge(one, other, metric=metric), judge(other, one, metric=metric)
    better = ours < theirs if metric in LOWER_IS_BETTER else ours > theirs
    if not math.isclose(ours, theirs, abs_tol=1e-8):
        assert there.allowed is better
        assert back.allowed is not better
    assert not (there.allowed and back.allowed)
    assert there.gain == pytest.approx(-back.gain)


@given(SCORES, SCORES, st.floats(0, 1), st.floats(0, 1))
def test_asking_for_more_never_lets_more_through(ours: float, theirs: float, by: float, more: float) -> None:
    one, other = version(1, macro_f1=ours), version(2, macro_f1=theirs)
    if judge(one, other, by=by + more).allowed:
        assert judge(one, other, by=by).allowed
        assert ours > theirs


@given(SCORES, SCORES, st.text(max_size=3), st.text(max_size=3))
def test_other_test_images_are_never_compared(ours: float, theirs: float, here: str, there: str) -> None:
    verdict = judge(version(1, here, macro_f1=ours), version(2, there, macro_f1=theirs))
    if here != there or not here:
        assert not verdict.allowed
        assert verdict.gain is None
        assert "--force 'REASON'" in verdict.hint


@given(st.lists(SCORES, min_size=1, max_size=6))
def test_promoting_one_after_another_ends_with_the_best(scores: list[float]) -> None:
    registry = Memory(*(version(number, macro_f1=score) for number, score in enumerate(scores, 1)))
    for number in range(1, len(scores) + 1):
        promote(registry, f"photos/{number}")
        assert len(registry.used) == 1
    assert scores[registry.used[0] - 1] == pytest.approx(max(scores), abs=1e-8)


def test_a_gain_of_just_what_was_asked_for_is_enough() -> None:
    assert judge(version(2, macro_f1=0.85), version(1, macro_f1=0.8), by=0.05).allowed
    assert not judge(version(2, macro_f1=0.849), version(1, macro_f1=0.8), by=0.05).allowed


def test_a_refusal_says_by_how_much_and_on_how_many_images() -> None:
    registry = Memory(version(1, macro_f1=0.8), version(2, macro_f1=0.75), version(3, macro_f1=0.82))
    assert promote(registry, "photos/1").allowed
    refused = promote(registry, "photos/2")
    assert not refused.allowed
    assert refused.reason == (
        "photos/2 loses by 0.05 to photos/1: macro_f1 0.7500 against 0.8000 on the same 100 test images."
    )
    assert "gains only 0.02, less than the 0.1 asked for" in promote(registry, "photos/3", by=0.1).reason
    assert registry.used == [1]


def test_the_first_one_needs_no_numbers_and_the_same_one_nothing() -> None:
    registry = Memory(version(1, ""))
    assert promote(registry, "photos@latest").allowed
    before = registry.known[1]
    again = promote(registry, "photos/1")
    assert again.allowed
    assert again.in_place
    assert registry.known[1] == before


def test_what_was_not_measured_is_refused_with_what_was() -> None:
    verdict = judge(version(2, accuracy=0.9), version(1, macro_f1=0.8))
    assert not verdict.allowed
    assert verdict.reason == "photos/2 has no macro_f1 recorded; it has accuracy."
    assert not judge(version(2, macro_f1=math.nan), version(1, macro_f1=0.1)).allowed


def test_force_records_why_and_against_what() -> None:
    registry = Memory(version(1, macro_f1=0.8), version(2, "other", macro_f1=0.1))
    promote(registry, "photos/1")
    verdict = promote(registry, "photos/2", force="the old labels were wrong")
    assert verdict.allowed
    assert verdict.reason.endswith("Forced: the old labels were wrong")
    record = promotion_of(registry.known[2])
    assert record["forced"] == "the old labels were wrong"
    assert "other images or labels" in record["against"]
    assert record["over"] == "photos/1"
    assert registry.known[2].tags[PROMOTED_AT]
    assert "forced" not in promotion_of(registry.known[1])


def test_what_makes_no_sense_is_told() -> None:
    registry = Memory(version(1))
    with pytest.raises(SparsightError, match="reason to force a promotion is empty"):
        promote(registry, "photos/1", force=" ")
    for by in (-0.1, math.nan, math.inf):
        with pytest.raises(SparsightError, match="expected 0 or more"):
            promote(registry, "photos/1", by=by)
    with pytest.raises(SparsightError, match="no photos/7; it has photos/1"):
        promote(registry, "photos/7")


@given(st.lists(st.booleans(), max_size=5), st.integers(0, 300))
def test_annotations_are_new_since_the_newest_judged_version(judged: list[bool], now: int) -> None:
    trained = [
        replace(version(number), tags={"sparsight.dataset.counts": json.dumps({"annotations": 50 * number})})
        for number in range(1, len(judged) + 1)
    ]
    registry = Memory(*trained)
    for each, is_judged in zip(trained, judged, strict=True):
        if is_judged:
            registry.tag(each, {JUDGED_AT: "2026-01-01"})
    last = max((number for number, is_judged in enumerate(judged, 1) if is_judged), default=0)
    with TemporaryDirectory() as place:
        with new_artefact(Path(place) / "dataset", "dataset", {}) as draft:
            draft.counts["annotations"] = now
        found = annotations_since(registry, "photos", Path(place) / "dataset")
    assert found.new == now - 50 * last
    assert found.reference == (f"photos/{last}" if last else "")


def test_a_refused_version_was_judged_too() -> None:
    registry = Memory(version(1, macro_f1=0.8), version(2, macro_f1=0.7))
    promote(registry, "photos/1")
    assert not promote(registry, "photos/2").allowed
    assert JUDGED_AT in registry.known[2].tags


def test_a_dataset_without_a_count_of_annotations_is_refused(tmp_path: Path) -> None:
    with new_artefact(tmp_path / "dataset", "dataset", {}):
        pass
    with pytest.raises(SparsightError, match="doesn't say how many annotations"):
        annotations_since(Memory(), "photos", tmp_path / "dataset")
