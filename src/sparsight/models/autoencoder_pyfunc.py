"""An autoencoder as MLflow's python_function flavour: image bytes in, one code of each image out, nothing pickled."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from sparsight.data.decode import decode_image
from sparsight.errors import SparsightError
from sparsight.models.autoencoder_folder import AutoencoderModel, open_autoencoder, parse_autoencoder_model
from sparsight.models.folder import read_weights
from sparsight.models.pyfunc import COLUMN, example_input, save_mlflow_model


class PyfuncAutoencoder:
    """What `mlflow.pyfunc.load_model` wraps: the encoder, and the head that makes one code of an image."""

    def __init__(self, folder: Path) -> None:
        self.model = parse_autoencoder_model(folder)
        self.network, _ = open_autoencoder(self.model, read_weights(folder), folder)

    @torch.inference_mode()
    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Encode images.

        Args:
            model_input: column `image`: an image file's bytes (JPEG, PNG, WebP, TIFF).
            params: MLflow passes them; there are none.

        Returns:
            One row an image: `code`, its bits as hexadecimal text, the first bit highest.

        Raises:
            SparsightError: no column `image`, or an image that can't be decoded.
        """
        if COLUMN not in model_input:
            raise SparsightError(f"Expected a column {COLUMN!r}, found {', '.join(map(str, model_input.columns))}.")
        codes = [self._code(content) for content in model_input[COLUMN]]
        return pd.DataFrame({"code": codes}, index=model_input.index)

    def _code(self, content: bytes) -> str:
        pixels = decode_image(content, self.model.image_size, self.model.resize)
        images = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0).float() / 255
        values = self.network.whole_code(self.network.encode(images)[1])
        return np.packbits((values[0] > 0).numpy()).tobytes().hex()


def _load_pyfunc(path: str) -> PyfuncAutoencoder:
    """Open a saved model: the entry point that MLflow looks for in a loader module."""
    return PyfuncAutoencoder(Path(path))


def save_autoencoder_pyfunc(folder: Path, model: AutoencoderModel) -> None:
    """Write `mlflow_model` into a model folder that holds weights.safetensors and model.json already."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, COLUMN)]), outputs=Schema([ColSpec(DataType.string, "code")])
    )
    save_mlflow_model(
        folder, loader_module=__name__, signature=signature, input_example=example_input(model.image_size)
    )
