"""What test_pretraining.py runs: pre-trains in as many processes as were started; each prints one line of JSON.

Usage: python pretraining.py PROCESSES IMAGES '{"method": "moco", "options of the trainer": ..., "task": {...}}' FOLDER

With "batch_norm": false the network has none: then processes with a part of a batch each make of it what one would.
"""

import hashlib
import json
import sys
from pathlib import Path

import torch

from sparsight.data.augment import Augmentation, AugmentationOptions
from sparsight.data.crops import CropOptions, multi_crop
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.models.backbones import create_backbone
from sparsight.models.folder import BackboneDescription
from sparsight.models.moco import MoCo, MoCoOptions
from sparsight.models.swav import SwAV, SwAVOptions
from sparsight.models.two_views import BarlowTwins, BarlowTwinsOptions, SimCLR, SimCLROptions
from sparsight.training.distributed import part_of, start_processes
from sparsight.training.moco import MoCoTrainer
from sparsight.training.pretraining import PretrainingOptions
from sparsight.training.swav import SwAVTrainer
from sparsight.training.two_views import TwoViewTrainer

VIEWS = AugmentationOptions(crop_scale=(0.5, 1), horizontal_flip=0, blur=0.5)
SMALL = CropOptions(small_crops=1, small_crop_size=8, small_crop_scale=(0.2, 0.5))
SWAV = {"prototypes": 20, "hidden_dimension": 64, "queue_size": 96, "queue_start_epoch": 0, "epsilon": 0.01}


def moco(backbone, task):
    return MoCoTrainer, MoCo(backbone, MoCoOptions(**{"queue_size": 256, **task})), [Augmentation(VIEWS)] * 2


def swav(backbone, task):
    return SwAVTrainer, SwAV(backbone, SwAVOptions(**{**SWAV, **task})), multi_crop(VIEWS, SMALL, 16)


def simclr(backbone, task):
    return TwoViewTrainer, SimCLR(backbone, SimCLROptions(**task)), [Augmentation(VIEWS)] * 2


def barlow_twins(backbone, task):
    return TwoViewTrainer, BarlowTwins(backbone, BarlowTwinsOptions(dimension=64, **task)), [Augmentation(VIEWS)] * 2


def without_batch_norm(module):
    for name, child in module.named_children():
        if isinstance(child, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            setattr(module, name, torch.nn.Identity())
        without_batch_norm(child)


planned, chosen = int(sys.argv[1]), json.loads(sys.argv[3])
world = start_processes(planned, 1)
torch.set_num_threads(1)
torch.manual_seed(world.rank)  # weights of rank 0 have to reach all
images = PackedImages(Path(sys.argv[2]))
methods = {"moco": moco, "swav": swav, "simclr": simclr, "barlow_twins": barlow_twins}
method, task = methods[chosen.pop("method", "moco")], chosen.pop("task", {})
backbone = create_backbone(BackboneDescription(name="resnet10_narrow", small_image_stem=False))
trainer_of, network, views = method(backbone, task)
if not chosen.pop("batch_norm", True):
    without_batch_norm(network)
trainer = trainer_of(
    network,
    images,
    images.positions("train"),
    views,
    PretrainingOptions(**{"epochs": 2, "warmup_epochs": 1, **chosen}),
    device=torch.device("cpu"),
    precision=torch.float32,
    world=world,
)
last = world.rank == planned - 1
poison, drift = chosen.get("seed") == 666 and last, chosen.get("seed") == 777 and last
losses, seen, step = [], [], trainer.step


def watched(parts):
    if poison and len(losses) == 3:
        torch.nn.init.constant_(trainer.network.head.layers[0].weight, float("nan"))
    if drift and len(losses) == 3:
        with torch.no_grad():
            trainer.network.head.layers[0].weight.mul_(1.01)
    mine = [part.batch.positions[part_of(world, len(part.batch.positions))].tolist() for part in parts]
    loss, keys = step(parts)
    losses.append(loss.item())
    seen.append([position for each in mine for position in each])
    return loss, keys


def digest(tensors):
    return hashlib.sha256(b"".join(tensor.detach().numpy().tobytes() for tensor in tensors)).hexdigest()


trainer.step = watched
reported, refused = [], ""
folder = Path(sys.argv[4])
folder.mkdir(exist_ok=True)
try:
    trainer.fit(folder, report=lambda record: reported.append(record.loss))
except SparsightError as error:
    refused = error.problem
told = {
    "rank": world.rank,
    "size": world.size,
    "losses": losses,
    "seen": seen,
    "reported": reported,
    "epochs": [record.loss for record in trainer.history],
    "weights": digest([p for p in trainer.network.parameters() if p.requires_grad]),
    "statistics": digest(buffer for name, buffer in trainer.network.named_buffers() if "running" in name),
    "state": digest(trainer.network.state_dict().values()),
    "norm": float(torch.nn.utils.get_total_norm(trainer.network.parameters())),
    "refused": refused,
    "saved": (folder / "checkpoint.pt").exists(),
}
print("told " + json.dumps(told), file=sys.stderr, flush=True)
