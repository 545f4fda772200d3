"""Step connect_db: query photos' metadata in Cosmos DB, settle labels, split, and write the dataset."""

import asyncio
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sparsight.data.annotations import annotations_of
from sparsight.data.artefact import is_finished
from sparsight.data.dataset import Dataset, Rules, build_dataset, thin_classes, twins, write_dataset
from sparsight.data.labels import LABEL_DEPTHS, LABEL_POLICIES, LabelDepth, LabelPolicy
from sparsight.data.labels import Path as Label
from sparsight.data.query import MODES, Mode, PhotoQuery, container_names, fetch
from sparsight.data.relabelling import UNKNOWN_LABELS, Relabelling, UnknownLabels
from sparsight.data.splits import OVERSAMPLING, SPLITS, Oversampling, Ratios
from sparsight.data.taxonomy import Taxonomy
from sparsight.errors import SparsightError
from sparsight.steps.arguments import labels_in, run_step
from sparsight.stores.metadata import open_metadata
from sparsight.stores.settings import CosmosSettings

Rows = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inputs and outputs of the component connect_db; components/connect_db/component.yml says what they mean."""

    containers: str = "photos"
    database: str | None = None
    mode: str = "labelled"
    include: str = "[]"
    exclude: str = "[]"
    taxonomy_level: int = 0
    min_annotators: int = 1
    require_review: bool = False
    exclude_blurred: bool = False
    label_policy: str = "majority"
    label_depth: str = "whole"
    several_labels: bool = False
    taxonomy: Path | None = None
    unknown_labels: str = "refuse"
    where: str | None = None
    where_parameters: str = "{}"
    limit: int | None = None
    seed: int = 0
    train_ratio: float = 0.7
    valid_ratio: float = 0.15
    test_ratio: float = 0.15
    oversampling: str = "off"
    after: Path | None = None
    dataset: Path


def main(arguments: Arguments) -> None:
    """Make the dataset; everything that can be wrong with the inputs is found before the first request."""
    query, relabelling = _query(arguments), _relabelling(arguments)
    rules = _rules(arguments, query.include if relabelling is None else relabelling.include)
    settings = CosmosSettings.from_environment()
    if arguments.database:
        settings = dataclasses.replace(settings, database=arguments.database)
    parameters = {**dataclasses.asdict(arguments), "database": settings.database}
    del parameters["dataset"], parameters["after"]
    if arguments.taxonomy is not None:
        parameters["taxonomy"] = hashlib.sha256(arguments.taxonomy.read_bytes()).hexdigest()
    if is_finished(arguments.dataset, "dataset", parameters):
        return
    rows = _rows(settings, query, relabelling)
    dataset = build_dataset(rows, rules)
    annotations = annotations_of(rows) if rules.mode == "labelled" else None
    write_dataset(dataset, arguments.dataset, rules.mode, parameters, annotations)
    _tell(dataset, rules)


def _rows(settings: CosmosSettings, query: PhotoQuery, relabelling: Relabelling | None) -> Rows:
    if relabelling is None:
        return asyncio.run(_fetch(settings, query))
    # Labels are asked for by today's names, and the database holds those of then.
    found = asyncio.run(_fetch(settings, dataclasses.replace(query, include=(), exclude=())))
    rows, review = relabelling.apply(found)
    print("".join(f"{sentence}\n" for sentence in review.sentences()), end="")
    return rows


async def _fetch(settings: CosmosSettings, query: PhotoQuery) -> Rows:
    async with open_metadata(settings) as store:
        return await fetch(store, query)


def _query(arguments: Arguments) -> PhotoQuery:
    return PhotoQuery(
        containers=container_names(arguments.containers),
        mode=cast(Mode, _choice("mode", arguments.mode, MODES)),
        include=labels_in("include", arguments.include),
        exclude=labels_in("exclude", arguments.exclude),
        min_annotators=_at_least("min_annotators", arguments.min_annotators, 1),
        require_review=arguments.require_review,
        exclude_blurred=arguments.exclude_blurred,
        where=arguments.where or "",
        where_parameters=_parameters(arguments.where_parameters),
    )


def _rules(arguments: Arguments, include: tuple[Label, ...]) -> Rules:
    return Rules(
        mode=cast(Mode, arguments.mode),
        include=include,
        taxonomy_level=_at_least("taxonomy_level", arguments.taxonomy_level, 0),
        label_policy=cast(LabelPolicy, _choice("label_policy", arguments.label_policy, LABEL_POLICIES)),
        label_depth=cast(LabelDepth, _choice("label_depth", arguments.label_depth, LABEL_DEPTHS)),
        several_labels=arguments.several_labels,
        min_annotators=arguments.min_annotators,
        ratios=Ratios(train=arguments.train_ratio, valid=arguments.valid_ratio, test=arguments.test_ratio),
        seed=arguments.seed,
        limit=None if arguments.limit is None else _at_least("limit", arguments.limit, 1),
        oversampling=cast(Oversampling, _choice("oversampling", arguments.oversampling, OVERSAMPLING)),
    )


def _relabelling(arguments: Arguments) -> Relabelling | None:
    unknown_labels = cast(UnknownLabels, _choice("unknown_labels", arguments.unknown_labels, UNKNOWN_LABELS))
    if arguments.taxonomy is None:
        return None
    return Relabelling(
        Taxonomy.read(arguments.taxonomy),
        unknown_labels,
        include=labels_in("include", arguments.include),
        exclude=labels_in("exclude", arguments.exclude),
    )


def _choice(name: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise SparsightError(f"{name} is {value!r}; expected one of {', '.join(choices)}.")
    return value


def _at_least(name: str, value: int, least: int) -> int:
    if value < least:
        raise SparsightError(f"{name} is {value}; expected {least} or more.")
    return value


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise SparsightError(f"{name} is not JSON: {text!r}: {error}.") from error


def _parameters(text: str) -> dict[str, Any]:
    values = _json("where_parameters", text)
    if not isinstance(values, dict) or not all(name.startswith("@") for name in values):
        raise SparsightError(
            f'where_parameters is {text!r}; expected a JSON object of values by name, such as {{"@width": 300}}.'
        )
    return values


def _tell(dataset: Dataset, rules: Rules) -> None:
    splits = SPLITS if rules.mode == "labelled" else SPLITS[:1]
    print(", ".join(f"{split} {len(dataset.of(split)):,} photos" for split in splits))
    if rules.oversampling != "off":
        print(f"train is repeated to {len(dataset.table('train')):,} rows")
    for reason, count in sorted(dataset.dropped.items()):
        print(f"dropped {count:,} photos: {reason}")
    if rules.mode == "labelled":
        for sentence in thin_classes(dataset):
            print(f"warning: {sentence}")
        if count := twins(dataset):
            print(f"warning: {count:,} photos are, as files, in several splits under several ids: scores will flatter.")


if __name__ == "__main__":
    run_step(Arguments, main)
