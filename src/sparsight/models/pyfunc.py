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
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

import sparsight
from sparsight.data.augment import normalise
from sparsight.data.decode import decode_image
from sparsight.data.labels import join_path
from sparsight.data.tree import ROOT
from sparsight.errors import SparsightError
from sparsight.models.classifier import open_backbone, open_classifier
from sparsight.models.folder import DESCRIPTION, WEIGHTS, ModelDescription, Preprocessing, read_weights
from sparsight.models.labelling import Answers, Labeller
from sparsight.stores.registry import MLFLOW_MODEL

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.types import DataType

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
        self.network: torch.nn.Module
        self.description: ModelDescription
        self.network, self.description = _open(folder)
        self.labeller = Labeller(self.description) if self.description.kind == "classifier" else None

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
            and each node has its `p(node)`.

        Raises:
            SparsightError: no column `image`, or an image that can't be decoded, with its row.
        """
        if COLUMN not in model_input:
            raise SparsightError(f"Expected a column {COLUMN!r}, found {', '.join(map(str, model_input.columns))}.")
        images = model_input[COLUMN].tolist()
        outputs = [self._forward(images[start : start + BATCH], start) for start in range(0, len(images), BATCH)]
        none = np.empty((0, max(1, len(self.description.classes))), np.float32)
        return self._table(np.concatenate(outputs) if outputs else none, model_input.index)

    @torch.inference_mode()
    def _forward(self, contents: list[bytes | str], first: int) -> NDArray[np.float32]:
        preprocessing = self.description.preprocessing
        images = np.stack([_decode(content, preprocessing, first + row) for row, content in enumerate(contents)])
        output = self.network(normalise(torch.from_numpy(images), preprocessing.mean, preprocessing.std))
        result: NDArray[np.float32] = output.numpy()
        return result

    def _table(self, values: NDArray[np.float32], index: pd.Index) -> pd.DataFrame:
        if self.labeller is None:
            return pd.DataFrame({"embedding": values.tolist()}, index=index)
        logits = torch.from_numpy(values)
        answers = self.labeller.read(logits)
        answer = {"label": list(map(self.labeller.label, answers.chosen)), "score": answers.scores}
        chances = logits.softmax(dim=1).numpy()
        if self.description.hierarchy is not None:
            answer |= _by_level(self.labeller, answers)
            chances = answers.probabilities
        probabilities = pd.DataFrame(chances, columns=_probability_columns(self.description), index=index)
        return pd.concat([pd.DataFrame(answer, index=index), probabilities], axis=1)


def _by_level(labeller: Labeller, answers: Answers) -> dict[str, Any]:
    """The most probable way down, level by level, and whether the answer rejects the image."""
    columns: dict[str, Any] = {}
    chances = np.take_along_axis(answers.probabilities, answers.lines, axis=1) * (answers.lines != ROOT)
    for level in range(1, labeller.tree.levels + 1):
        columns[f"label_{level}"] = list(map(labeller.label, answers.lines[:, level - 1]))
        columns[f"score_{level}"] = chances[:, level - 1]
    if labeller.hierarchy and labeller.hierarchy.reject:
        columns["rejected"] = list(map(labeller.rejects, answers.chosen))
    return columns


def _load_pyfunc(path: str) -> PyfuncModel:
    """Open a saved model: the entry point that MLflow looks for in a loader module."""
    return PyfuncModel(Path(path))


def save_pyfunc(folder: Path, description: ModelDescription) -> None:
    """Write `mlflow_model` into a model folder that holds weights.safetensors and model.json already.

    It carries weights, description and this package's code, so it opens in any environment with the requirements it
    lists. The same weights give the same files. The input example is a drawn image, never one of the photos that the
    model saw: those may show people, and a registry has other readers than a photo store.

    Args:
        folder: the model folder, also an unfinished one.
        description: the content of its model.json.
    """
    from mlflow.models import Model

    target = folder / MLFLOW_MODEL
    # Whoever was killed in here before has left one, perhaps half-written; MLflow writes over none.
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="sparsight-") as place:
        _mlflow_pyfunc().save_model(
            path=str(target),
            loader_module=__name__,
            code_paths=[str(_copy_code(Path(place)))],
            mlflow_model=Model(model_uuid=_identity(folder).hex, utc_time_created=CREATED),
            signature=signature_of(description),
            input_example=example_input(description.preprocessing.image_size),
            pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS],
        )
    for name in (WEIGHTS, DESCRIPTION):
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


def signature_of(description: ModelDescription) -> "ModelSignature":
    """Tell MLflow what goes in and what comes out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Array

    outputs: list[ColSpec | TensorSpec] = [ColSpec(Array(DataType.double), "embedding")]
    if description.kind == "classifier":
        outputs = [ColSpec(kind, name) for name, kind in _answer_columns(description).items()]
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


def _answer_columns(description: ModelDescription) -> dict[str, "DataType"]:
    from mlflow.types import DataType

    columns = {"label": DataType.string, "score": DataType.double}
    if description.hierarchy:
        for level in range(1, Labeller(description).tree.levels + 1):
            columns |= {f"label_{level}": DataType.string, f"score_{level}": DataType.double}
        if description.hierarchy.reject:
            columns["rejected"] = DataType.boolean
    return columns | dict.fromkeys(_probability_columns(description), DataType.double)


def _probability_columns(description: ModelDescription) -> list[str]:
    names: Sequence[str] = description.classes
    if description.hierarchy:
        names = [join_path(path) for path in Labeller(description).tree.nodes]
    return [f"p({name})" for name in names]


def _open(folder: Path) -> tuple[torch.nn.Module, ModelDescription]:
    """Open the network of an MLflow model folder, which has no manifest: MLflow's MLmodel file stands for it."""
    description = ModelDescription.model_validate_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
    weights = read_weights(folder)
    if description.kind == "classifier":
        return open_classifier(description, weights, folder).eval(), description
    return open_backbone(description, weights, folder).eval(), description


def _decode(content: bytes | str, preprocessing: Preprocessing, row: int) -> NDArray[np.uint8]:
    try:
        encoded = base64.b64decode(content, validate=True) if isinstance(content, str) else content
        return decode_image(encoded, preprocessing.image_size, preprocessing.resize)
    except (SparsightError, ValueError) as error:
        raise SparsightError(f"The image in row {row} can't be read: {error}") from error


def _identity(folder: Path) -> uuid.UUID:
    """Derive the model's identity from what it is, not from when it was written."""
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes() + (folder / DESCRIPTION).read_bytes())
    return uuid.UUID(bytes=digest.digest()[:16], version=4)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; copy it where the file system has no links (a mounted blob container)."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
