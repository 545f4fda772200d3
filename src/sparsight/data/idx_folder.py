"""A folder of IDX files as a collection: each image a photo, the test files' set aside."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparsight.data.idx import read_images, read_labels
from sparsight.data.loading import LoadSummary, SourcePhoto, check_collection_name, load_photos
from sparsight.data.records import Annotation
from sparsight.data.samples import collection_name, png_file
from sparsight.errors import SparsightError

ANNOTATOR = "idx"
"""Under this name the labels of the files are annotations."""
_NAME = re.compile(r"(?P<part>[\w.-]*?)-?(?P<what>images|labels)[-.]idx[13]-ubyte(\.gz)?")
_FOR_THE_TEST = {"t10k", "test"}


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Images and their labels: what two files hold, called alike but for that."""

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None

    @property
    def is_test(self) -> bool:
        return bool(_FOR_THE_TEST & set(re.split(r"[^a-z0-9]", self.name.lower())))

    def photos(self, collection: str) -> Iterator[SourcePhoto]:
        for row, pixels in enumerate(self.images):
            label = [] if self.labels is None else [str(self.labels[row])]
            yield SourcePhoto(
                id=f"{collection}-{self.name}-{row:06d}",
                name=f"{self.name}/{row:06d}.png",
                read=partial(png_file, pixels),
                annotations=[Annotation(annotator_id=ANNOTATOR, taxonomy=[label])] if label else [],
                has_review=self.is_test and bool(label),
                in_test_set=self.is_test,
            )


def load_idx(path: str | Path, *, name: str | None = None) -> LoadSummary:
    """Load a folder of MNIST-format files as a collection: grey PNG files, labelled by their number.

    Taken are `<part>-images-idx3-ubyte` and `<part>-labels-idx1-ubyte`, with `.gz` or without, such as MNIST's own
    four files. Photos of a part called `t10k` or `test` are set aside for the test split. Images without a file of
    labels are unlabelled.

    Args:
        path: the folder.
        name: of the collection; by default made from the folder's own name.

    Raises:
        SparsightError: there is no such folder, it holds no images, a file is damaged, there are more or fewer labels
            than images, or a store can't be reached.
    """
    root = Path(path)
    if not root.is_dir():
        raise SparsightError(f"{root} is not a folder.", hint="Give the folder that holds the IDX files.")
    collection = check_collection_name(name if name is not None else collection_name(root))
    photos = [photo for part in _parts(root) for photo in part.photos(collection)]
    return load_photos(collection, photos, relabel=False)


def _parts(root: Path) -> list[_Part]:
    """Read all pairs of files, sorted by name."""
    found: dict[tuple[str, str], Path] = {}
    for file in sorted(root.iterdir()):
        if match := _NAME.fullmatch(file.name):
            key = match["what"], match["part"] or "all"
            if key in found:
                raise SparsightError(
                    f"{root} holds the same {match['what']} twice: {found[key].name} and {file.name}.",
                    hint="Remove one of them.",
                )
            found[key] = file
    parts = [_part(part, file, found.get(("labels", part))) for (what, part), file in found.items() if what == "images"]
    if not parts:
        raise SparsightError(
            f"{root} holds no images in IDX format; expected files called like train-images-idx3-ubyte.gz."
        )
    return parts


def _part(name: str, images: Path, labels: Path | None) -> _Part:
    part = _Part(name=name, images=read_images(images), labels=read_labels(labels) if labels else None)
    if labels and part.labels is not None and len(part.labels) != len(part.images):
        raise SparsightError(
            f"{images} holds {len(part.images):,} images, and {labels} {len(part.labels):,} labels; "
            "expected as many of both.",
            hint="Fetch both files again: they don't belong to each other.",
        )
    return part
