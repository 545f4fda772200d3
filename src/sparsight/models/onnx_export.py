"""A model as one ONNX file: pixels in, what predict says of them out, checked against torch before it appears."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import sparsight
from sparsight.data.artefact import write_bytes
from sparsight.errors import SparsightError
from sparsight.models.labelling import Labeller
from sparsight.models.prediction import labels_of
from sparsight.models.predictor import Predictor

if TYPE_CHECKING:
    from onnx import ModelProto

INPUT = "images"
TOLERANCE = 1e-4
"""Largest difference from torch; for distances and embeddings larger than 1, relative to them."""
_CHECKED_BATCHES = (1, 2, 5)


class _Exported(nn.Module):
    """A predictor with outputs for people in place of logits.

    Outputs:
        probabilities: float32, B x labels; of a classifier alone.
        embedding: float32, B x D.
        distance: float32, B; where the model knows what it was trained on.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor
        self.names = ["embedding"]
        if predictor.head is not None:
            self.names.insert(0, "probabilities")
            labeller = Labeller(predictor.description)
            self.heads = labeller.heads if labeller.hierarchy else None
            self.temperatures: Tensor
            self.register_buffer("temperatures", labeller.temperatures)
        if predictor.familiarity is not None:
            self.names.append("distance")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs = self.predictor(images)
        found = {"embedding": outputs.embedding, "distance": outputs.distance}
        if outputs.logits is not None:
            log = self.heads(outputs.logits, self.temperatures) if self.heads else outputs.logits.log_softmax(dim=1)
            found["probabilities"] = log.exp()
        return tuple(found[name] for name in self.names)


def export_onnx(folder: Path, file: Path, *, version: str = "") -> None:
    """Write a model folder's network as an ONNX file, which appears only when onnxruntime gives what torch does.

    Input `images`: uint8, B x H x W x 3, RGB, of the size that the metadata names. Outputs: as `_Exported` gives them.

    Args:
        folder: a model artefact.
        file: to make.
        version: which registered version it is, such as `photos/3`; goes into the file's metadata.

    Raises:
        SparsightError: `file` exists or can't be written, the folder is no model, the network can't be exported, or
            onnxruntime's outputs differ from torch's by more than TOLERANCE.
    """
    if file.exists():
        raise SparsightError(f"{file} exists already.", hint="Give another file, or remove this one.")
    predictor = Predictor.load(folder)
    network = _Exported(predictor).eval()
    content = _converted(network, predictor.description.preprocessing.image_size)
    _describe(content, predictor, version)
    exported = content.SerializeToString(deterministic=True)
    _check(exported, network, predictor.description.preprocessing.image_size)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, exported)
    except OSError as error:
        raise SparsightError(f"{file} can't be written: {error.strerror}.") from error


def _converted(network: _Exported, size: int) -> "ModelProto":
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (example,),
                input_names=[INPUT],
                output_names=network.names,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter has many kinds, with a page of text each
        told = str(error).strip().splitlines()
        raise SparsightError(f"The network can't be exported to ONNX: {told[0] if told else error!r}") from error
    assert program is not None  # noqa: S101 -- it is where dynamo is on
    return program.model_proto


def _describe(model: "ModelProto", predictor: Predictor, version: str) -> None:
    """Say in the file what a user needs to know, and nothing of the machine that made it."""
    from onnx.helper import set_model_props

    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    description = predictor.description
    told = {
        "model": version,
        "labels": json.dumps(labels_of(description), ensure_ascii=False),
        "hierarchy": description.hierarchy.model_dump_json() if description.hierarchy else "",
        "image_size": str(description.preprocessing.image_size),
        "resize": description.preprocessing.resize,
        "unfamiliar_beyond": str(predictor.familiarity.limit()) if predictor.familiarity else "",
        "sparsight": sparsight.__version__,
    }
    set_model_props(model, {name: value for name, value in told.items() if value})


@torch.inference_mode()
def _check(exported: bytes, network: _Exported, size: int) -> None:
    """Compare onnxruntime's outputs with torch's, on noise, for several batch sizes.

    Raises:
        SparsightError: they differ.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    for count in _CHECKED_BATCHES:
        images = generator.integers(0, 256, (count, size, size, 3), np.uint8)
        found = session.run(network.names, {INPUT: images})
        for name, here, there in zip(network.names, network(torch.from_numpy(images)), found, strict=True):
            difference = _difference(here.numpy(), there)
            if not difference <= TOLERANCE:
                raise SparsightError(
                    f"onnxruntime's {name} differs from torch's by {difference:.2g} in a batch of {count}; expected "
                    f"{TOLERANCE:g} at most. The file was not written."
                )


def _difference(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """The largest difference, relative where values are larger than 1; infinite where shapes differ."""
    if expected.shape != found.shape:
        return float("inf")
    return float((np.abs(found - expected) / np.maximum(1, np.abs(expected))).max())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep from people what the exporter tells of its own work."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
