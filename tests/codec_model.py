"""A codec that wasn't trained, for tests of everything but what it has learned."""

from pathlib import Path

import numpy as np
import torch

from sparsight.data.artefact import new_artefact
from sparsight.models.autoencoder import Autoencoder, AutoencoderDescription
from sparsight.models.autoencoder_folder import AutoencoderModel, write_autoencoder
from sparsight.models.codec.contexts import learn_contexts


def write_codec(folder: Path, seed: int = 0) -> Path:
    """Write a model folder: first weights set by noise, and contexts learned from random bits."""
    torch.manual_seed(seed)
    description = AutoencoderDescription(design="residual", binary=True, channels=32, cell=8, code_bits=32)
    network = Autoencoder(description)
    network.begin_with(torch.rand(8, 3, 2, 2).repeat_interleave(16, 2).repeat_interleave(16, 3))
    bits = np.random.default_rng(seed).integers(0, 2, (4, 32, 8, 8), np.uint8)
    with new_artefact(folder, "model", {"seed": seed}) as draft:
        model = AutoencoderModel(autoencoder=description, image_size=32, resize="fit")
        write_autoencoder(draft.folder, model, network, learn_contexts(bits))
    return folder
