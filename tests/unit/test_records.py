"""The document schema: the reference's fields, and whatever else users keep in theirs."""

import pytest
from pydantic import ValidationError

from sparsight.data.records import Annotation, PhotoDocument

REFERENCE = {
    "id", "uri_orig", "file_hash", "text", "artnr_ocr", "pii_entities", "face_rects", "is_blurred", "resolution_width",
    "resolution_height", "servicereport_artnr", "servicereport_filename", "sortout", "sortout_testset",
    "has_imagerecognition_labels", "labels_with_taxonomy", "total_annotations", "has_review",
}  # fmt: skip


def test_a_document_has_the_fields_of_the_reference() -> None:
    assert set(PhotoDocument(id="1", uri_orig="photos/a.png").model_dump()) == REFERENCE


def test_other_fields_are_kept() -> None:
    document = PhotoDocument.model_validate(
        {"id": "1", "uri_orig": "x/y", "camera": "K1", "labels_with_taxonomy": [{"annotator_id": 7, "lead_time": 3.5}]}
    )
    written = document.model_dump(mode="json")
    assert written["camera"] == "K1"
    assert written["labels_with_taxonomy"] == [{"annotator_id": "7", "taxonomy": [], "lead_time": 3.5}]


def test_annotations_decide_the_fields_that_follow_from_them() -> None:
    note = Annotation(annotator_id="ann", taxonomy=[["dog", "poodle"]])
    document = PhotoDocument(id="1", uri_orig="x/y").annotated([note], has_review=True)
    assert (document.total_annotations, document.has_imagerecognition_labels, document.has_review) == (1, True, True)
    assert not document.annotated([]).has_imagerecognition_labels


@pytest.mark.parametrize("wrong", [{"id": "a/b"}, {"id": ""}, {"file_hash": "abc"}, {"resolution_width": 0}])
def test_values_that_cosmos_or_a_reader_would_stumble_over(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PhotoDocument.model_validate({"id": "1", "uri_orig": "x/y"} | wrong)
