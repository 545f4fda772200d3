"""Work on data that several processes share, connected as those that train are."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from sparsight.data.share import Share


def share_work(instances: int, work: Callable[[Share], None]) -> None:
    """Do work in the processes that a step was started as, one on each machine.

    Where a process is lost and the launcher replaces it, all begin the work anew: it has to go on from what is done.

    Args:
        instances: machines; with one, neither torch nor Horovod is imported.
        work: does this process's share.

    Raises:
        SparsightError: Horovod isn't installed, or another number of processes was started.
    """
    if instances == 1 and os.environ.get("OMPI_COMM_WORLD_SIZE", "1") == "1":
        work(Share())
        return
    from sparsight.training.distributed import exchange, start_processes

    world = start_processes(1, instances)
    # The numbers are asked for anew each time: they change when a process is lost.
    world.run(_Stateless(), lambda: work(Share(rank=world.rank, size=world.size, exchange=partial(exchange, world))))


class _Stateless:
    """The state of work that finds in its folder what is done."""

    def snapshot(self) -> dict[str, Any]:
        """Give nothing."""
        return {}

    def load(self, snapshot: dict[str, Any]) -> None:
        """Take nothing."""
