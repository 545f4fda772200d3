"""What is told of a photo equals its definition, and is the same in both files."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsight.data.artefact import new_artefact
from sparsight.data.predictions import SCHEMA, PredictionWriter, load_predictions
from sparsight.data.tree import Tree
from sparsight.errors import SparsightError
from sparsight.models.familiarity import Familiarity
from sparsight.models.folder import (
    BackboneDescription,
    HeadDescription,
    HierarchyDescription,
    ModelDescription,
    Preprocessing,
)
from sparsight.models.hierarchy import make_heads
from sparsight.models.prediction import Reader, entropies, labels_of, margins
from sparsight.models.predictor import Outputs, Predictor

PREPROCESSING = Preprocessing(image_size=16, resize="fit", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
BACKBONE = BackboneDescription(name="resnet10_narrow", small_image_stem=True)
FLAT = ("cat", "dog", "dog/poodle", "dog/terrier")
chances = st.lists(st.floats(0.001, 1), min_size=2, max_size=6).map(lambda values: np.array([values]) / sum(values))


def described(classes: tuple[str, ...], hierarchy: HierarchyDescription | None = None) -> ModelDescription:
    head = HeadDescription(hidden=4, dropout=0.5)
    return ModelDescription(
        kind="classifier",
        backbone=BACKBONE,
        head=head,
        classes=classes,
        hierarchy=hierarchy,
        preprocessing=PREPROCESSING,
    )


def predictor_for(description: ModelDescription, familiarity: Familiarity | None = None) -> Predictor:
    from sparsight.models.classifier import new_classifier

    return Predictor(description, new_classifier(description).state_dict(), familiarity, Path("model"))


def outputs(logits: list[list[float]], distances: list[float] | None = None) -> Outputs:
    told = torch.tensor(logits)
    distance = None if distances is None else torch.tensor(distances)
    return Outputs(embedding=torch.zeros(len(told), 3), logits=told, distance=distance)


@settings(max_examples=50)
@given(chances)
def test_entropy_and_margin_are_their_definitions(values: np.ndarray) -> None:
    row = values[0].tolist()
    naive = -sum(chance * math.log(chance) for chance in row) / math.log(len(row))
    assert entropies(values)[0] == pytest.approx(min(naive, 1), abs=1e-9)
    first, second = sorted(row, reverse=True)[:2]
    assert margins(values)[0] == pytest.approx(first - second, abs=1e-12)


def test_the_sure_and_the_clueless_are_at_the_ends() -> None:
    values = np.array([[0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3]], np.float32)
    assert entropies(values).tolist() == pytest.approx([0, 1])
    assert margins(values).tolist() == pytest.approx([1, 0])


def test_levels_of_a_flat_classifier_add_up_what_is_below_them() -> None:
    reader = Reader(predictor_for(described(FLAT)))
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.4, 0.3], [0.2, 0.5, 0.2, 0.1]])).tolist()
    rows, probabilities = reader.read(outputs(logits))
    assert reader.labels == FLAT
    assert probabilities[0].tolist() == pytest.approx([0.1, 0.2, 0.4, 0.3])
    assert [row["label"] for row in rows] == ["dog/poodle", "dog"]
    assert [row["score"] for row in rows] == pytest.approx([0.4, 0.5])
    assert [each["label"] for each in rows[0]["levels"]] == ["dog", "dog/poodle"]
    assert [each["probability"] for each in rows[0]["levels"]] == pytest.approx([0.9, 0.4])
    # The label stops at "dog", of which nothing more is known; the node holds the poodles and terriers, too.
    assert [each["probability"] for each in rows[1]["levels"]] == pytest.approx([0.8])
    assert rows[0]["margin"] == pytest.approx(0.1)
    assert (rows[0]["distance"], rows[0]["unfamiliar"]) == (None, None)


@pytest.mark.parametrize("kind", ["per_parent", "leaves"])
def test_a_hierarchical_classifier_tells_every_level_and_stops_where_it_is_unsure(kind: str) -> None:
    heads = make_heads(Tree([("cat",), ("dog", "poodle"), ("dog", "terrier")]), kind)
    hierarchy = HierarchyDescription(
        heads=kind, temperatures=dict.fromkeys(heads.heads, 1.0), decision="confident", threshold=0.8
    )
    reader = Reader(predictor_for(described(tuple("/".join(path) for path in heads.outputs), hierarchy)))
    sure = {"cat": -5.0, "dog": 5.0, "dog/poodle": 0.1, "dog/terrier": 0.0}
    rows, probabilities = reader.read(outputs([[sure["/".join(path)] for path in heads.outputs]]))
    assert set(reader.labels) == set(sure)
    assert probabilities.shape == (1, 4)
    assert rows[0]["label"] == "dog"
    assert [each["label"] for each in rows[0]["levels"]] == ["dog", "dog/poodle"]
    assert rows[0]["levels"][0]["probability"] == pytest.approx(rows[0]["score"])
    # Between two breeds and next to no cat: nearly ln 2 of the ln 3 that three leaves could have.
    assert rows[0]["entropy"] == pytest.approx(math.log(2) / math.log(3), abs=0.05)
    assert labels_of(described(("cat", "dog"))) == ("cat", "dog")


def test_what_is_further_off_than_most_is_unfamiliar() -> None:
    known = Familiarity(torch.zeros(2, 257), torch.eye(257) / 16, torch.linspace(0.5, 1.5, 100))
    reader = Reader(predictor_for(described(FLAT), known), familiar=0.9)
    rows, _ = reader.read(outputs([[0.0] * 4] * 3, [0.6, 1.39, 1.45]))
    assert [row["unfamiliar"] for row in rows] == [False, False, True]
    assert [row["distance"] for row in rows] == pytest.approx([0.6, 1.39, 1.45])
    with pytest.raises(SparsightError, match="share of familiar photos is 2"):
        Reader(predictor_for(described(FLAT), known), familiar=2)


def test_a_backbone_predicts_nothing() -> None:
    description = ModelDescription(kind="backbone", backbone=BACKBONE, preprocessing=PREPROCESSING)
    weights = predictor_for(described(FLAT)).backbone.state_dict()
    with pytest.raises(SparsightError, match="is a backbone, which gives embeddings; expected a classifier"):
        Reader(Predictor(description, weights, None, Path("model")))


def test_both_files_hold_the_same_and_batches_leave_no_trace(tmp_path: Path) -> None:
    row = {"id": "a/ü", "split": "train", "label": "dog/poodle", "score": 1 / 3, "entropy": 0.1, "margin": 1e-9}
    row |= {"levels": [{"label": "dog", "probability": 2 / 3}, {"label": "dog/poodle", "probability": 1 / 3}]}
    rows = [row | {"distance": None, "unfamiliar": None}, row | {"id": "b", "distance": 1.0, "unfamiliar": True}]
    for name, parts in (("one", [rows]), ("two", [rows[:1], rows[1:]])):
        with new_artefact(tmp_path / name, "predictions", {}) as draft, PredictionWriter(draft.folder) as writer:
            for part in parts:
                writer.add(part)
    texts = [(tmp_path / name / "predictions.jsonl").read_text("utf-8") for name in ("one", "two")]
    assert texts[0] == texts[1]
    lines = [json.loads(line) for line in texts[0].splitlines()]
    table = load_predictions(tmp_path / "two")
    assert list(table.columns) == list(lines[0]) == SCHEMA.names
    for line, (_, found) in zip(lines, table.iterrows(), strict=True):
        told = found.to_dict() | {"levels": list(found["levels"])}
        assert {key: None if value is None or value != value else value for key, value in told.items()} == line
    assert lines[0]["score"] == 0.333333
    with pytest.raises(SparsightError, match="expected a predictions folder"):
        load_predictions(tmp_path)
