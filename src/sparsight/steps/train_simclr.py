"""The step train_simclr: pre-trains a backbone on unlabelled images with SimCLR, and registers it."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sparsight.steps.arguments import run_step
from sparsight.steps.pretraining import PretrainingArguments, pretrain

if TYPE_CHECKING:
    from sparsight.evaluation.pretraining_report import LossMeaning
    from sparsight.models.backbones import Backbone
    from sparsight.models.two_views import SimCLR
    from sparsight.training.pretraining import Pretrainer


@dataclass(frozen=True, kw_only=True)
class Arguments(PretrainingArguments):
    """Inputs and outputs of the component train_simclr."""

    step: ClassVar[str] = "train_simclr"
    method: ClassVar[str] = "SimCLR"

    model_name: str = "simclr"
    temperature: float = 0.5
    dimension: int = 128

    def trainer(self) -> "type[Pretrainer[Any]]":
        """Train on two views."""
        from sparsight.training.two_views import TwoViewTrainer

        return TwoViewTrainer

    def network(self, backbone: "Backbone") -> "SimCLR":
        """Gather what makes up the contrastive task."""
        from sparsight.models.two_views import SimCLR, SimCLROptions

        return SimCLR(backbone, self.gather(SimCLROptions))

    def loss_meaning(self) -> "LossMeaning":
        """Say what NT-Xent tells."""
        from sparsight.evaluation.pretraining_report import LossMeaning

        others = 2 * self.batch_size * self.processes * self.instances - 1
        return LossMeaning(
            name="NT-Xent loss",
            text=f"The loss tells how well an image's other view is found among the {others:,} other views of the "
            f"batch; blind guessing has {math.log(others):.2f}. Other batches or temperatures make other losses.",
        )


def main(arguments: Arguments) -> None:
    """Train where the model isn't there yet, and register it."""
    pretrain(arguments)


if __name__ == "__main__":
    run_step(Arguments, main)
