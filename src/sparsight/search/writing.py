"""Making an index, adding photos to it and removing them; readers see it as it was or as it will be, never between."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sparsight.data.artefact import is_finished, new_artefact, write_bytes
from sparsight.data.embeddings import Embeddings
from sparsight.errors import SparsightError
from sparsight.search.code import Bits
from sparsight.search.codes import find_code
from sparsight.search.generations import changing, name_of, write_generation
from sparsight.search.index import CODE, CODES, PHOTOS, STRUCTURE, Index, IndexDescription
from sparsight.search.photos import SCHEMA, photos_of, write_photos
from sparsight.search.structures import Rows, Structure, StructureName, resolve_structure

_CODE_FILE = f"{CODE}.safetensors"


@dataclass(frozen=True, kw_only=True)
class IndexOptions:
    """How an index is made.

    Attributes:
        code: one of CODES in search/codes.py.
        bits: of a code; a multiple of 8.
        structure: `flat`, `ivf`, `hnsw`, or `auto`, which goes by the number of photos.
        seed: of the binary code.
    """

    code: str = "learned"
    bits: int = 64
    structure: str = "auto"
    seed: int = 0


class Change(NamedTuple):
    """How many photos a change has added, replaced and removed, and how many there are now."""

    added: int
    replaced: int
    removed: int
    photos: int

    def __str__(self) -> str:
        what = f"{self.added:,} added, {self.replaced:,} replaced, {self.removed:,} removed"
        return f"{what}: {self.photos:,} photos now."


class _Contents(NamedTuple):
    """Codes, uint8 N x bytes, their photos, and the structure that finds them, where there is one."""

    codes: Bits
    photos: pa.Table
    structure: Structure | None


def build_index(embeddings: Embeddings, dataset: Path, target: Path, options: IndexOptions) -> None:
    """Write an index artefact; a finished one that was made of the very same is left as it is.

    Args:
        embeddings: of the photos.
        dataset: artefact that tells where they are.
        target: the artefact's folder, whole or absent.
        options: how.

    Raises:
        SparsightError: options or embeddings are no good, or the dataset lacks a photo.
    """
    structure = resolve_structure(options.structure, len(embeddings))
    parameters = _describe(embeddings, options, structure).model_dump(mode="json")
    if is_finished(target, "index", parameters):
        return
    photos = photos_of(embeddings, dataset)
    code = find_code(options.code, embeddings.values, options.bits, options.seed)
    codes = code.encode(embeddings.values)
    with new_artefact(target, "index", parameters) as draft:
        write_bytes(draft.folder / _CODE_FILE, code.to_bytes())
        _write(draft.folder, 1, _Contents(codes, photos, _structure(structure, codes)))
        draft.counts.update(photos=len(codes), bits=options.bits)


def add_photos(folder: Path, embeddings: Embeddings, dataset: Path) -> Change:
    """Add photos to an index. Those that are in it already keep their place and get the new code, address and label.

    Raises:
        SparsightError: the embeddings are of another model; an id is in the index for a photo of another container; or
            somebody else changes the index now.
    """
    with changing(folder):
        index = Index(folder)
        check_model(index.description, embeddings)
        photos, codes = photos_of(embeddings, dataset), index.code.encode(embeddings.values)
        before = index.photos.table()
        rows, fresh = _merged(before, photos)
        all_codes = np.concatenate([index.codes, codes])[rows]
        table = pa.concat_tables([before, photos]).take(rows)
        recoded = (all_codes[: len(before)] != index.codes).any(axis=1)
        replaced = int((recoded | _differing(before, table)).sum())
        if len(fresh) or replaced:
            structure = index.structure
            if structure is not None and not recoded.any():
                structure.add(codes[fresh])
            else:
                structure = _structure(index.description.structure, all_codes)
            _renew(index, _Contents(all_codes, table, structure))
    return Change(added=len(fresh), replaced=replaced, removed=0, photos=len(table))


def remove_photos(folder: Path, ids: Sequence[str]) -> Change:
    """Remove photos from an index; ids that aren't in it are passed over.

    Raises:
        SparsightError: no photo would be left, or somebody else changes the index now.
    """
    with changing(folder):
        index = Index(folder)
        gone = index.photos.among(list(ids))
        kept = np.setdiff1d(np.arange(len(index)), gone)
        if not len(kept):
            raise SparsightError(f"{folder} would be left without a photo.", hint="Remove the folder instead.")
        if len(gone):
            codes = index.codes[kept]
            structure = _structure(index.description.structure, codes)
            _renew(index, _Contents(codes, index.photos.table().take(kept), structure))
    return Change(added=0, replaced=0, removed=len(gone), photos=len(kept))


def check_model(description: IndexDescription, embeddings: Embeddings) -> None:
    """Refuse embeddings whose codes can't be compared with those of an index.

    Raises:
        SparsightError: they are of another model, or of images that were prepared in another way.
    """
    found = embeddings.manifest.parameters
    if found.get("backbone_digest") != description.backbone_digest:
        raise SparsightError(
            f"{embeddings.folder} holds embeddings of {found.get('model')}; the index is of {description.model}, which "
            "has other weights, so that distances between them mean nothing.",
            hint="Embed with the index's model, or build a new index.",
        )
    images = found.get("images", {})
    if (images.get("size"), images.get("resize")) != (description.image_size, description.resize):
        raise SparsightError(
            f"{embeddings.folder} is of images of {images.get('size')} pixels, resize {images.get('resize')}; the "
            f"index is of {description.image_size} pixels, resize {description.resize}.",
            hint="Prepare the images as those of the index were.",
        )


def _describe(embeddings: Embeddings, options: IndexOptions, structure: StructureName) -> IndexDescription:
    made = embeddings.manifest.parameters
    try:
        return IndexDescription(
            code=options.code,
            bits=options.bits,
            structure=structure,
            seed=options.seed,
            model=made["model"],
            backbone_digest=made["backbone_digest"],
            backbone=made["backbone"]["name"],
            small_image_stem=made["backbone"]["small_image_stem"],
            image_size=made["images"]["size"],
            resize=made["images"]["resize"],
            mean=made["mean"],
            std=made["std"],
            source=hashlib.sha256(json.dumps(dict(made), sort_keys=True).encode()).hexdigest(),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SparsightError(
            f"The manifest of {embeddings.folder} doesn't tell how they were made: {error}",
            hint="Make them with embed.",
        ) from error


def _merged(before: pa.Table, photos: pa.Table) -> tuple[Rows, Rows]:
    """Find which rows of two tables, one after the other, make that of all photos, and which of the second are new.

    Raises:
        SparsightError: two photos of the same id are of different containers.
    """
    places = pc.index_in(photos["id"], value_set=before["id"])
    fresh = np.flatnonzero(places.is_null().to_numpy(zero_copy_only=False))
    known, there = np.setdiff1d(np.arange(len(photos)), fresh), places.drop_null().to_numpy()
    _check_containers(before.take(there), photos.take(known))
    rows = np.concatenate([np.arange(len(before)), len(before) + fresh])
    rows[there] = len(before) + known
    return rows, fresh


def _check_containers(before: pa.Table, photos: pa.Table) -> None:
    differ = pc.not_equal(before["container"], photos["container"])
    if pc.any(differ).as_py():
        photo = photos.filter(differ).slice(0, 1).to_pylist()[0]
        raise SparsightError(
            f"Photo {photo['id']!r} of container {photo['container']!r} has the id of a photo in the index that is of "
            "another container.",
            hint="Remove that one first, or give the photos an index of their own.",
        )


def _differing(before: pa.Table, after: pa.Table) -> NDArray[np.bool_]:
    """Tell of each row of a table whether the same row of a longer one is another."""
    pairs = [(before[name], after[name].slice(0, len(before))) for name in SCHEMA.names]
    differ: list[NDArray[np.bool_]] = [pc.not_equal(*pair).to_numpy() for pair in pairs]
    found: NDArray[np.bool_] = np.logical_or.reduce(differ)
    return found


def _structure(name: StructureName, codes: Bits) -> Structure | None:
    return None if name == "flat" else Structure.build(name, codes)


def _renew(index: Index, contents: _Contents) -> None:
    _write(index.folder, index.generation.number + 1, contents)


def _write(folder: Path, number: int, contents: _Contents) -> None:
    """Write the files of a generation, then make them the ones that count."""
    names = [_CODE_FILE, name_of(CODES, number, "npy"), name_of(PHOTOS, number, "parquet")]
    np.save(folder / names[1], contents.codes)
    write_photos(folder / names[2], contents.photos)
    if contents.structure is not None:
        names.append(name_of(STRUCTURE, number, "faiss"))
        write_bytes(folder / names[3], contents.structure.to_bytes())
    write_generation(folder, number, len(contents.codes), names)
