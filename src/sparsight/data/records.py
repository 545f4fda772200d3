"""The documents of the metadata store: one per photo, in the fields of the reference schema."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Annotation(BaseModel):
    """What one annotator says about a photo: one or more label paths, each from the first taxonomy level down."""

    model_config = ConfigDict(extra="allow")

    annotator_id: str
    taxonomy: list[list[str]] = Field(default_factory=list)

    @field_validator("annotator_id", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        # Label Studio numbers its annotators.
        return str(value) if isinstance(value, int) else value


class PhotoDocument(BaseModel):
    """A photo's metadata, one document in a Cosmos DB container with partition key `/id`.

    Fields that users add to their documents are kept. None means: not known.

    Attributes:
        id: unique in its container, and over the containers that one dataset is made of.
        uri_orig: where the photo is: an absolute URL of the storage account, or `container/name` in it.
        file_hash: SHA-256 of the file's bytes, hexadecimal.
        text: text read in the photo.
        artnr_ocr: article number read in the photo.
        pii_entities: personal data found in the text.
        face_rects: rectangles of the faces in the photo.
        is_blurred: whether the photo is blurred.
        resolution_width: in pixels.
        resolution_height: in pixels.
        servicereport_artnr: article number of the service report that the photo comes from.
        servicereport_filename: file of that report.
        sortout: the photo was rejected; no dataset takes it.
        sortout_testset: the photo is set aside for the test split.
        has_imagerecognition_labels: whether there are annotations.
        labels_with_taxonomy: the annotations.
        total_annotations: their number.
        has_review: whether a second person checked them.
    """

    model_config = ConfigDict(extra="allow")

    id: str = Field(min_length=1, max_length=1023, pattern=r"^[^/\\?#]+$")
    uri_orig: str
    file_hash: str | None = Field(default=None, pattern=r"^[0-9a-fA-F]{64}$")
    text: str | None = None
    artnr_ocr: str | None = None
    pii_entities: list[Any] = Field(default_factory=list)
    face_rects: list[Any] = Field(default_factory=list)
    is_blurred: bool | None = None
    resolution_width: int | None = Field(default=None, ge=1)
    resolution_height: int | None = Field(default=None, ge=1)
    servicereport_artnr: str | None = None
    servicereport_filename: str | None = None
    sortout: bool = False
    sortout_testset: bool = False
    has_imagerecognition_labels: bool = False
    labels_with_taxonomy: list[Annotation] = Field(default_factory=list)
    total_annotations: int = Field(default=0, ge=0)
    has_review: bool = False

    def annotated(self, annotations: list[Annotation], *, has_review: bool = False) -> "PhotoDocument":
        """Copy the document with these annotations and the fields that follow from them."""
        return self.model_copy(
            update={
                "labels_with_taxonomy": annotations,
                "total_annotations": len(annotations),
                "has_imagerecognition_labels": bool(annotations),
                "has_review": has_review,
            }
        )
