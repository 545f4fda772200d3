"""The dataset artefact: which photos, in which split, under which label; made from query rows, written, read."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import pandas as pd

from sparsight.data.annotations import write_annotations
from sparsight.data.artefact import new_artefact, read_manifest, write_text
from sparsight.data.distribution import draw_distribution
from sparsight.data.labels import (
    LabelDepth,
    LabelPolicy,
    Path,
    is_under,
    join_paths,
    paths_in,
    rarest,
    settle,
    votes_by_annotator,
)
from sparsight.data.query import Mode
from sparsight.data.splits import (
    SPLITS,
    Oversampling,
    Ratios,
    Split,
    assign_split,
    first_by_hash,
    repetitions,
)
from sparsight.errors import SparsightError

COLUMNS = ["id", "uri", "file_hash", "label"]
CONTAINERS = "containers.json"


@dataclass(frozen=True)
class Photo:
    """A photo of a dataset; `label` is what `join_paths` writes, `annotations` how often people have labelled it."""

    id: str
    uri: str
    file_hash: str
    label: str
    split: Split
    container: str
    annotations: int = 0


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How photos found become a dataset.

    Attributes:
        mode: as in the query.
        include: nodes of the taxonomy that the settled label must lie at, below or above.
        taxonomy_level: 1 is the first level; 0 is the whole path.
        label_policy: how several annotators become one label.
        label_depth: `whole` settles labels as they are, `agreed` goes as deep as the policy settles something.
        several_labels: whether a photo keeps all labels that the policy settles on, in place of one.
        min_annotators: least number of distinct annotators who name a label at this level.
        ratios: of the splits.
        seed: of splits, limit and oversampling.
        limit: photos taken besides the test split; None takes all.
        oversampling: `off` or `balanced`, of the training split.

    Raises:
        SparsightError: oversampling without labels.
    """

    mode: Mode
    include: tuple[Path, ...] = ()
    taxonomy_level: int = 0
    label_policy: LabelPolicy = "majority"
    label_depth: LabelDepth = "whole"
    several_labels: bool = False
    min_annotators: int = 1
    ratios: Ratios
    seed: int = 0
    limit: int | None = None
    oversampling: Oversampling = "off"

    def __post_init__(self) -> None:
        if self.mode != "labelled" and self.oversampling != "off":
            raise SparsightError(
                f"oversampling is {self.oversampling!r}, but mode is {self.mode!r}: there are no classes to balance.",
                hint="Leave it out, or set mode to 'labelled'.",
            )


@dataclass(frozen=True)
class Dataset:
    """Photos of a dataset, how often each training photo is repeated, and why others were dropped."""

    photos: Sequence[Photo]
    repetitions: Mapping[str, int]
    dropped: Mapping[str, int] = field(default_factory=dict)

    def of(self, split: Split) -> list[Photo]:
        """Photos of one split, each once, by id."""
        return [photo for photo in self.photos if photo.split == split]

    def table(self, split: Split) -> pd.DataFrame:
        """Rows of one split as they are written: id, uri, file_hash, label; training photos are repeated."""
        rows = [
            (photo.id, photo.uri, photo.file_hash, photo.label)
            for photo in self.of(split)
            for _ in range(self.repetitions.get(photo.id, 1) if split == "train" else 1)
        ]
        return pd.DataFrame(rows, columns=COLUMNS, dtype=str)

    def distribution(self) -> pd.DataFrame:
        """Count photos and rows for each split and label path: split, label, count, rows."""
        photos = Counter((photo.split, path) for photo in self.photos for path in paths_in(photo.label))
        rows = Counter(
            (split, path) for split in SPLITS for label in self.table(split)["label"] for path in paths_in(label)
        )
        keys = sorted(photos, key=lambda key: (SPLITS.index(key[0]), key[1]))
        table = [(split, label, photos[split, label], rows[split, label]) for split, label in keys]
        return pd.DataFrame(table, columns=["split", "label", "count", "rows"])


def build_dataset(rows: Mapping[str, Sequence[Mapping[str, Any]]], rules: Rules) -> Dataset:
    """Settle labels, assign splits, apply limit and oversampling.

    Args:
        rows: of each container, as `query.fetch` gives them.
        rules: what to do with them.

    Raises:
        SparsightError: two containers hold the same id, or no photo is left.
    """
    dropped: Counter[str] = Counter()
    photos: dict[str, Photo] = {}
    for container, found in sorted(rows.items()):
        for row in found:
            photo = _photo(row, container, rules, dropped)
            if photo is None:
                continue
            if photo.id in photos:
                raise SparsightError(
                    f"Photo {photo.id!r} is both in {photos[photo.id].container!r} and in {container!r}; ids of one "
                    "dataset must differ."
                )
            photos[photo.id] = photo
    chosen = _limited(photos, rules)
    if not chosen:
        raise SparsightError(f"No photo is left of {sum(map(len, rows.values())):,} found. Dropped: {_told(dropped)}.")
    training = [photo for photo in chosen if photo.split == "train"]
    classes = rarest([photo.label for photo in training])
    members = {photo.id: label for photo, label in zip(training, classes, strict=True)}
    return Dataset(chosen, repetitions(members, rules.oversampling, rules.seed), dropped)


def _told(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(dropped.items())) or "none"


def _photo(row: Mapping[str, Any], container: str, rules: Rules, dropped: Counter[str]) -> Photo | None:
    uri = row.get("uri_orig")
    if not isinstance(uri, str) or not uri:
        dropped["without an address (uri_orig)"] += 1
        return None
    labels, split, reason = _place(row, rules)
    if reason:
        dropped[reason] += 1
        return None
    notes = len(row.get("annotations") or [])
    return Photo(row["id"], uri, row.get("file_hash") or "", join_paths(labels), split, container, notes)


def _place(row: Mapping[str, Any], rules: Rules) -> tuple[tuple[Path, ...], Split, str]:
    """Find a photo's labels and split, or the reason why it is dropped."""
    annotations = row.get("annotations") or []
    split = assign_split(row["id"], rules.ratios, rules.seed, in_test_set=row.get("sortout_testset") is True)
    if rules.mode != "labelled":
        reason = "labelled and in the test split" if annotations and split == "test" else ""
        return (), "train", reason
    notes = [(str(note.get("annotator_id")), note["taxonomy"]) for note in annotations]
    votes = votes_by_annotator(notes, rules.taxonomy_level, shallow=rules.label_depth == "agreed")
    if votes and len(votes) < rules.min_annotators:
        return (), split, f"with fewer than {rules.min_annotators} annotators"
    labels, reason = settle(votes, rules.label_policy, depth=rules.label_depth, several=rules.several_labels)
    inside = tuple(label for label in labels if _is_included(label, rules.include))
    return inside, split, "settled on a label outside include" if labels and not inside else reason


def _is_included(label: Path, include: Sequence[Path]) -> bool:
    return not include or any(is_under(label, node) or is_under(node, label) for node in include)


def _limited(photos: Mapping[str, Photo], rules: Rules) -> list[Photo]:
    """Apply the limit to all but the test split, which stays whole, and sort by id."""
    limited = first_by_hash([photo.id for photo in photos.values() if photo.split != "test"], rules.limit, rules.seed)
    kept = set(limited) | {photo.id for photo in photos.values() if photo.split == "test"}
    return [photos[photo_id] for photo_id in sorted(kept)]


def thin_classes(dataset: Dataset) -> list[str]:
    """Tell in sentences which splits are empty, and which labels have no photo in a split that has others."""
    labels = sorted({path for photo in dataset.photos for path in paths_in(photo.label)})
    sentences = []
    for split in SPLITS:
        present = {path for photo in dataset.of(split) for path in paths_in(photo.label)}
        missing = [label for label in labels if label not in present]
        if not present:
            sentences.append(f"No photo at all in {split}.")
        elif missing:
            sentences.append(f"No photo of {', '.join(missing[:10])}{', ...' if len(missing) > 10 else ''} in {split}.")
    return sentences


def twins(dataset: Dataset) -> int:
    """Count photos whose very file, by its hash, is in another split too, under another id."""
    splits: dict[str, set[Split]] = {}
    for photo in dataset.photos:
        splits.setdefault(photo.file_hash.lower(), set()).add(photo.split)
    return sum(len(splits[photo.file_hash.lower()]) > 1 for photo in dataset.photos if photo.file_hash)


def write_dataset(
    dataset: Dataset,
    target: FilePath,
    mode: Mode,
    parameters: Mapping[str, Any],
    annotations: pd.DataFrame | None = None,
) -> None:
    """Write the dataset artefact; the same dataset gives the same bytes.

    Args:
        dataset: what to write.
        target: the folder, whole or absent.
        mode: labelled data has three splits, other has `train` only.
        parameters: what made it, JSON-able.
        annotations: of labelled data, what each annotator said, as `annotations_of` lists it.

    Raises:
        SparsightError: `target` is finished already.
    """
    splits = SPLITS if mode == "labelled" else SPLITS[:1]
    distribution = dataset.distribution()
    with new_artefact(target, "dataset", parameters) as draft:
        for split in splits:
            table = dataset.table(split)
            _write_csv(table, draft.folder / f"{split}.csv")
            draft.counts[split] = len(dataset.of(split))
            draft.counts[f"{split}_rows"] = len(table)
        draft.counts["dropped"] = sum(dataset.dropped.values())
        if mode == "labelled":
            learned = (photo for photo in dataset.photos if photo.split != "test")
            draft.counts["annotations"] = sum(photo.annotations for photo in learned)
        if annotations is not None:
            write_annotations(draft.folder, annotations)
        containers = {photo.id: photo.container for photo in dataset.photos}
        write_text(draft.folder / CONTAINERS, json.dumps(containers, indent=0, sort_keys=True) + "\n")
        _write_csv(distribution, draft.folder / "distribution.csv")
        draw_distribution(distribution, len(dataset.photos), draft.folder / "distribution.png")


def _write_csv(table: pd.DataFrame, path: FilePath) -> None:
    table.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def read_dataset(folder: FilePath) -> pd.DataFrame:
    """Read a dataset artefact.

    Returns:
        Columns id, uri, file_hash, label (a label path, empty where there is none) and split, all text; a row for each
        repetition of a training photo.

    Raises:
        SparsightError: the folder isn't a whole dataset artefact, or a table lacks a column.
    """
    read_manifest(folder, "dataset")
    tables = [_read_split(folder / f"{split}.csv", split) for split in SPLITS if (folder / f"{split}.csv").is_file()]
    if not tables:
        raise SparsightError(f"{folder} holds no train.csv, valid.csv or test.csv.")
    return pd.concat(tables, ignore_index=True)


def read_photos(folder: FilePath) -> pd.DataFrame:
    """Read the photos of a dataset artefact, each once, with the Cosmos DB container of its document.

    Returns:
        Columns id, container, uri, file_hash, label and split, all text.

    Raises:
        SparsightError: the folder isn't a whole dataset artefact.
    """
    photos = read_dataset(folder).drop_duplicates("id", ignore_index=True)
    containers = json.loads((folder / CONTAINERS).read_text(encoding="utf-8"))
    photos.insert(1, "container", photos["id"].map(containers))
    return photos


def _read_split(path: FilePath, split: Split) -> pd.DataFrame:
    table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8", lineterminator="\n")
    if list(table.columns) != COLUMNS:
        raise SparsightError(f"{path} has the columns {list(table.columns)}; expected {COLUMNS}.")
    return table.assign(split=split)
