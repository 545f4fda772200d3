"""What opinions change in a photo's document: its annotations, and the fields that follow from them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from sparsight.data.sync.opinions import SOURCE, Opinion

FIELDS = ("labels_with_taxonomy", "total_annotations", "has_imagerecognition_labels", "has_review")


def owns(project: str, entry: object) -> bool:
    """Whether an annotation in a document is this project's: those that others have made are theirs."""
    return _from_label_studio(entry) and entry.get("project") == project


def _from_label_studio(entry: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(entry, dict) and entry.get("source") == SOURCE


def changed_fields(
    document: Mapping[str, Any], said: Sequence[Opinion], standing: Sequence[Opinion], project: str, *, clear: bool
) -> dict[str, Any]:
    """Find what to set in a document so that it holds what its annotators say.

    Each annotator has one annotation in a document. What somebody says in this project takes the place of what they
    said before: in this project, in another one earlier, or in a record without `source`. Annotations by others, and
    theirs from elsewhere, stay as and where they are.

    Args:
        document: with `labels_with_taxonomy` and the fields that follow from it.
        said: of each annotator of the project the last opinion, also where it takes all back.
        standing: of these, those that say something.
        project: the project they are from.
        clear: whether annotations of the project go whose annotator says nothing any more.

    Returns:
        Values by name of the fields that differ; nothing where the document holds all that already, or is none of the
        project's business.
    """
    present = annotations_of(document)
    if not standing and not any(owns(project, entry) for entry in present):
        return {}
    new = _merged(present, said, standing, project, clear=clear)
    fields = {
        "labels_with_taxonomy": present if _same(new, present) else new,
        "total_annotations": len(new),
        "has_imagerecognition_labels": bool(new),
        "has_review": _is_reviewed(document, present, new),
    }
    return {name: value for name, value in fields.items() if _differs(value, document.get(name))}


def annotations_of(document: Mapping[str, Any]) -> list[Any]:
    """The annotations in a document, of whatever shape."""
    present = document.get("labels_with_taxonomy")
    return present if isinstance(present, list) else []


def _merged(
    present: Sequence[Any], said: Sequence[Opinion], standing: Sequence[Opinion], project: str, *, clear: bool
) -> list[Any]:
    entries = {opinion.annotator: opinion.entry(project) for opinion in standing}
    silent = {opinion.annotator for opinion in said} - entries.keys()
    others = []
    for entry in present:
        annotator = str(entry.get("annotator_id")) if isinstance(entry, dict) else ""
        entry_now = entries.get(annotator)
        if owns(project, entry):
            if entry_now is None and not clear and annotator not in silent:
                entries[annotator] = entry
            elif entry_now is not None and _same_but_for_time(entry, entry_now):
                entries[annotator] = entry  # submitted again as it was: nothing to write
        elif entry_now is None or _from_elsewhere(entry):
            others.append(entry)
        elif _from_label_studio(entry) and _order(entry) > _order(entry_now):
            others.append(entry)
            silent.add(annotator)
            del entries[annotator]
    return [*others, *(entries[annotator] for annotator in sorted(entries))]


def _from_elsewhere(entry: Mapping[str, Any]) -> bool:
    """Whether an annotation says that it is neither Label Studio's nor of unknown source."""
    return "source" in entry and entry["source"] != SOURCE


def _order(entry: Mapping[str, Any]) -> tuple[str, str]:
    """What is said later is greater; at the same time the project's title decides, so that syncs don't take turns."""
    return str(entry.get("updated_at")), str(entry.get("project"))


def _same_but_for_time(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return {**one, "updated_at": ""} == {**other, "updated_at": ""}


def _is_reviewed(document: Mapping[str, Any], present: Sequence[Any], new: Sequence[Any]) -> bool:
    """Whether an annotation from Label Studio is reviewed, or others had the document reviewed, as far as it shows.

    A document says only that it is reviewed, not by whom. Where one of Label Studio's annotations explains that,
    nothing is left to show that others had reviewed it, too.
    """
    if any(entry.get("reviewed") is True for entry in new if _from_label_studio(entry)):
        return True
    explained = any(entry.get("reviewed") is True for entry in present if _from_label_studio(entry))
    by_others = not explained and document.get("has_review") is True
    return by_others and any(not _from_label_studio(entry) for entry in new)


def _same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether two lists hold the same annotations, in whatever order."""
    return one == other or sorted(map(_text, one)) == sorted(map(_text, other))


def _differs(one: object, other: object) -> bool:
    """Whether two values differ as JSON, in which true isn't 1."""
    return one != other or isinstance(one, bool) != isinstance(other, bool)


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)
