"""Photos that are worth another look: those whose annotators differ and those whose label is suspected, as one list."""

from collections.abc import Sequence

import pandas as pd

from sparsight.evaluation.votes import PHOTO

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
    columns: Sequence[str] = [*PHOTO, "uri"]
    return photos[columns].assign(reason=reason, queue=queue, turn=range(len(photos)))
