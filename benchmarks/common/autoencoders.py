"""Autoencoders for benchmarks, trained once and kept in the cache."""

import hashlib
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common.photo_sets import CACHE, write_images

from sparsight.data.artefact import copy_artefact, is_finished, new_artefact
from sparsight.data.packed import PackedImages
from sparsight.models.autoencoder import Autoencoder, AutoencoderDescription
from sparsight.models.autoencoder_folder import AutoencoderModel, write_autoencoder
from sparsight.training.autoencoder import AutoencoderOptions, AutoencoderTrainer
from sparsight.training.autoencoder_results import contexts_of


def trained(name: str, description: AutoencoderDescription, options: AutoencoderOptions, photos: np.ndarray) -> Path:
    """A model folder, from the cache where it was trained before on the same photos with the same options.

    The photos are uint8, N x S x S, grey, or N x S x S x 3.
    """
    recipe = {"description": description.model_dump(), "options": repr(options)}
    recipe["photos"] = hashlib.sha256(np.ascontiguousarray(photos)).hexdigest()
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
    kept = CACHE / f"codec-{name}-{digest}"
    if is_finished(kept, "model", recipe):
        return kept
    began = time.process_time()
    with tempfile.TemporaryDirectory() as place:
        images = pack(Path(place) / "images", photos if photos.ndim == 4 else np.repeat(photos[..., None], 3, axis=3))
        torch.manual_seed(0)
        trainer = AutoencoderTrainer(
            Autoencoder(description), images, options, device=torch.device("cpu"), precision=torch.float32
        )
        trainer.fit(Path(place), report=lambda record: None)
        contexts = contexts_of(trainer)
        model = AutoencoderModel(autoencoder=description, image_size=photos.shape[1], resize="squash")
        with new_artefact(Path(place) / "model", "model", recipe) as draft:
            write_autoencoder(draft.folder, model, trainer.network, contexts)
        copy_artefact(Path(place) / "model", kept)
    print(f"Trained the {name} design in {(time.process_time() - began) / 60:.1f} minutes of processor time")
    return kept


def pack(folder: Path, photos: np.ndarray) -> PackedImages:
    """Write an images artefact of the photos to train on, a tenth of them for validation."""
    numbers = np.arange(len(photos))
    return write_images(folder, photos, numbers, np.where(numbers % 10 == 0, "valid", "train"), "")
