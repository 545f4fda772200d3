"""What people have said in a labelling project so far, before any of it is in the database."""

from collections.abc import Iterable

import pandas as pd

from sparsight.data.annotations import COLUMNS
from sparsight.data.labels import join_path
from sparsight.data.sync.annotators import Annotators
from sparsight.data.sync.export import Task
from sparsight.data.sync.opinions import Opinion, opinion_of


def answers(tasks: Iterable[Task], annotators: Annotators) -> pd.DataFrame:
    """List the label paths that annotators gave: of each annotator the last word on each photo.

    Args:
        tasks: of the project's export.
        annotators: names them.

    Returns:
        A table as of `annotations.annotations_of`.

    Raises:
        SparsightError: an annotation isn't as Label Studio exports it.
    """
    last: dict[tuple[str, str, str], Opinion] = {}
    for task in tasks:
        photo = str(task.data.get("container", "")), str(task.data.get("id", task.id))
        for opinion in (opinion_of(annotation, annotators) for annotation in task.annotations):
            key = (*photo, opinion.annotator)
            last[key] = max(last.get(key, opinion), opinion)
    rows = [
        (container, photo, "", annotator, join_path(path), opinion.reviewed)
        for (container, photo, annotator), opinion in last.items()
        for path in opinion.paths
    ]
    table = pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(COLUMNS[:-1], str) | {"reviewed": bool})
    return table.sort_values(["container", "id", "annotator", "label"], ignore_index=True)
