"""Our models as MLflow's python_function flavour: image bytes in, labels or embeddings out, nothing pickled."""

import base64
import hashlib
import importlib
import importlib.metadata
import io
import logging
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

import sparsight
from sparsight.data.decode import decode_image
from sparsight.errors import SparsightError
from sparsight.models.familiarity import FAMILIARITY, Familiarity
from sparsight.models.folder import DESCRIPTION, WEIGHTS, ModelDescription, Preprocessing, read_weights
from sparsight.models.labelling import Labeller
from sparsight.models.prediction import Reader, labels_of
from sparsight.models.predictor import Predictor
from sparsight.stores.registry import MLFLOW_MODEL

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

COLUMN = "image"
BATCH = 64
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "pydantic", "safetensors", "timm", "torch", "torchvision")
CODE = ("data", "models", "stores")
"""Packages that travel with a model: what this module imports, and what those do."""
CREATED = "1970-01-01 00:00:00.000000"
"""Stands in for the time of making, so that the same weights give the same folder."""


class PyfuncModel:
    """What `mlflow.pyfunc.load_model` wraps: a model artefact's network and its preprocessing."""

    def __init__(self, folder: Path) -> None:
        self.predictor = _open(folder)
        self.reader: Reader | None = None
        self.columns = ["embedding"]
        if self.predictor.head is not None:
            self.reader = Reader(self.predictor)
            self.columns = [
                *_columns(self.predictor.description, tells_distance=self.predictor.familiarity is not None)
            ]

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict from encoded images.

        Args:
            model_input: column `image`: an image file's bytes (JPEG, PNG, WebP, TIFF), or their base64 text.
            params: MLflow passes them; there are none.

        Returns:
            One row per image. Backbone: `embedding`, a list of floats. Classifier: `label`, `score` (the label's
            probability), and for each class its probability in column `p(class)`. Hierarchical classifier: `label` is
            empty where no node is sure enough; `label_1`, `score_1` and so on say the most probable way down, level by
            level, empty and 0 below its end; `rejected` whether the image is none to classify, where that was declared;
            and each node has its `p(node)`. Of either that knows what it was trained on, `distance` from that, and
            whether the image is `unfamiliar`.

        Raises:
            SparsightError: no column `image`, or an image that can't be decoded, with its row.
        """
        if COLUMN not in model_input:
            raise SparsightError(f"Expected a column {COLUMN!r}, found {', '.join(map(str, model_input.columns))}.")
        images = model_input[COLUMN].tolist()
        parts = [self._table(images[start : start + BATCH], start) for start in range(0, len(images), BATCH)]
        told = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=self.columns)
        return told.set_index(model_input.index)

    @torch.inference_mode()
    def _table(self, contents: list[bytes | str], first: int) -> pd.DataFrame:
        preprocessing = self.predictor.description.preprocessing
        images = np.stack([_decode(content, preprocessing, first + row) for row, content in enumerate(contents)])
        outputs = self.predictor(torch.from_numpy(images))
        if self.reader is None:
            return pd.DataFrame({"embedding": outputs.embedding.numpy().tolist()})
        rows, probabilities = self.reader.read(outputs)
        named = pd.DataFrame(probabilities, columns=[f"p({label})" for label in self.reader.labels])
        told = pd.DataFrame([row | _by_level(row, self.reader.levels) for row in rows])
        return pd.concat([told, named], axis=1)[self.columns]


def _by_level(row: Mapping[str, Any], levels: int) -> dict[str, Any]:
    """The most probable way down as columns `label_1`, `score_1` and so on; empty and 0 below its end."""
    columns: dict[str, Any] = {}
    for level in range(levels):
        node = row["levels"][level] if level < len(row["levels"]) else {"label": "", "probability": 0.0}
        columns |= {f"label_{level + 1}": node["label"], f"score_{level + 1}": node["probability"]}
    return columns


def _load_pyfunc(path: str) -> PyfuncModel:
    """Open a saved model: the entry point that MLflow looks for in a loader module."""
    return PyfuncModel(Path(path))


def save_pyfunc(folder: Path, description: ModelDescription) -> None:
    """Write `mlflow_model` into a model folder that holds weights.safetensors, model.json and the like already.

    It carries weights, description and this package's code, so it opens in any environment with the requirements it
    lists. The same weights give the same files. The input example is a drawn image, never one of the photos that the
    model saw: those may show people, and a registry has other readers than a photo store.

    Args:
        folder: the model folder, also an unfinished one.
        description: the content of its model.json.
    """
    save_mlflow_model(
        folder,
        loader_module=__name__,
        signature=signature_of(description, tells_distance=(folder / FAMILIARITY).is_file()),
        input_example=example_input(description.preprocessing.image_size),
    )


def save_mlflow_model(
    folder: Path, *, loader_module: str, signature: "ModelSignature", input_example: pd.DataFrame
) -> None:
    """Write `mlflow_model` into a model folder, for a module of this package to open.

    Args:
        folder: the model folder, also an unfinished one.
        loader_module: the name of a module with `_load_pyfunc`.
        signature: what goes in and what comes out.
        input_example: something to try it with.
    """
    from mlflow.models import Model

    target = folder / MLFLOW_MODEL
    # Whoever was killed in here before has left one, perhaps half-written; MLflow writes over none.
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="sparsight-") as place:
        _mlflow_pyfunc().save_model(
            path=str(target),
            loader_module=loader_module,
            code_paths=[str(_copy_code(Path(place)))],
            mlflow_model=Model(model_uuid=_identity(folder).hex, utc_time_created=CREATED),
            signature=signature,
            input_example=input_example,
            pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS],
        )
    for name in _present(folder):
        _link(folder / name, target / name)


def _copy_code(place: Path) -> Path:
    """Copy the modules that a model needs to open, and no others: those change without the model changing."""
    source, target = Path(sparsight.__file__).parent, place / "sparsight"
    target.mkdir()
    for file in source.glob("*.py"):
        shutil.copy(file, target)
    for package in CODE:
        shutil.copytree(source / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def signature_of(description: ModelDescription, *, tells_distance: bool) -> "ModelSignature":
    """Tell MLflow what goes in and what comes out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Array

    outputs: list[ColSpec | TensorSpec] = [ColSpec(Array(DataType.double), "embedding")]
    if description.kind == "classifier":
        types = _columns(description, tells_distance=tells_distance)
        outputs = [ColSpec(DataType[kind], name) for name, kind in types.items()]
    return ModelSignature(inputs=Schema([ColSpec(DataType.binary, COLUMN)]), outputs=Schema(outputs))


def example_input(image_size: int) -> pd.DataFrame:
    """Draw one small PNG, coloured by position, as input to try a model with."""
    ramp = np.linspace(0, 255, image_size).astype(np.uint8)
    across, down = np.meshgrid(ramp, ramp)
    file = io.BytesIO()
    Image.fromarray(np.stack([across, down, 255 - across], axis=2)).save(file, format="PNG")
    return pd.DataFrame({COLUMN: [file.getvalue()]})


def _mlflow_pyfunc() -> Any:
    """Import mlflow.pyfunc without what it says, while being imported, about type hints of its own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*AnyType", category=UserWarning)
        logging.getLogger("mlflow.types.type_hints").setLevel(logging.ERROR)
        return importlib.import_module("mlflow.pyfunc")


def _columns(description: ModelDescription, *, tells_distance: bool) -> dict[str, str]:
    """What a classifier answers with: names, and MLflow's names of their types."""
    columns = {"label": "string", "score": "double"}
    if description.hierarchy:
        for level in range(1, Labeller(description).tree.levels + 1):
            columns |= {f"label_{level}": "string", f"score_{level}": "double"}
        if description.hierarchy.reject:
            columns["rejected"] = "boolean"
    columns |= {f"p({label})": "double" for label in labels_of(description)}
    return columns | ({"distance": "double", "unfamiliar": "boolean"} if tells_distance else {})


def _open(folder: Path) -> Predictor:
    """Open the network of an MLflow model folder, which has no manifest: MLflow's MLmodel file stands for it."""
    description = ModelDescription.model_validate_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
    return Predictor(description, read_weights(folder), Familiarity.read(folder), folder)


def _decode(content: bytes | str, preprocessing: Preprocessing, row: int) -> NDArray[np.uint8]:
    try:
        encoded = base64.b64decode(content, validate=True) if isinstance(content, str) else content
        return decode_image(encoded, preprocessing.image_size, preprocessing.resize)
    except (SparsightError, ValueError) as error:
        raise SparsightError(f"The image in row {row} can't be read: {error}") from error


def _identity(folder: Path) -> uuid.UUID:
    """Derive the model's identity from what it is, not from when it was written."""
    digest = hashlib.sha256(b"".join((folder / name).read_bytes() for name in _present(folder)))
    return uuid.UUID(bytes=digest.digest()[:16], version=4)


def _present(folder: Path) -> list[str]:
    """Names of the files that a model is made of; not every one has all."""
    return [name for name in (WEIGHTS, DESCRIPTION, FAMILIARITY) if (folder / name).is_file()]


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; copy it where the file system has no links (a mounted blob container)."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
