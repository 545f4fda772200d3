"""Pre-training with MoCo v2: queries from one view of each image, keys in a shuffled order from the other."""

import torch
from torch import Generator, Tensor

from sparsight.errors import SparsightError
from sparsight.models.moco import Direction, MoCo
from sparsight.training.distributed import part_of
from sparsight.training.pretraining import Batch, Part, Pretrainer


class MoCoTrainer(Pretrainer[MoCo]):
    """Trains a MoCo network on two views of each image.

    Raises:
        SparsightError: a batch larger than the queue, too, or with too few images for batch norm's groups.
    """

    def compare(self, part: Part) -> tuple[Tensor, Tensor]:
        """Tell each query's key among the queue."""
        directions = self._directions(part)
        groups = self.network.options.batch_norm_groups
        groups = max(1, round(len(directions[0].queries) / self.options.batch_size * groups))
        with self.mixed():
            loss, keys = self.model(*directions, world=self.world, groups=groups)
        return loss * self.weight(part.batch), keys

    def check(self) -> None:
        """Refuse a queue or groups of batch norm that don't fit the batch."""
        options, task = self.options, self.network.options
        keys = self.images_per_step * (2 if task.symmetric else 1)
        if keys > task.queue_size:
            raise SparsightError(
                f"A step makes {keys} keys; the queue of {task.queue_size} can't hold them.",
                hint="Raise queue_size, or lower batch_size.",
            )
        groups = 1 if task.batch_norm == "plain" else task.batch_norm_groups
        if options.batch_size < 2 * groups:
            raise SparsightError(
                f"batch_size {options.batch_size} leaves less than 2 images for each of {groups} batch-norm groups.",
                hint="Raise batch_size, or lower batch_norm_groups.",
            )

    def orders(self, count: int, generator: Generator) -> list[Tensor]:
        """Draw the order in which keys are projected, for each direction."""
        return [self.network.order(count, generator) for _ in range(2 if self.network.options.symmetric else 1)]

    def places(self, batch: Batch) -> Tensor:
        """The places that this process needs: of its own queries, and of its share of keys."""
        views = enumerate(self._wanted(batch))
        wanted = [batch.seen_in(view, each) for view, places in views for each in places]
        places: Tensor = torch.unique(torch.cat(wanted))
        return places

    def _wanted(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """The images that this process makes the first view of, and the second: queries, then keys by the orders."""
        mine, own = part_of(self.world, batch.count), self.own(batch)
        orders = [order[mine] for order in batch.orders]
        return [own, *orders[1:]], [orders[0], *([own] if orders[1:] else [])]

    def _directions(self, part: Part) -> list[Direction]:
        """Make the views that this process needs: queries of its own images, keys of those that the order gives it."""
        batch = part.batch
        first, second = (self._views(part, view, wanted) for view, wanted in enumerate(self._wanted(batch)))
        pairs = [(first[0], second[0], batch.orders[0])]
        pairs += [(second[1], first[1], order) for order in batch.orders[1:]]
        start = part_of(self.world, batch.count).start
        return [
            Direction(queries=queries, keys=keys, order=order.to(self.device), start=start)
            for queries, keys, order in pairs
        ]

    def _views(self, part: Part, number: int, wanted: list[Tensor]) -> list[Tensor]:
        """Make one view of some images of a batch, each once, and deal them out in the orders wanted."""
        if len(wanted) == 1:
            return [self.view(part, number, wanted[0])]
        places = torch.unique(torch.cat(wanted))
        views = self.view(part, number, places)
        chosen = [torch.searchsorted(places, each).to(self.device) for each in wanted]
        return [views[each].contiguous(memory_format=torch.channels_last) for each in chosen]
