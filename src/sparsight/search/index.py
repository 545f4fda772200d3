"""The index artefact: a binary code, the codes of photos, what is known of them, and how they are searched."""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sparsight.data.artefact import read_manifest
from sparsight.errors import SparsightError
from sparsight.search.code import BinaryCode, Bits
from sparsight.search.generations import read_generation
from sparsight.search.photos import Photos
from sparsight.search.structures import Distances, Rows, Structure, StructureName, compare_all

CODE, CODES, PHOTOS, STRUCTURE = "code", "codes", "photos", "structure"
"""Kinds of files: the binary code; uint8 N x bytes; their photos; lists or graph, where there are some."""
_TRIES = 5


class IndexDescription(BaseModel):
    """Parameters of an index: what it was made with, and what a query must go through to be compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str = Field(description="how the binary code was found: one of CODES in search/codes.py")
    bits: int
    structure: StructureName
    seed: int
    model: str = Field(description="whose embeddings: a registered version, or where the weights are from")
    backbone_digest: str
    backbone: str
    small_image_stem: bool
    image_size: int
    resize: Literal["fit", "crop", "squash"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: str = Field(description="SHA-256 of what the embeddings that it was built of say of themselves")


class Matches(NamedTuple):
    """Hamming distances, int64 K, ascending, and the photos' rows, int64 K; lower rows first among equals."""

    distances: Distances
    rows: Rows


class Index:
    """An index artefact, opened for reading as it is now; later changes don't touch what is open.

    Args:
        folder: as `writing.build_index` makes it.

    Attributes:
        description: what it was made with.
        generation: which of its files are open.
        code: turns embeddings into codes.
        codes: uint8 N x bits / 8, memory-mapped.
        photos: what is known of them, row for row.
        structure: lists or graph, where not all codes are compared.

    Raises:
        SparsightError: not a whole index artefact, truncated, or changed by others than us.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.description = read_index_description(folder)
        for left in reversed(range(_TRIES)):
            self.generation = read_generation(folder)
            try:
                self.generation.check(folder)
                self._open()
                return
            except FileNotFoundError as error:
                # Changed between the two looks: what counts now is beside it. Otherwise it is missing for good.
                if not left:
                    raise SparsightError(f"{folder} lacks {error.filename}.", hint="Build the index again.") from error

    def _open(self) -> None:
        path = self.generation.path(self.folder, CODE)
        self.code = BinaryCode.from_bytes(path.read_bytes(), path)
        path = self.generation.path(self.folder, CODES)
        try:
            self.codes: Bits = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise SparsightError(f"{path} holds no codes: {error}") from error
        self.photos = Photos(self.generation.path(self.folder, PHOTOS))
        expected = (self.generation.photos, self.description.bits // 8)
        if self.codes.dtype != np.uint8 or self.codes.shape != expected or len(self.photos) != expected[0]:
            raise SparsightError(
                f"{path} is {self.codes.dtype} {self.codes.shape} beside {len(self.photos):,} photos; expected uint8 "
                f"{expected}."
            )
        self.structure = self._open_structure()

    def _open_structure(self) -> Structure | None:
        if self.description.structure == "flat":
            return None
        path = self.generation.path(self.folder, STRUCTURE)
        return Structure.from_bytes(path.read_bytes(), self.codes, path)

    def __len__(self) -> int:
        return len(self.codes)

    def is_current(self) -> bool:
        """Whether nothing has changed on disk since it was opened."""
        return read_generation(self.folder).number == self.generation.number

    def search(self, code: Bits, count: int, among: Rows | None = None) -> Matches:
        """Find the photos whose codes are nearest to one.

        Args:
            code: uint8, bits / 8.
            count: how many; fewer are found where there are no more.
            among: rows that may be found, in ascending order; all are compared then, whatever the structure.
        """
        if among is not None:
            distances, places = compare_all(self.codes[among], code[None], count)
            return Matches(distances[0], among[places[0]])
        if self.structure is not None:
            return Matches(*self.structure.search(code, count))
        distances, rows = compare_all(self.codes, code[None], count)
        return Matches(distances[0], rows[0])


def read_index_description(folder: Path) -> IndexDescription:
    """Read and check an index's parameters.

    Raises:
        SparsightError: not an index artefact, or parameters that this version doesn't know.
    """
    manifest = read_manifest(folder, "index")
    try:
        return IndexDescription.model_validate(manifest.parameters)
    except ValidationError as error:
        raise SparsightError(f"{folder} has parameters that no index has: {error}") from error
