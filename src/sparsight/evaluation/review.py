"""Photos that are worth another look: those whose annotators differ and those whose label is suspected, as one list."""

from pathlib import Path

import pandas as pd

from sparsight.evaluation.votes import PHOTO

SELECTED = "selected.csv"
DIFFER, SUSPECTED = "annotators differ", "label suspected"
COLUMNS = ["rank", "id", "container", "uri", "reason"]


def photos_to_review(disagreements: pd.DataFrame, suspects: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Take turns between the worst disagreement and the most suspect label; each photo comes once.

    Args:
        disagreements: the worst first, as `list_disagreements` gives them; those with a review are passed over.
        suspects: the most suspect first; columns container, id, uri.
        limit: most photos.

    Returns:
        Columns rank (from 1), id, container, uri, reason: `annotators differ` or `label suspected`.
    """
    open_ones = disagreements[~disagreements["reviewed"].astype(bool)]
    both = pd.concat([_queued(open_ones, DIFFER, 0), _queued(suspects, SUSPECTED, 1)])
    both = both.sort_values(["turn", "queue"], kind="stable").drop_duplicates(PHOTO)[:limit]
    return both.assign(rank=range(1, len(both) + 1)).reset_index(drop=True)[COLUMNS]


def _queued(photos: pd.DataFrame, reason: str, queue: int) -> pd.DataFrame:
    return photos[[*PHOTO, "uri"]].assign(reason=reason, queue=queue, turn=range(len(photos)))


def write_review(folder: Path, photos: pd.DataFrame) -> None:
    """Write selected.csv, as selections have it, into a folder that is there."""
    photos.to_csv(folder / SELECTED, index=False, lineterminator="\n")
