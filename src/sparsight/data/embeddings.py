"""Embeddings of an image set: one row for each distinct image, memory-mapped, beside an index that says whose it is."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sparsight.data.artefact import Manifest, read_manifest
from sparsight.data.packed import FRAME_COLUMNS
from sparsight.errors import SparsightError

EMBEDDINGS = "embeddings.npy"
INDEX = "index.parquet"
COLUMNS = ("id", "split", "label")


class Embeddings:
    """An embeddings artefact, opened for reading.

    Args:
        folder: an embeddings artefact, as embed writes it.

    Attributes:
        values: float32, N x D, memory-mapped: what isn't asked for isn't read.
        index: N rows: id, split (train/valid/test), label (a label path, empty where there is none); of frames of
            videos also video and time (seconds from the video's start).
        manifest: counts, and the parameters that made it: the model, and the images.

    Raises:
        SparsightError: the folder isn't a whole embeddings artefact, or its files disagree.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder, "embeddings")
        self.index: pd.DataFrame = pd.read_parquet(folder / INDEX)
        self.values: NDArray[np.float32] = np.load(folder / EMBEDDINGS, mmap_mode="r", allow_pickle=False)
        if self.values.dtype != np.float32 or self.values.ndim != 2 or len(self.values) != len(self.index):
            raise SparsightError(
                f"{folder / EMBEDDINGS} is {self.values.dtype} {self.values.shape}; "
                f"expected float32, {len(self.index)} rows as in {INDEX}."
            )

    def __len__(self) -> int:
        return len(self.index)

    @property
    def frames(self) -> pd.DataFrame | None:
        """Of which video each row is, and when: columns video and time by id; None for photos."""
        if not set(FRAME_COLUMNS) <= set(self.index.columns):
            return None
        return self.index.set_index("id")[list(FRAME_COLUMNS)]


def require_origin(embeddings: Embeddings, digest: str, dataset: Path) -> None:
    """Refuse embeddings that weren't made from the images of a dataset.

    Args:
        embeddings: the artefact.
        digest: of the dataset's rows, as `origin.table_digest` gives it.
        dataset: its folder, for the message.

    Raises:
        SparsightError: they are of another dataset, or of other labels.
    """
    images = embeddings.manifest.parameters.get("images", {})
    if images.get("dataset_sha256") != digest:
        raise SparsightError(
            f"{embeddings.folder} holds embeddings of other photos or labels than {dataset}.",
            hint="Run data_prep and embed on this dataset, and give what they make.",
        )
