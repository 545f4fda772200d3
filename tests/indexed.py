"""Embeddings and datasets of made-up photos, for tests of search."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparsight.data.artefact import new_artefact

MADE_BY = {
    "model": "photos/1",
    "backbone_digest": "0" * 64,
    "backbone": {"name": "resnet10_narrow", "small_image_stem": True},
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "precision": "float32",
    "images": {"size": 16, "resize": "squash"},
}
"""What the manifest of embeddings tells, as far as an index wants to know."""


def groups(count: int, dimensions: int = 32, kinds: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings in groups, and the group of each."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((kinds, dimensions))
    owners = random.integers(0, kinds, count)
    return (centres[owners] + random.standard_normal((count, dimensions))).astype(np.float32), owners


def write_embeddings(
    folder: Path, ids: Sequence[str], values: np.ndarray, labels: Sequence[str] | None = None, **made_by: Any
) -> Path:
    with new_artefact(folder, "embeddings", MADE_BY | made_by) as draft:
        np.save(draft.folder / "embeddings.npy", values)
        index = pd.DataFrame({"id": list(ids), "split": "train", "label": list(labels or [""] * len(ids))})
        index.to_parquet(draft.folder / "index.parquet", index=False)
    return folder


def write_dataset(folder: Path, ids: Sequence[str], container: str = "photos") -> Path:
    with new_artefact(folder, "dataset", {}) as draft:
        uris = [f"{container}/{each}.png" for each in ids]
        table = pd.DataFrame({"id": list(ids), "uri": uris, "file_hash": "", "label": ""})
        table.to_csv(draft.folder / "train.csv", index=False)
        (draft.folder / "containers.json").write_text(json.dumps(dict.fromkeys(ids, container)))
    return folder
