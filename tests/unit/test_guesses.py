"""What a predictions artefact says to people who label: whose labels these are, and of which photos."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sparsight.data.artefact import new_artefact
from sparsight.data.labelling.chosen import Guess, read_guesses
from sparsight.errors import SparsightError


def predictions(folder: Path, **parameters: Any) -> Path:
    with new_artefact(folder, "predictions", parameters) as draft:
        table = pd.DataFrame({"id": ["a", "b", "c"], "label": ["cell/A%2FB", "", None], "score": [0.5, 0.4, 0.3]})
        table.assign(entropy=0.1).to_parquet(draft.folder / "predictions.parquet")
    return folder


def test_photos_without_a_label_sure_enough_have_no_guess(tmp_path: Path) -> None:
    found = read_guesses(predictions(tmp_path / "p", model="cells/3", weights_digest="0123456789abcdef"))
    assert found.model_version == "cells/3"
    assert found.by_photo == {"a": Guess(path=("cell", "A/B"), score=0.5)}


def test_a_model_that_is_not_registered_is_named_by_its_weights(tmp_path: Path) -> None:
    made = predictions(tmp_path / "p", model=None, weights_digest="0123456789abcdef")
    assert read_guesses(made).model_version == "weights 0123456789ab"
    with pytest.raises(SparsightError, match="its manifest names no model"):
        read_guesses(predictions(tmp_path / "q"))
