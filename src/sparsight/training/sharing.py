"""Work on data that several processes share, connected as those that train are."""

import json
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from sparsight.data.share import Message, Share

if TYPE_CHECKING:
    from sparsight.training.distributed import Processes


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
    from sparsight.training.distributed import start_processes

    world = start_processes(1, instances)
    # The numbers are asked for anew each time: they change when a process is lost.
    world.run(_Stateless(), lambda: work(Share(rank=world.rank, size=world.size, exchange=partial(_exchange, world))))


def _exchange(world: "Processes", message: Message) -> list[Message]:
    """Send JSON, a line from each process: what arrives can't run code."""
    import torch

    line = f"{json.dumps(message)}\n".encode()
    lines = world.gather(torch.frombuffer(bytearray(line), dtype=torch.uint8))
    return [json.loads(each) for each in lines.numpy().tobytes().splitlines()]


class _Stateless:
    """The state of work that finds in its folder what is done."""

    def snapshot(self) -> dict[str, Any]:
        """Give nothing."""
        return {}

    def load(self, snapshot: dict[str, Any]) -> None:
        """Take nothing."""
