"""The step train_moco: pre-trains a backbone on unlabelled images with MoCo v2, and registers it."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sparsight.steps.arguments import run_step
from sparsight.steps.pretraining import PretrainingArguments, pretrain

if TYPE_CHECKING:
    from sparsight.evaluation.pretraining_report import LossMeaning
    from sparsight.models.backbones import Backbone
    from sparsight.models.moco import MoCo
    from sparsight.training.pretraining import Pretrainer


@dataclass(frozen=True, kw_only=True)
class Arguments(PretrainingArguments):
    """Inputs and outputs of the component train_moco."""

    step: ClassVar[str] = "train_moco"
    method: ClassVar[str] = "MoCo v2"

    model_name: str = "moco"
    queue_size: int = 2048
    temperature: float = 0.2
    encoder_momentum: float = 0.99
    dimension: int = 128
    batch_norm: str = "shuffle"
    batch_norm_groups: int = 4
    symmetric: bool = False

    def trainer(self) -> "type[Pretrainer[Any]]":
        """Train on queries and keys."""
        from sparsight.training.moco import MoCoTrainer

        return MoCoTrainer

    def network(self, backbone: "Backbone") -> "MoCo":
        """Gather what makes up the contrastive task."""
        from sparsight.models.moco import MoCo, MoCoOptions

        return MoCo(backbone, self.gather(MoCoOptions))

    def loss_meaning(self) -> "LossMeaning":
        """Say what InfoNCE tells."""
        from sparsight.evaluation.pretraining_report import LossMeaning

        return LossMeaning(
            name="InfoNCE loss",
            text=f"The loss tells how well an image's other view is found among {self.queue_size:,} others; blind "
            f"guessing has {math.log(self.queue_size + 1):.2f}. It rises while the queue fills, and need not fall much "
            "afterwards.",
        )


def main(arguments: Arguments) -> None:
    """Train where the model isn't there yet, and register it."""
    pretrain(arguments)


if __name__ == "__main__":
    run_step(Arguments, main)
