"""From artefacts to what may be chosen: photos by id, what is labelled already, and what a classifier says of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from sparsight.data.embeddings import Embeddings
from sparsight.data.predictions import SCHEMA, load_predictions
from sparsight.errors import SparsightError
from sparsight.models.backbones import network_digest
from sparsight.models.labelling import Labeller
from sparsight.models.predictor import Predictor
from sparsight.selection.points import Floats
from sparsight.selection.selecting import Selection

_UNCERTAINTIES = ("none", "entropy", "margin")
_BATCH = 4096


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Photos that may be chosen, and those that are labelled.

    Attributes:
        ids: N photos that may be chosen.
        embeddings: N x D; the artefact's own memory-mapped array where all of its rows may be chosen.
        labels: N, their labels, empty where they have none.
        known_ids: M photos that are labelled already.
        known_embeddings: M x D.
        known_labels: M.
    """

    ids: NDArray[np.str_]
    embeddings: NDArray[np.float32]
    labels: NDArray[np.str_]
    known_ids: NDArray[np.str_]
    known_embeddings: NDArray[np.float32]
    known_labels: NDArray[np.str_]

    @property
    def have_labels(self) -> bool:
        """Whether any photo that may be chosen has a label, as in an experiment."""
        return bool((self.labels != "").any())

    def table(self, selection: Selection, predicted: Sequence[str]) -> pd.DataFrame:
        """Tell of all photos, those to choose from first, what became of them.

        Args:
            selection: what was chosen of them.
            predicted: N, what a classifier calls them; or empty.

        Returns:
            Columns id; kind: candidate, chosen, outlier or labelled; rank, from 1 for those chosen, else 0; distance,
            of those; label, their own, or else the predicted one, or empty.
        """
        kinds = np.full(len(self.ids), "candidate", object)
        kinds[selection.outliers], kinds[selection.rows] = "outlier", "chosen"
        ranks, distances = np.zeros(len(self.ids), np.int64), np.full(len(self.ids), np.nan)
        ranks[selection.rows], distances[selection.rows] = np.arange(len(selection.rows)) + 1, selection.distances
        labels = self.labels if self.have_labels or not len(predicted) else np.asarray(predicted, str)
        table = pd.DataFrame({"id": self.ids, "kind": kinds, "rank": ranks, "distance": distances, "label": labels})
        known = pd.DataFrame({"id": self.known_ids, "kind": "labelled", "rank": 0, "label": self.known_labels})
        return pd.concat([table, known.assign(distance=np.nan)], ignore_index=True)

    def embeddings_of(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Gather embeddings of some rows of `table`, in the order asked for."""
        found = np.empty((len(numbers), self.embeddings.shape[1]), np.float32)
        here = numbers < len(self.ids)
        found[here] = self.embeddings[numbers[here]]
        found[~here] = self.known_embeddings[numbers[~here] - len(self.ids)]
        return found


def find_candidates(
    embeddings: Embeddings, labelled: Embeddings | None, *, split: str, labels_count: bool
) -> Candidates:
    """Divide embeddings into those that may be chosen and those that are labelled.

    Args:
        embeddings: of what may be chosen, and maybe of labelled photos, too.
        labelled: of more photos that are labelled; they are never chosen.
        split: whose rows may be chosen.
        labels_count: whether rows with a label are labelled already, but for those of the test split, which count for
            nothing; otherwise they may be chosen as if they had none.

    Raises:
        SparsightError: nothing is left to choose from, or the two are of different models.
    """
    index = embeddings.index
    has_label = (index["label"] != "").to_numpy() & labels_count
    eligible = (index["split"] == split).to_numpy() & ~has_label
    known = has_label & (index["split"] != "test").to_numpy()
    parts = [(index["id"].to_numpy(str)[known], embeddings.values[known], index["label"].to_numpy(str)[known])]
    if labelled is not None:
        _check_models(embeddings, labelled)
        eligible &= ~index["id"].isin(labelled.index["id"]).to_numpy()
        fresh = ~labelled.index["id"].isin(parts[0][0]).to_numpy() & (labelled.index["split"] != "test").to_numpy()
        table = labelled.index[fresh]
        parts.append((table["id"].to_numpy(str), labelled.values[fresh], table["label"].to_numpy(str)))
    if not eligible.any():
        raise SparsightError(
            f"{embeddings.folder} holds no photo of the split {split} that may be chosen: {len(index):,} rows, "
            f"{int(has_label.sum()):,} of them labelled.",
            hint="To choose among labelled photos, as in an experiment, set labelled_rows to eligible.",
        )
    known_ids, known_embeddings, known_labels = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Candidates(
        ids=index["id"].to_numpy(str)[eligible],
        embeddings=embeddings.values if eligible.all() else embeddings.values[eligible],
        labels=index["label"].to_numpy(str)[eligible],
        known_ids=known_ids,
        known_embeddings=known_embeddings,
        known_labels=known_labels,
    )


def _check_models(embeddings: Embeddings, labelled: Embeddings) -> None:
    digests = [each.manifest.parameters.get("backbone_digest") for each in (embeddings, labelled)]
    if digests[0] != digests[1]:
        raise SparsightError(
            f"{embeddings.folder} and {labelled.folder} were embedded by different models; distances between them mean "
            "nothing.",
            hint="Embed both with the same model.",
        )


def said_of(ids: NDArray[np.str_], predictions: Path | None) -> pd.DataFrame:
    """Load what was predicted of some photos.

    Returns:
        Columns as in a predictions artefact, in the order of `ids`; no rows without predictions.

    Raises:
        SparsightError: there is a photo without a prediction.
    """
    if predictions is None:
        return pd.DataFrame(columns=SCHEMA.names)
    table = load_predictions(predictions).drop_duplicates("id").set_index("id").reindex(ids.tolist())
    missing = table.index[table["label"].isna()]
    if len(missing):
        raise SparsightError(
            f"{predictions} lacks {len(missing):,} of {len(table):,} photos to choose from; the first is {missing[0]}.",
            hint="Predict the very images that were embedded.",
        )
    return table


def uncertainty_of(said: pd.DataFrame, name: str) -> Floats | None:
    """Take from predictions how unsure they are, from 0 to 1: the entropy, or how small the margin is.

    Raises:
        SparsightError: there are no predictions, or the name is none of none, entropy, margin.
    """
    if name not in _UNCERTAINTIES:
        raise SparsightError(f"uncertainty is {name!r}; expected one of {', '.join(_UNCERTAINTIES)}.")
    if name == "none":
        return None
    if said.empty:
        raise SparsightError(
            f"uncertainty is {name!r}, and there are no predictions to tell it.", hint="Give predictions, too."
        )
    found: Floats = said[name].to_numpy(np.float64)
    return found if name == "entropy" else 1 - found


def probabilities_of(
    classifier: Path | None, embeddings: Embeddings, values: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """Have a classifier's head judge what its own backbone made.

    Args:
        classifier: model folder; None for none.
        embeddings: the artefact that `values` are of.
        values: N x D.

    Returns:
        float32, N x classes; with a hierarchy, N x leaves; None without a classifier.

    Raises:
        SparsightError: the model is no classifier, or another backbone made the embeddings.
    """
    if classifier is None:
        return None
    predictor = Predictor.load(classifier)
    if predictor.head is None:
        raise SparsightError(f"{classifier} holds a {predictor.description.kind}; expected a classifier.")
    if network_digest(predictor.backbone) != embeddings.manifest.parameters.get("backbone_digest"):
        raise SparsightError(
            f"{embeddings.folder} wasn't made by the backbone of the classifier {classifier}.",
            hint="Embed the images with this classifier: give it to embed as its model.",
        )
    labeller = Labeller(predictor.description)
    parts = []
    for first in range(0, len(values), _BATCH):
        batch = np.array(values[first : first + _BATCH])
        with torch.inference_mode():
            logits = predictor.judge(torch.from_numpy(batch)).logits
        assert logits is not None  # noqa: S101 -- a classifier has some
        if labeller.hierarchy is None:
            parts.append(logits.softmax(dim=1).numpy())
        else:
            parts.append(labeller.read(logits).probabilities[:, labeller.tree.leaves])
    found: NDArray[np.float32] = np.concatenate(parts)
    return found
