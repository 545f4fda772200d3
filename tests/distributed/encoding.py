"""What test_encoding.py runs: trains an autoencoder in as many processes as were started; each prints a line of JSON.

Usage: python encoding.py PROCESSES IMAGES FOLDER DESIGN CELL
"""

import hashlib
import json
import sys
from pathlib import Path

import torch

from sparsight.data.packed import PackedImages
from sparsight.models.autoencoder import Autoencoder, AutoencoderDescription
from sparsight.training.autoencoder import AutoencoderOptions, AutoencoderTrainer
from sparsight.training.distributed import start_processes

planned = int(sys.argv[1])
world = start_processes(planned, 1)
torch.set_num_threads(1)
torch.manual_seed(world.rank)  # weights of rank 0 have to reach all
design, cell = sys.argv[4], int(sys.argv[5])
network = Autoencoder(AutoencoderDescription(design=design, binary=True, channels=16, cell=cell, code_bits=16))
options = AutoencoderOptions(epochs=2, batch_size=16, learning_rate=2e-3)
trainer = AutoencoderTrainer(
    network,
    PackedImages(Path(sys.argv[2])),
    options,
    device=torch.device("cpu"),
    precision=torch.float32,
    world=world,
)
folder = Path(sys.argv[3])
folder.mkdir(exist_ok=True)
reported: list[list[float]] = []
trainer.fit(folder, report=lambda record: reported.append([record.loss, record.valid_loss]))
weights = b"".join(tensor.numpy().tobytes() for tensor in network.state_dict().values())
told = {
    "rank": world.rank,
    "reported": reported,
    "epochs": [[record.loss, record.valid_loss] for record in trainer.history],
    "weights": hashlib.sha256(weights).hexdigest(),
}
print("told " + json.dumps(told), file=sys.stderr, flush=True)
