"""The step train_barlow_twins: pre-trains a backbone on unlabelled images with Barlow Twins, and registers it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sparsight.steps.arguments import run_step
from sparsight.steps.pretraining import PretrainingArguments, pretrain

if TYPE_CHECKING:
    from sparsight.evaluation.pretraining_report import LossMeaning
    from sparsight.models.backbones import Backbone
    from sparsight.models.two_views import BarlowTwins
    from sparsight.training.pretraining import Pretrainer


@dataclass(frozen=True, kw_only=True)
class Arguments(PretrainingArguments):
    """Inputs and outputs of the component train_barlow_twins."""

    step: ClassVar[str] = "train_barlow_twins"
    method: ClassVar[str] = "Barlow Twins"

    model_name: str = "barlow-twins"
    learning_rate: float = 0.003
    redundancy_weight: float = 0.005
    dimension: int = 256

    def trainer(self) -> "type[Pretrainer[Any]]":
        """Train on two views."""
        from sparsight.training.two_views import TwoViewTrainer

        return TwoViewTrainer

    def network(self, backbone: "Backbone") -> "BarlowTwins":
        """Gather what makes up the task."""
        from sparsight.models.two_views import BarlowTwins, BarlowTwinsOptions

        return BarlowTwins(backbone, self.gather(BarlowTwinsOptions))

    def loss_meaning(self) -> "LossMeaning":
        """Say what the loss of Barlow Twins tells."""
        from sparsight.evaluation.pretraining_report import LossMeaning

        return LossMeaning(
            name="Barlow Twins loss",
            text=f"The loss tells how far the correlations between the {self.dimension:,} dimensions of both views are "
            "from 1 for the same and 0 for different ones. Other dimensions or weights make other losses.",
        )


def main(arguments: Arguments) -> None:
    """Train where the model isn't there yet, and register it."""
    pretrain(arguments)


if __name__ == "__main__":
    run_step(Arguments, main)
