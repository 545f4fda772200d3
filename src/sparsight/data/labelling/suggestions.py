"""A model's labels as the pre-annotations that people see, where the labelling interface offers these labels."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sparsight.data.labelling.chosen import Guesses
from sparsight.data.labelling.interface import Interface
from sparsight.data.labels import Path, join_path
from sparsight.data.taxonomy import Taxonomy


@dataclass(frozen=True, kw_only=True)
class Suggestions:
    """Predictions in Label Studio's format, by the photo's id.

    Args:
        by_photo: each with `model_version`, `score` and `result`.
        not_offered: labels that can't be shown, as the interface doesn't offer them -> how many photos.
    """

    by_photo: Mapping[str, Mapping[str, Any]]
    not_offered: Mapping[str, int]


def suggest(photos: Iterable[str], guesses: Guesses, interface: Interface, taxonomy: Taxonomy | None) -> Suggestions:
    """Make the suggestions for some photos.

    Args:
        photos: their ids.
        guesses: what the model says of these and others.
        interface: how labels are asked for.
        taxonomy: by which retired labels become those of today.
    """
    found: dict[str, Mapping[str, Any]] = {}
    not_offered: Counter[str] = Counter()
    for photo in photos:
        guess = guesses.by_photo.get(photo)
        if guess is None:
            continue
        path: Path = (taxonomy.resolve(guess.path) if taxonomy else None) or guess.path
        if not interface.offers(path):
            not_offered[join_path(guess.path)] += 1
            continue
        result = [interface.result(path, guess.score)]
        found[photo] = {"model_version": guesses.model_version, "score": guess.score, "result": result}
    return Suggestions(by_photo=found, not_offered=not_offered)
