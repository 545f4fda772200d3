"""Photos into the stores: files to Blob Storage and one document each to Cosmos DB, as often as one likes."""

import asyncio
import hashlib
import io
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from PIL import Image

from sparsight.data.records import Annotation, PhotoDocument
from sparsight.errors import SparsightError
from sparsight.progress import Progress
from sparsight.stores.images import ImageStore
from sparsight.stores.metadata import MetadataStore, for_all, open_metadata

BLOB_CONTAINER = "photos"
MEDIA_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
}
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")
_AT_ONCE = 32
_FILE_FIELDS = ("uri_orig", "file_hash", "resolution_width", "resolution_height")
_LABEL_FIELDS = (
    "sortout_testset",
    "has_imagerecognition_labels",
    "labels_with_taxonomy",
    "total_annotations",
    "has_review",
)
_KNOWN_FIELDS = ", ".join(f"c.{name}" for name in ("id", "_etag", *_FILE_FIELDS, *_LABEL_FIELDS))


@dataclass(frozen=True, kw_only=True)
class SourcePhoto:
    """A photo on its way into the stores.

    Attributes:
        id: of its document.
        name: of its blob, below the collection.
        read: gives the file's bytes.
        annotations: what is known of its label.
        has_review: whether the annotations are checked.
        in_test_set: whether it is set aside for the test split.
    """

    id: str
    name: str
    read: Callable[[], bytes]
    annotations: list[Annotation] = field(default_factory=list)
    has_review: bool = False
    in_test_set: bool = False


@dataclass(kw_only=True)
class LoadSummary:
    """What a load did. Printed, it is a sentence or two for people.

    Attributes:
        collection: the Cosmos DB container, and the folder in Blob Storage.
        photos: photos that are in both stores now.
        labelled: of these, with annotations and not in the test set.
        in_test_set: of these, set aside for the test split.
        uploaded: files written; the others were there already.
        created: documents written anew.
        updated: documents in which something was set.
        left_alone: documents of the collection that this load knows nothing about.
        skipped: files not taken, counted by reason.
    """

    collection: str
    photos: int = 0
    labelled: int = 0
    in_test_set: int = 0
    uploaded: int = 0
    created: int = 0
    updated: int = 0
    left_alone: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        unlabelled = self.photos - self.labelled - self.in_test_set
        lines = [
            f"{self.collection}: {self.photos:,} photos: {unlabelled:,} unlabelled, {self.labelled:,} labelled, "
            f"{self.in_test_set:,} set aside for the test split.",
            f"{self.uploaded:,} files uploaded, {self.created:,} documents created, {self.updated:,} updated; "
            "what was there already stayed.",
        ]
        lines += [f"Skipped {count:,} files: {reason}." for reason, count in sorted(self.skipped.items())]
        if self.left_alone:
            lines.append(f"{self.left_alone:,} other documents of this collection are left as they are.")
        return "\n".join(lines)


def check_collection_name(name: str) -> str:
    """Return the name of a collection where it can name a Cosmos DB container and a folder of blobs.

    Raises:
        SparsightError: it has other characters than these.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9-]{1,62}", name):
        return name
    raise SparsightError(
        f"{name!r} can't name a collection; expected 2 to 63 lower-case letters, digits and hyphens, a letter or "
        "digit first.",
        hint="Give another one with --name.",
    )


def load_photos(collection: str, photos: Sequence[SourcePhoto], *, relabel: bool) -> LoadSummary:
    """Bring photos into the stores that the environment names.

    Loading again changes nothing that is the same: equal files aren't uploaded, equal documents aren't written.
    Fields that this load doesn't know are never touched, nor are annotations by anybody but its own annotators.

    Args:
        collection: the Cosmos DB container, and the folder in the Blob container `photos`.
        photos: with distinct ids and names.
        relabel: whether annotations, review and test mark of a document that is there already are set anew.

    Raises:
        SparsightError: a store can't be reached, or refuses.
    """
    check_collection_name(collection)
    return asyncio.run(_load(collection, photos, relabel))


async def _load(collection: str, photos: Sequence[SourcePhoto], relabel: bool) -> LoadSummary:
    async with ImageStore() as images, open_metadata() as metadata:
        await images.ensure_container(BLOB_CONTAINER)
        await metadata.ensure_container(collection)
        loader = _Loader(collection, photos, relabel, images, metadata)
        await loader.run()
    return loader.summary


class _Loader:
    """One load: its stores, what the collection holds already, and the counts so far."""

    def __init__(
        self,
        collection: str,
        photos: Sequence[SourcePhoto],
        relabel: bool,
        images: ImageStore,
        metadata: MetadataStore,
    ) -> None:
        self.collection, self.photos, self.relabel = collection, photos, relabel
        self.images, self.metadata = images, metadata
        self.own = {note.annotator_id for photo in photos for note in photo.annotations}
        self.known: dict[str, dict[str, Any]] = {}
        self.summary = LoadSummary(collection=collection)

    async def run(self) -> None:
        self.known = {row["id"]: row for row in await self._read("")}
        self.summary.left_alone = len(self.known.keys() - {photo.id for photo in self.photos})
        self.progress = Progress(f"Loading {self.collection}", len(self.photos), "photos")
        await for_all(self.photos, self._one, at_once=_AT_ONCE)
        self.progress.finish()

    async def _read(self, photo_id: str) -> list[dict[str, Any]]:
        text = f"SELECT {_KNOWN_FIELDS} FROM c"  # noqa: S608 - our own names
        if photo_id:
            return await self.metadata.query(self.collection, f"{text} WHERE c.id = @id", {"@id": photo_id})
        return await self.metadata.query(self.collection, text)

    async def _one(self, photo: SourcePhoto) -> None:
        content = await asyncio.to_thread(photo.read)
        path = f"{BLOB_CONTAINER}/{self.collection}/{photo.name}"
        media_type = MEDIA_TYPES[PurePosixPath(photo.name).suffix.lower()]
        uploaded = await self.images.upload(path, content, media_type, likely_new=photo.id not in self.known)
        await self._document(document_of(photo, path, content).model_dump(mode="json"))
        self.summary.photos += 1
        self.summary.uploaded += uploaded
        self.summary.in_test_set += photo.in_test_set
        self.summary.labelled += bool(photo.annotations) and not photo.in_test_set
        self.progress.advance()

    async def _document(self, document: dict[str, Any]) -> None:
        known = self.known.get(document["id"])
        if known is None and await self.metadata.create(self.collection, document):
            self.summary.created += 1
            return
        # Whoever writes to the same document at the same time wins; then its new state is looked at.
        for _ in range(3):
            if known is None:
                known = (await self._read(document["id"]))[0]
            changes = self._changes(document, known)
            if not changes:
                return
            if await self.metadata.set_fields(self.collection, document["id"], changes, known["_etag"]):
                self.summary.updated += 1
                return
            known = None
        raise SparsightError(
            f"Document {document['id']} of {self.collection} keeps changing while it is loaded.",
            hint="Load again when nothing else writes to it.",
        )

    def _changes(self, document: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
        annotators = {note.get("annotator_id") for note in known.get("labels_with_taxonomy") or []}
        relabel = self.relabel and annotators <= self.own
        fields = _FILE_FIELDS + (_LABEL_FIELDS if relabel else ())
        return {name: document[name] for name in fields if _differs(document[name], known.get(name))}


def _differs(one: object, other: object) -> bool:
    return json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True)


def document_of(photo: SourcePhoto, path: str, content: bytes) -> PhotoDocument:
    """Describe a photo; fields that nothing is known about stay empty."""
    width, height = image_size(content)
    return PhotoDocument(
        id=photo.id,
        uri_orig=path,
        file_hash=hashlib.sha256(content).hexdigest(),
        resolution_width=width,
        resolution_height=height,
        sortout_testset=photo.in_test_set,
    ).annotated(photo.annotations, has_review=photo.has_review)


def image_size(content: bytes) -> tuple[int | None, int | None]:
    """Read width and height in pixels from a file's header, without decoding it; None where it isn't an image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                return image.size
    except Exception:
        # Decoders fail on broken files in many ways; whether a photo is usable is decided when it is decoded.
        return None, None
