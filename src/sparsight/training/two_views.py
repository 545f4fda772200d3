"""Pre-training with two views of each image and a loss over the whole batch: SimCLR, Barlow Twins."""

from torch import Tensor

from sparsight.models.two_views import TwoViews
from sparsight.training.distributed import part_of
from sparsight.training.pretraining import Part, Pretrainer


class TwoViewTrainer(Pretrainer[TwoViews]):
    """Trains a network that compares two views."""

    def compare(self, part: Part) -> tuple[Tensor, Tensor]:
        """Compare both views of the whole batch."""
        batch, own = part.batch, self.own(part.batch)
        first, second = (self.view(part, number, own) for number in range(2))
        with self.mixed():
            loss, projections = self.model(
                first, second, start=part_of(self.world, batch.count).start, count=batch.count, world=self.world
            )
        return loss, projections
