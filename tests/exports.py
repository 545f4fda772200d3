"""Tasks as Label Studio exports them, for tests of the sync: in the shape of the open-source edition."""

import itertools
from typing import Any

Task = dict[str, Any]
NUMBERS = itertools.count(1)
EMAILS = {1: "ann@example.org", 2: "ben@example.org", 3: "cat@example.org"}


def annotation(who: Any, *labels: str, at: int = 0, **fields: Any) -> dict[str, Any]:
    """One annotation; each label, `level 1/level 2`, is a result of its own."""
    time = f"2026-01-01T00:{at // 60:02d}:{at % 60:02d}.000000Z"
    results = [
        {"from_name": "taxonomy", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [label.split("/")]}}
        for label in labels
    ]
    return {
        "id": next(NUMBERS),
        "completed_by": who,
        "result": results,
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": time,
        "updated_at": time,
    } | fields


def task(photo: Any, *annotations: dict[str, Any], container: str | None = "pets", **fields: Any) -> Task:
    """One task."""
    data = {"image": "http://127.0.0.1/signed?sig=x", "id": photo, "container": container}
    return {
        "id": next(NUMBERS),
        "data": {key: value for key, value in data.items() if value is not None},
        "annotations": list(annotations),
        "drafts": [],
        "predictions": [],
        "total_annotations": len(annotations),
        "project": 7,
    } | fields


def entries(document: dict[str, Any]) -> dict[str, list[str]]:
    """What a document says: annotator -> labels."""
    return {
        entry["annotator_id"]: ["/".join(path) for path in entry["taxonomy"]]
        for entry in document.get("labels_with_taxonomy") or ()
    }
