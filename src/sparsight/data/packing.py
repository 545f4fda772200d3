"""A dataset's images, fetched and packed to shards, so that a killed run goes on and ends in the very same bytes."""

import dataclasses
import math
import shutil
from collections import Counter
from contextlib import closing
from pathlib import Path

import pandas as pd

from sparsight.data.artefact import is_finished, new_artefact, write_text
from sparsight.data.fetching import CORES_PER_PROCESS, Packing, cores, fetchers
from sparsight.data.origin import Origin, table_digest, write_origin
from sparsight.data.packing_plan import Plan
from sparsight.errors import SparsightError
from sparsight.progress import Progress

_UNREACHABLE_AFTER = 64
"""So many network failures in a row mean that the store is gone, not that images are."""


def pack_images(
    dataset: pd.DataFrame,
    target: Path,
    packing: Packing,
    *,
    max_failures: float = 0.01,
    concurrency: int = 32,
    processes: int | None = None,
    origin: Origin | None = None,
) -> None:
    """Fetch every image of a dataset once and write an images artefact.

    Images keep the dataset's order whatever the order in which they arrive. Finished shards are recorded; called again
    with the same dataset and packing after a kill or an error, it goes on from there and tries failed images again. A
    finished artefact made from the very same is left as it is.

    Args:
        dataset: columns id, uri, file_hash (sha256, hexadecimal, empty where unknown), label, split. An id may be
            repeated; its image is fetched once, and its rows of the index point at the same pixels.
        target: the artefact's folder.
        packing: what becomes of each image.
        max_failures: share of the images that may fail, 0 to 1.
        concurrency: downloads under way at once.
        processes: processes that download and decode on the cores at hand; by default one for every four cores.
        origin: where the dataset is from, where that is known; kept with the images.

    Raises:
        SparsightError: too many images failed, or the store can't be read.
    """
    if concurrency < 1 or not 0 <= max_failures <= 1:
        raise SparsightError(
            f"concurrency is {concurrency} and max_failures {max_failures:g};"
            " expected 1 or more, and a share from 0 to 1."
        )
    parameters = {**dataclasses.asdict(packing), "dataset_sha256": table_digest(dataset)}
    if is_finished(target, "images", parameters):
        return
    with new_artefact(target, "images", parameters, resume=True) as draft:
        plan = Plan(dataset, draft.folder, packing)
        if not plan.index_path.exists():
            if not plan.finishing_path.exists():
                _fetch(plan, concurrency, processes or -(-cores() // CORES_PER_PROCESS))
                _check(plan, max_failures)
                plan.finishing_path.touch()
            plan.close_up()
        draft.counts.update(plan.counts())
        if origin:
            write_origin(draft.folder, origin)
        shutil.rmtree(plan.work)


def _fetch(plan: Plan, concurrency: int, processes: int) -> None:
    """Fetch what is left, and commit each shard once all of its images were tried."""
    left = {shard: len(plan.todo(shard)) for shard in range(plan.shards)}
    todo = sum(left.values())
    if not todo:
        return
    progress = Progress("Packing images", len(plan.images), "images", done=len(plan.images) - todo)
    found: dict[int, dict[int, str]] = {shard: {} for shard in left}
    failures = unreachable = 0
    with (
        fetchers(plan.packing, min(processes, todo, concurrency), concurrency) as running,
        closing(running.outcomes(plan.jobs())) as outcomes,
    ):
        for outcome in outcomes:
            shard, row = divmod(outcome.image, plan.shard_rows)
            if outcome.reason:
                found[shard][row] = outcome.reason
                failures += 1
            unreachable = unreachable + 1 if outcome.transient else 0
            if unreachable == _UNREACHABLE_AFTER:
                raise SparsightError(
                    f"Blob Storage can't be reached: {unreachable} images in a row failed, {outcome.reason}.",
                    hint="What is packed is kept: resume the run once the store answers.",
                )
            left[shard] -= 1
            if not left[shard]:
                plan.commit(shard, found.pop(shard))
            progress.advance(note=f"{failures:,} failed" if failures else "")
    progress.finish(note=f"{failures:,} failed" if failures else "")


def _check(plan: Plan, max_failures: float) -> None:
    """Write failures.csv, and refuse to go on above `max_failures` or with nothing at all."""
    failures = plan.failures()
    write_text(plan.failures_path, failures.to_csv(index=False, lineterminator="\n"))
    count, total = len(failures), len(plan.images)
    allowed = math.floor(max_failures * total + 1e-9)
    if count <= allowed and count < total:
        return
    reasons = ", ".join(f"{number} {reason}" for reason, number in Counter(failures["reason"]).most_common())
    raise SparsightError(
        f"{count} of {total} images failed ({reasons}); max_failures {max_failures:g} allows {allowed}."
        f" The list is {plan.failures_path}.",
        hint="Resume the run to try only these once more, or raise max_failures to do without them.",
    )
