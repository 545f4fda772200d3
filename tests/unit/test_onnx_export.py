"""Exported models say what torch says, whatever the batch, and how they are to be used, and nothing of this machine."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sklearn.datasets import load_sample_image

from sparsight.data.artefact import new_artefact
from sparsight.data.tree import Tree
from sparsight.errors import SparsightError
from sparsight.models import onnx_export
from sparsight.models.classifier import new_classifier
from sparsight.models.folder import (
    BackboneDescription,
    HeadDescription,
    HierarchyDescription,
    ModelDescription,
    Preprocessing,
    write_model,
)
from sparsight.models.hierarchy import make_heads
from sparsight.models.onnx_export import export_onnx
from sparsight.models.prediction import Reader
from sparsight.models.predictor import Predictor
from sparsight.training.familiarity import fit

PREPROCESSING = Preprocessing(image_size=24, resize="crop", mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3))
BACKBONE = BackboneDescription(name="resnet10_narrow", small_image_stem=False)
BLOCKS = BackboneDescription(name="conv_blocks", small_image_stem=False)
HEADS = make_heads(Tree([("cat",), ("dog", "poodle"), ("dog", "terrier")]), "per_parent")
HIERARCHY = HierarchyDescription(
    heads="per_parent", temperatures=dict.fromkeys(HEADS.heads, 1.7), decision="confident", threshold=0.5
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write(folder: Path, kind: str, seed: int = 0) -> Path:
    """Write a model with random weights: `backbone`, `flat`, `hierarchical`, or `blocks`, a flat one of these."""
    backbone = BLOCKS if kind == "blocks" else BACKBONE
    classes = tuple(map("/".join, HEADS.outputs)) if kind == "hierarchical" else ("cat", "dog", "dog/poodle", "cow")
    shape = {"head": HeadDescription(hidden=8, dropout=0.5), "classes": classes}
    shape |= {"hierarchy": HIERARCHY if kind == "hierarchical" else None}
    description = ModelDescription(kind="classifier", backbone=backbone, preprocessing=PREPROCESSING, **shape)
    torch.manual_seed(seed)
    network = new_classifier(description).eval()
    with new_artefact(folder, "model", {}) as draft:
        if kind == "backbone":
            bare = ModelDescription(kind="backbone", backbone=BACKBONE, preprocessing=PREPROCESSING)
            write_model(draft.folder, bare, network.backbone.state_dict())
            return folder
        write_model(draft.folder, description, network.state_dict())
        with torch.inference_mode():
            known = network.backbone(torch.rand(40, 3, 24, 24))
        learnt = fit(known, np.array(["a", "b"] * 20, object))
        learnt.calibration = learnt(known).sort().values
        learnt.write(draft.folder)
    return folder


def photos(count: int) -> np.ndarray:
    """Cut pieces out of a real photo."""
    photo = load_sample_image("china.jpg")
    return np.stack([photo[7 * number :][:24, 11 * number :][:, :24] for number in range(count)])


def run(file: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return dict(zip([each.name for each in session.get_outputs()], session.run(None, {"images": images}), strict=True))


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and, beside it, what it was exported to."""
    folder = write(tmp_path_factory.mktemp("flat") / "model", "flat")
    export_onnx(folder, folder.with_suffix(".onnx"), version="photos/3")
    return folder


def agree(folder: Path, file: Path) -> set[str]:
    """Compare an exported file with its model for several batches; returns the names of its outputs."""
    predictor = Predictor.load(folder)
    for count in (1, 3, 16):
        with torch.inference_mode():
            outputs = predictor(torch.from_numpy(photos(count)))
        found = run(file, photos(count))
        np.testing.assert_allclose(found["embedding"], outputs.embedding, atol=1e-4, rtol=1e-4)
        if predictor.head is not None:
            rows, probabilities = Reader(predictor).read(outputs)
            np.testing.assert_allclose(found["probabilities"], probabilities, atol=1e-4)
            np.testing.assert_allclose(found["distance"], [row["distance"] for row in rows], atol=1e-4, rtol=1e-4)
    return set(found)


def test_a_classifier_says_what_predict_tells(flat: Path) -> None:
    assert agree(flat, flat.with_suffix(".onnx")) == {"probabilities", "embedding", "distance"}


def test_a_hierarchical_one_tells_of_every_node(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    folder = write(tmp_path / "model", "hierarchical")
    export_onnx(folder, tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    assert agree(folder, tmp_path / "model.onnx") == {"probabilities", "embedding", "distance"}
    assert run(tmp_path / "model.onnx", photos(1))["probabilities"].shape == (1, 4)


def test_a_network_of_convolution_blocks_is_exported_whole(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", "blocks")
    export_onnx(folder, tmp_path / "model.onnx")
    assert agree(folder, tmp_path / "model.onnx") == {"probabilities", "embedding", "distance"}


def test_a_backbone_gives_embeddings(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", "backbone")
    export_onnx(folder, tmp_path / "new" / "model.onnx")
    assert agree(folder, tmp_path / "new" / "model.onnx") == {"embedding"}


def test_the_file_says_how_to_use_it_and_nothing_of_this_machine(flat: Path, tmp_path: Path) -> None:
    export_onnx(flat, tmp_path / "again.onnx", version="photos/3")
    content = flat.with_suffix(".onnx").read_bytes()
    assert content == (tmp_path / "again.onnx").read_bytes()
    for text in (".py", str(Path.home()), str(flat), "site-packages"):
        assert text.encode() not in content
    told = {each.key: each.value for each in onnx.load_from_string(content).metadata_props}
    assert json.loads(told["labels"]) == ["cat", "dog", "dog/poodle", "cow"]
    assert (told["image_size"], told["resize"], told["model"]) == ("24", "crop", "photos/3")
    assert float(told["unfamiliar_beyond"]) == pytest.approx(Reader(Predictor.load(flat)).limit)
    taken = [(each.name, each.type, each.shape) for each in onnxruntime.InferenceSession(content).get_inputs()]
    assert taken == [("images", "tensor(uint8)", ["batch", 24, 24, 3])]


def test_what_differs_from_torch_does_not_appear(flat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = onnx.load(flat.with_suffix(".onnx"))
    monkeypatch.setattr(onnx_export, "_converted", lambda network, size: exported)
    other = write(tmp_path / "model", "flat", seed=1)
    with pytest.raises(SparsightError, match=r"differs from torch's by .* The file was not written"):
        export_onnx(other, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("mine")
    with pytest.raises(SparsightError, match="exists already"):
        export_onnx(tmp_path / "model", tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_text() == "mine"
    with pytest.raises(SparsightError, match="expected a model folder"):
        export_onnx(tmp_path / "nothing", tmp_path / "other.onnx")
