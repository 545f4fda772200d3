"""Where images are from: kept beside them, and no trouble where it isn't known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from packed_images import write_packed_images

from sparsight.data.artefact import new_artefact
from sparsight.data.origin import Origin, origin_of, table_digest, write_origin
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_packed_images(tmp_path / "images", np.zeros((2, 4, 4, 3), np.uint8), ["a", "b"], ["train", "test"])


def test_it_comes_back_from_beside_the_images(images: Path, tmp_path: Path) -> None:
    with new_artefact(tmp_path / "dataset", "dataset", {"containers": "elpv", "include": "[]"}) as draft:
        draft.counts.update(train=1, test=1)
    rows = pd.DataFrame({"id": ["1", "2"], "label": ["a", "b"]})
    origin = origin_of(tmp_path / "dataset", rows)
    assert origin == Origin(
        query={"containers": "elpv", "include": "[]"}, counts={"train": 1, "test": 1}, digest=table_digest(rows)
    )
    write_origin(images, origin)
    assert PackedImages(images).origin == origin


def test_without_it_nothing_is_known(images: Path) -> None:
    assert PackedImages(images).origin == Origin()


def test_a_damaged_one_is_named(images: Path) -> None:
    (images / "dataset.json").write_text('{"query": 3}')
    with pytest.raises(SparsightError, match=r"dataset\.json can't be read as a dataset's origin"):
        _ = PackedImages(images).origin
