"""From query rows to the dataset artefact, and back."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsight.data.artefact import read_manifest
from sparsight.data.dataset import Rules, build_dataset, read_dataset, thin_classes, twins, write_dataset
from sparsight.data.query import PhotoQuery, check_where
from sparsight.data.splits import Ratios, assign_split
from sparsight.errors import SparsightError

THREE = Ratios(train=0.6, valid=0.2, test=0.2)


def row(photo_id: str, *labels: str, in_test_set: bool = False) -> dict[str, Any]:
    """A row as the query gives it; one annotator for each label."""
    notes = [{"annotator_id": f"a{who}", "taxonomy": [label.split("/")]} for who, label in enumerate(labels)]
    return {
        "id": photo_id,
        "uri_orig": f"photos/{photo_id}.png",
        "file_hash": "0" * 64,
        "sortout_testset": in_test_set,
        "annotations": notes,
    }


def rows(count: int, label: str = "dog/poodle", name: str = "p") -> list[dict[str, Any]]:
    return [row(f"{name}{number:03d}", label) for number in range(count)]


def test_labels_are_settled_and_the_rest_is_counted_by_reason() -> None:
    found = [
        row("1", "dog/poodle", "dog/boxer"),
        row("2", "dog/poodle", "dog/poodle", "cat/siamese"),
        row("3", "dog"),
        row("4", "dog/boxer"),
        {**row("5", "dog/boxer"), "uri_orig": None},
    ]
    dataset = build_dataset({"pets": found}, Rules(mode="labelled", taxonomy_level=2, ratios=THREE))
    assert {photo.id: photo.label for photo in dataset.photos} == {"2": "dog/poodle", "4": "dog/boxer"}
    assert dataset.dropped == {
        "no majority among the annotators": 1,
        "no label at this taxonomy level": 1,
        "without an address (uri_orig)": 1,
    }
    first_level = build_dataset({"pets": found}, Rules(mode="labelled", taxonomy_level=1, ratios=THREE))
    assert Counter(photo.label for photo in first_level.photos) == {"dog": 4}


def test_distinct_annotators_count() -> None:
    twice = row("1", "dog") | {"annotations": [{"annotator_id": "ann", "taxonomy": [["dog"]]}] * 2}
    rules = Rules(mode="labelled", min_annotators=2, ratios=THREE)
    dataset = build_dataset({"pets": [twice, row("2", "dog", "dog")]}, rules)
    assert [photo.id for photo in dataset.photos] == ["2"]
    assert dataset.dropped == {"with fewer than 2 annotators": 1}


def test_a_label_settled_outside_include_is_dropped() -> None:
    found = [row("1", "dog/poodle", "cat/siamese", "cat/siamese"), row("2", "dog/boxer")]
    rules = Rules(mode="labelled", include=(("dog", "boxer"),), taxonomy_level=1, ratios=THREE)
    dataset = build_dataset({"pets": found}, rules)
    assert [photo.label for photo in dataset.photos] == ["dog"]
    assert dataset.dropped == {"settled on a label outside include": 1}


def test_labels_as_deep_as_agreed_keep_photos_that_whole_labels_lose() -> None:
    found = [row("1", "dog/poodle", "dog/boxer"), row("2", "dog/poodle"), row("3", "dog/poodle", "cat/siamese")]
    rules = Rules(mode="labelled", label_depth="agreed", ratios=THREE)
    dataset = build_dataset({"pets": found}, rules)
    assert {photo.id: photo.label for photo in dataset.photos} == {"1": "dog", "2": "dog/poodle"}
    assert dataset.dropped == {"no majority among the annotators": 1}
    first = build_dataset({"pets": found}, dataclasses.replace(rules, taxonomy_level=1))
    assert {photo.id: photo.label for photo in first.photos} == {"1": "dog", "2": "dog"}


def test_several_labels_are_kept_where_wanted_and_counted_one_by_one() -> None:
    both = {"annotations": [{"annotator_id": "ann", "taxonomy": [["dog", "poodle"], ["cat"]]}]}
    found = [row("1") | both, row("2", "dog/poodle"), row("3", "cat")]
    rules = Rules(mode="labelled", ratios=Ratios(train=1, valid=0, test=0))
    assert build_dataset({"pets": found}, rules).dropped == {"several labels at once": 1}
    dataset = build_dataset({"pets": found}, dataclasses.replace(rules, several_labels=True))
    assert {photo.id: photo.label for photo in dataset.photos} == {"1": "cat|dog/poodle", "2": "dog/poodle", "3": "cat"}
    counts = dataset.distribution().set_index(["split", "label"])["count"].to_dict()
    assert counts == {("train", "cat"): 2, ("train", "dog/poodle"): 2}
    narrowed = dataclasses.replace(rules, several_labels=True, include=(("dog",),))
    assert {photo.label for photo in build_dataset({"pets": found}, narrowed).photos} == {"dog/poodle"}


def test_a_photo_with_several_labels_is_repeated_as_one_of_its_rarest() -> None:
    both = {"annotations": [{"annotator_id": "ann", "taxonomy": [["dog"], ["cat"]]}]}
    found = [row("both") | both, row("cat", "cat"), *rows(6, "dog")]
    whole = Ratios(train=1, valid=0, test=0)
    rules = Rules(mode="labelled", several_labels=True, ratios=whole, oversampling="balanced")
    repeated = build_dataset({"pets": found}, rules).repetitions
    assert (repeated["both"], repeated["cat"], repeated["p000"]) == (3, 3, 1)


def test_annotations_outside_the_test_split_are_counted_where_labels_are_asked_for(tmp_path: Path) -> None:
    found = [row("1", "dog/poodle", "dog/poodle", "dog/boxer"), row("2", "dog/boxer"), row("3")]
    assert [photo.id for photo in build_dataset({"pets": found}, Rules(mode="labelled", ratios=THREE)).of("test")] == [
        "1"
    ]
    write_dataset(
        build_dataset({"pets": found}, Rules(mode="labelled", ratios=THREE)), tmp_path / "few", "labelled", {}
    )
    write_dataset(build_dataset({"pets": found}, Rules(mode="all", ratios=THREE)), tmp_path / "all", "all", {})
    assert read_manifest(tmp_path / "few", "dataset").counts["annotations"] == 1
    assert "annotations" not in read_manifest(tmp_path / "all", "dataset").counts


@given(st.integers(1, 60), st.integers(0, 5))
def test_the_limit_leaves_the_test_split_whole(limit: int, seed: int) -> None:
    found = rows(80) + [row(f"t{number}", "dog/poodle", in_test_set=True) for number in range(9)]
    whole = build_dataset({"pets": found}, Rules(mode="labelled", ratios=THREE, seed=seed))
    part = build_dataset({"pets": found}, Rules(mode="labelled", ratios=THREE, seed=seed, limit=limit))
    assert part.of("test") == whole.of("test")
    assert {f"t{number}" for number in range(9)} <= {photo.id for photo in part.of("test")}
    assert len(part.of("train")) + len(part.of("valid")) == min(limit, len(whole.photos) - len(whole.of("test")))
    assert set(part.photos) <= set(whole.photos)


@given(st.sets(st.integers(0, 200), min_size=1), st.sets(st.integers(0, 200)))
def test_photos_added_leave_old_ones_in_their_split(old: set[int], new: set[int]) -> None:
    def splits(numbers: set[int]) -> dict[str, str]:
        found = [row(f"p{number}", "dog") for number in numbers]
        return {
            photo.id: photo.split for photo in build_dataset({"c": found}, Rules(mode="labelled", ratios=THREE)).photos
        }

    before, after = splits(old), splits(old | new)
    assert {photo_id: after[photo_id] for photo_id in before} == before


def test_oversampling_touches_the_training_split_only(tmp_path: Path) -> None:
    found = rows(60) + rows(10, "cat/siamese", "q")
    dataset = build_dataset({"pets": found}, Rules(mode="labelled", ratios=THREE, oversampling="balanced"))
    write_dataset(dataset, tmp_path / "dataset", "labelled", {})
    table = read_dataset(tmp_path / "dataset")
    counts = table.groupby(["split", "label"]).size()
    assert (
        counts["train", "dog/poodle"]
        == counts["train", "cat/siamese"]
        == len(dataset.of("train")) - sum(photo.label == "cat/siamese" for photo in dataset.of("train"))
    )
    for split in ("valid", "test"):
        assert not table[table["split"] == split]["id"].duplicated().any()


def test_pretraining_on_all_keeps_away_from_the_test_split() -> None:
    found = [*rows(50), *[row(f"u{number}") for number in range(20)]]
    dataset = build_dataset({"pets": found}, Rules(mode="all", ratios=THREE))
    held_out = [entry["id"] for entry in rows(50) if assign_split(entry["id"], THREE, 0) == "test"]
    assert {photo.split for photo in dataset.photos} == {"train"}
    assert {photo.label for photo in dataset.photos} == {""}
    assert len(dataset.photos) == 70 - len(held_out)
    assert not {photo.id for photo in dataset.photos} & set(held_out)


LABELS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/%|"), min_size=1, max_size=8)


@given(
    st.lists(st.one_of(LABELS, st.sampled_from(["NA", "1e5", ' "a", ', "x\ry", "=1+1", "é\n"])), min_size=1, max_size=6)
)
def test_any_label_survives_the_tables(tmp_path_factory: pytest.TempPathFactory, labels: list[str]) -> None:
    found = [
        row(f"p{number}") | {"annotations": [{"annotator_id": "a", "taxonomy": [[label]]}]}
        for number, label in enumerate(labels)
    ]
    dataset = build_dataset({"pets": found}, Rules(mode="labelled", ratios=Ratios(train=1, valid=0, test=0)))
    target = tmp_path_factory.mktemp("labels") / "dataset"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparsight.data.dataset.draw_distribution", lambda *_: None)  # drawn in the other tests
        write_dataset(dataset, target, "labelled", {})
    assert dict(read_dataset(target)[["id", "label"]].to_numpy().tolist()) == {
        f"p{number}": label for number, label in enumerate(labels)
    }


def test_the_artefact_is_the_same_bytes_whatever_the_order(tmp_path: Path) -> None:
    found = rows(30) + rows(7, "cat/siamese $x$", "q")
    rules = Rules(mode="labelled", ratios=THREE, oversampling="balanced")
    for name, order in (("one", found), ("other", found[::-1])):
        write_dataset(build_dataset({"pets": order}, rules), tmp_path / name, "labelled", {"seed": 0})
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    tables = ["test.csv", "train.csv", "valid.csv"]
    assert files == ["containers.json", "distribution.csv", "distribution.png", "manifest.json", *tables]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes(), file
    assert set(json.loads((tmp_path / "one" / "containers.json").read_text()).values()) == {"pets"}


def test_unlabelled_data_has_one_split(tmp_path: Path) -> None:
    dataset = build_dataset({"pets": [row("1"), row("2")]}, Rules(mode="unlabelled", ratios=THREE))
    write_dataset(dataset, tmp_path / "dataset", "unlabelled", {})
    assert not (tmp_path / "dataset" / "test.csv").exists()
    assert read_dataset(tmp_path / "dataset")["split"].tolist() == ["train", "train"]


def test_classes_and_splits_that_lack_photos_are_named() -> None:
    found = [*rows(40), row("x", "cat/siamese", in_test_set=True)]
    dataset = build_dataset({"pets": found}, Rules(mode="labelled", ratios=Ratios(train=1, valid=0, test=0)))
    assert thin_classes(dataset) == [
        "No photo of cat/siamese in train.",
        "No photo at all in valid.",
        "No photo of dog/poodle in test.",
    ]


def test_one_file_under_two_ids_in_two_splits_is_counted() -> None:
    def photo(photo_id: str, digit: str, *, in_test_set: bool = False) -> dict[str, Any]:
        return row(photo_id, "dog", in_test_set=in_test_set) | {"file_hash": digit * 64}

    found = [photo("1", "a"), photo("2", "A", in_test_set=True), photo("3", "b"), photo("4", "b")]
    found += [row("5", "dog") | {"file_hash": None}, row("6", "dog", in_test_set=True) | {"file_hash": None}]
    dataset = build_dataset({"pets": found}, Rules(mode="labelled", ratios=Ratios(train=1, valid=0, test=0)))
    assert twins(dataset) == 2


def test_one_id_in_two_containers_is_refused() -> None:
    with pytest.raises(SparsightError, match="both in 'a' and in 'b'"):
        build_dataset({"a": [row("1", "x")], "b": [row("1", "x")]}, Rules(mode="labelled", ratios=THREE))


def test_nothing_left_tells_why() -> None:
    with pytest.raises(SparsightError, match="2 annotators disagree"):
        rules = Rules(mode="labelled", label_policy="unanimous", ratios=THREE)
        build_dataset({"c": [row("1", "x", "y"), row("2", "x", "y")]}, rules)


@pytest.mark.parametrize(
    ("where", "parameters", "message"),
    [
        ("c.a = 1) OR (1 = 1", {}, "brackets"),
        ("c.a = 1; DROP", {}, "';'"),
        ("c.a = 1 -- rest", {}, "'--'"),
        ("c.a = /* x */ 1", {}, r"'/\*'"),
        ('c.a = "open', {}, "isn't closed"),
        (r'c.a = "x\" OR (1=1', {}, "isn't closed"),
        ("  ", {}, "empty"),
        ("c.a = @width", {}, "names the parameters"),
        ("c.a = 1", {"@width": 3}, "names the parameters"),
        ("c.a = @sparsight_include", {"@sparsight_include": []}, "can't begin"),
        ("(c.a]", {}, "brackets"),
    ],
)
def test_conditions_that_could_leave_their_brackets(where: str, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(SparsightError, match=message):
        check_where(where, parameters)


@pytest.mark.parametrize(
    ("where", "parameters"),
    [
        ("c.a >= @low AND c.a < @high", {"@low": 1, "@high": 2}),
        ('CONTAINS(c.text, "a;b) -- @c") OR c.tags["x y"] = true', {}),
        (r'c.text = "say \"(\""', {}),
        ("EXISTS(SELECT VALUE p FROM p IN c.pii_entities WHERE p = 'name')", {}),
    ],
)
def test_conditions_that_stay_in_their_brackets(where: str, parameters: dict[str, object]) -> None:
    check_where(where, parameters)


def test_values_are_never_part_of_the_query() -> None:
    evil = '"] OR true --'
    query = PhotoQuery(containers=("c",), include=((evil,),), exclude=(("x", evil),), min_annotators=2)
    text, parameters = query.text()
    assert evil not in text
    assert parameters == {
        "@sparsight_include": [[evil]],
        "@sparsight_exclude": [["x", evil]],
        "@sparsight_annotators": 2,
    }
    assert "*" not in text
