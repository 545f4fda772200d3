"""What test_classifying.py runs: trains a classifier in as many processes as were started; each prints a line of JSON.

Usage: python classifying.py PROCESSES IMAGES '{"options of the classifier": ...}'
"""

import hashlib
import json
import sys
from pathlib import Path

import torch

from sparsight.data.augment import AugmentationOptions
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.training.classifier import ClassifierOptions, ClassifierTrainer
from sparsight.training.distributed import start_processes
from sparsight.training.labelled import LabelledSplits


class Plain(torch.nn.Sequential):
    """A backbone without batch norm, which would see the images of one process at a time."""

    num_features = 32

    def __init__(self) -> None:
        convolutions = [torch.nn.Conv2d(3, 16, 3, stride=2), torch.nn.Conv2d(16, 32, 3, stride=2)]
        super().__init__(convolutions[0], torch.nn.ReLU(), convolutions[1], torch.nn.AdaptiveAvgPool2d(1))
        self.append(torch.nn.Flatten())


planned, chosen = int(sys.argv[1]), json.loads(sys.argv[3])
world = start_processes(planned, 1)
torch.set_num_threads(1)
torch.manual_seed(world.rank)  # weights of rank 0 have to reach all
heard, finished = [], []
try:
    trainer = ClassifierTrainer(
        Plain(),
        LabelledSplits.of(PackedImages(Path(sys.argv[2]))),
        ClassifierOptions(epochs=4, dropout=0.0, augmentation=AugmentationOptions(blur=0.0), **chosen),
        device=torch.device("cpu"),
        precision=torch.float32,
        world=world,
    )
    trained = trainer.train(heard.append, begin=lambda: f"run of {world.rank}", finish=finished.append)
except SparsightError as error:
    print("told " + json.dumps({"rank": world.rank, "refused": str(error)}), file=sys.stderr, flush=True)
    sys.exit()
weights = [parameter.detach().numpy().tobytes() for parameter in trained.classifier.parameters()]
told = {
    "rank": world.rank,
    "losses": [epoch.train_loss for epoch in trained.epochs],
    "scores": [epoch.valid_loss for epoch in trained.epochs],
    "heard": len(heard),
    "finished": len(finished),
    "run_id": trainer.run_id,
    "weights": hashlib.sha256(b"".join(weights)).hexdigest(),
}
print("told " + json.dumps(told), file=sys.stderr, flush=True)
