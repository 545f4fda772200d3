"""A dataset's images, fetched and packed to shards, so that a killed run goes on and ends in the very same bytes."""

import dataclasses
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from sparsight.data.artefact import Draft, begin_artefact, is_finished, leave_artefact, new_artefact, write_text
from sparsight.data.fetching import CORES_PER_PROCESS, Packing, cores, fetchers
from sparsight.data.origin import Origin, table_digest, write_origin
from sparsight.data.packing_plan import WORK, Plan
from sparsight.data.share import Share
from sparsight.data.tally import Tally
from sparsight.errors import SparsightError

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
    share: Share | None = None,
) -> None:
    """Fetch every image of a dataset once and write an images artefact.

    Images keep the dataset's order whatever the order in which they arrive. Finished shards are recorded; called again
    with the same dataset and packing after a kill or an error, it goes on from there and tries failed images again. A
    finished artefact made from the very same is left as it is.

    Several processes fill whole shards of their own. Those that have one folder together make the artefact there. Where
    each has its own, as on the nodes of a cluster, each makes its part of it: the others hold their shards, the leader
    its shards and all the rest. Either way the artefact is, byte for byte, the one that a single process makes.

    Args:
        dataset: columns id, uri, file_hash (sha256, hexadecimal, empty where unknown), label, split. An id may be
            repeated; its image is fetched once, and its rows of the index point at the same pixels.
        target: the artefact's folder.
        packing: what becomes of each image.
        max_failures: share of the images that may fail, 0 to 1.
        concurrency: downloads under way at once.
        processes: processes that download and decode on the cores at hand; by default one for every four cores.
        origin: where the dataset is from, where that is known; kept with the images.
        share: the place of this process among several; by default it is alone.

    Raises:
        SparsightError: too many images failed, or the store can't be read.
    """
    if concurrency < 1 or not 0 <= max_failures <= 1:
        raise SparsightError(
            f"concurrency is {concurrency} and max_failures {max_failures:g};"
            " expected 1 or more, and a share from 0 to 1."
        )
    parameters = {**dataclasses.asdict(packing), "dataset_sha256": table_digest(dataset)}
    share = share or Share()
    if share.leader_says(share.leads and is_finished(target, "images", parameters)):
        return
    with _draft(target, parameters, share) as draft:
        plan = Plan(dataset, draft.folder, packing)
        if not share.leader_says(plan.is_indexed()):
            plan.divide(share)
            _fetch(plan, share, concurrency, processes or -(-cores() // CORES_PER_PROCESS))
            plan.learn(share)
            _check(plan, share, max_failures)
            plan.close_up()
            share.meet()
            if share.leads:
                plan.write_index()
        if share.leads:
            draft.counts.update(plan.counts())
            if origin:
                write_origin(draft.folder, origin)
            shutil.rmtree(plan.work)


@contextmanager
def _draft(target: Path, parameters: Mapping[str, Any], share: Share) -> Iterator[Draft]:
    """Work on one artefact together: the leader goes in first and finishes it, the others tidy up what is their own.

    Nobody needs to know whether the folder is shared. Where it is, the others find it prepared when they come, and
    finished when they leave.
    """
    if share.leads:
        with new_artefact(target, "images", parameters, resume=True) as draft:
            share.meet()
            yield draft
        share.meet()
        return
    share.meet()
    folder = begin_artefact(target, "images", parameters, resume=True)
    yield Draft(folder, parameters)
    share.meet()
    shutil.rmtree(folder / WORK, ignore_errors=True)
    leave_artefact(folder, target)


def _fetch(plan: Plan, share: Share, concurrency: int, processes: int) -> None:
    """Fetch what is left, and commit each shard once all of its images were tried."""
    left = {shard: len(plan.todo(shard)) for shard in plan.own}
    todo = sum(left.values())
    tally = Tally(share, len(plan.images), todo)
    if not tally.left:
        return
    if todo:
        _fetch_own(plan, left, tally, concurrency, min(processes, todo, concurrency))
    tally.finish()


def _fetch_own(plan: Plan, left: dict[int, int], tally: Tally, concurrency: int, processes: int) -> None:
    found: dict[int, dict[int, str]] = {shard: {} for shard in left}
    unreachable = 0
    with (
        fetchers(plan.packing, processes, concurrency) as running,
        closing(running.outcomes(plan.jobs())) as outcomes,
    ):
        for come in outcomes:
            for outcome in come:
                shard, row = divmod(outcome.image, plan.shard_rows)
                if outcome.reason:
                    found[shard][row] = outcome.reason
                unreachable = unreachable + 1 if outcome.transient else 0
                if unreachable == _UNREACHABLE_AFTER:
                    raise SparsightError(
                        f"Blob Storage can't be reached: {unreachable} images in a row failed, {outcome.reason}.",
                        hint="What is packed is kept: resume the run once the store answers.",
                    )
                left[shard] -= 1
                if not left[shard]:
                    plan.commit(shard, found.pop(shard))
                tally.count(failed=bool(outcome.reason))
            tally.meet_when_due()


def _check(plan: Plan, share: Share, max_failures: float) -> None:
    """Write failures.csv, and refuse, in all processes, to go on above `max_failures` or with nothing at all."""
    failures = plan.failures()
    if share.leads:
        write_text(plan.failures_path, failures.to_csv(index=False, lineterminator="\n"))
    share.meet()  # the list is there before the first to refuse ends all others
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
