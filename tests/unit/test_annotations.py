"""What each annotator said, as a dataset keeps it: whole paths, dropped photos included, annotators by id alone."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sparsight.data.annotations import ANNOTATIONS, annotations_of, read_annotations, write_annotations
from sparsight.data.artefact import new_artefact
from sparsight.errors import SparsightError


def photo(name: str, *notes: tuple[object, list[list[str]]], **fields: Any) -> dict[str, Any]:
    annotations = [{"annotator_id": who, "taxonomy": paths, "email": f"{who}@x"} for who, paths in notes]
    return {"id": name, "uri_orig": f"photos/{name}.png", "annotations": annotations, **fields}


ROWS = {
    "pets": [
        photo("argued", ("bob", [["cat"]]), ("ann", [["dog", "half/breed"], ["cat"]]), has_review=True),
        photo("twice", ("ann", [["dog"]]), ("ann", [["dog"], ["dog", "poodle"]])),
        photo("nothing", ("ann", []), ("bob", [[]])),
        photo("nobody"),
        photo("nowhere", (7, [["dog"]]), uri_orig=None, has_review="yes"),
    ],
    "cells": [photo("argued", ("ann", [["whole"]]))],
}


def test_every_path_of_everybody_is_a_row() -> None:
    assert annotations_of(ROWS).to_numpy().tolist() == [
        ["cells", "argued", "photos/argued.png", "ann", "whole", False],
        ["pets", "argued", "photos/argued.png", "ann", "cat", True],
        ["pets", "argued", "photos/argued.png", "ann", "dog/half%2Fbreed", True],
        ["pets", "argued", "photos/argued.png", "bob", "cat", True],
        ["pets", "nowhere", "", "7", "dog", False],
        ["pets", "twice", "photos/twice.png", "ann", "dog", False],
        ["pets", "twice", "photos/twice.png", "ann", "dog/poodle", False],
    ]


def test_the_order_of_documents_makes_no_difference(tmp_path: Path) -> None:
    other = {name: rows[::-1] for name, rows in reversed(ROWS.items())}
    for name, rows in (("one", ROWS), ("two", other)):
        (tmp_path / name).mkdir()
        write_annotations(tmp_path / name, annotations_of(rows))
    one, two = ((tmp_path / name / ANNOTATIONS).read_bytes() for name in ("one", "two"))
    assert one == two
    assert b"@x" not in one


@pytest.mark.parametrize("rows", [ROWS, {}, {"pets": []}])
def test_they_are_read_as_they_were_written(rows: dict[str, Any], tmp_path: Path) -> None:
    with new_artefact(tmp_path / "dataset", "dataset", {}) as draft:
        write_annotations(draft.folder, annotations_of(rows))
    pd.testing.assert_frame_equal(read_annotations(tmp_path / "dataset"), annotations_of(rows))


def test_a_dataset_without_labels_has_none(tmp_path: Path) -> None:
    with new_artefact(tmp_path / "dataset", "dataset", {}):
        pass
    with pytest.raises(SparsightError, match=f"holds no {ANNOTATIONS}; expected a dataset of labelled photos"):
        read_annotations(tmp_path / "dataset")
