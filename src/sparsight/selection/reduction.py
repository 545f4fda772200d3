"""What embeddings are turned into before points are chosen: principal components, or coordinates on a manifold."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsight.errors import SparsightError
from sparsight.selection.pool import Features

METHODS = ("none", "pca", "umap")


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """How embeddings are reduced.

    Attributes:
        method: `none`; `pca`, principal components; `umap`, McInnes, Healy and Melville, UMAP: Uniform Manifold
            Approximation and Projection for Dimension Reduction (2018).
        dimension: numbers that are left of each embedding; 0 for as many as there were.
        neighbours: of UMAP: how many of a point's neighbours it keeps near; more make it look at the whole.
        min_dist: of UMAP: how near to each other points may come to lie, from 0 to 1.

    Raises:
        SparsightError: the method is none of these.
    """

    method: str = "none"
    dimension: int = 0
    neighbours: int = 15
    min_dist: float = 0.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SparsightError(f"The reduction is {self.method!r}; expected one of {', '.join(METHODS)}.")

    def __call__(self, features: Features, metric: str, seed: int) -> Features:
        """Reduce N x D features, all at once, as what comes out depends on all of them.

        Raises:
            SparsightError: there are too few points for this dimension, or umap-learn isn't installed.
        """
        dimension = self.dimension or features.shape[1]
        most = len(features) - (2 if self.method == "umap" else 0)
        if self.method != "umap":
            most = min(most, features.shape[1])
        if dimension > most:
            raise SparsightError(
                f"{self.method} can't make {dimension} dimensions of {len(features):,} embeddings of "
                f"{features.shape[1]} numbers; {most} at most.",
                hint="Set the dimension lower.",
            )
        if self.method == "pca":
            return _principal_components(features, dimension, seed)
        return self._umap(features, dimension, metric, seed)

    def _umap(self, features: Features, dimension: int, metric: str, seed: int) -> Features:
        mapper = _umap_class()(
            n_components=dimension,
            n_neighbors=min(self.neighbours, len(features) - 1),
            min_dist=self.min_dist,
            metric=metric,
            random_state=seed,
            n_jobs=1,  # with more, the same seed would give something else each time
        )
        return np.asarray(mapper.fit_transform(features), np.float32)


def _principal_components(features: Features, dimension: int, seed: int) -> Features:
    from sklearn.decomposition import PCA

    return np.asarray(PCA(dimension, random_state=seed).fit_transform(features), np.float32)


def _umap_class() -> Any:
    try:
        from umap import UMAP
    except ImportError as error:
        raise SparsightError(
            "Reducing embeddings by umap needs the package umap-learn, which isn't installed.",
            hint="Install it (pip install umap-learn), or reduce by pca or not at all.",
        ) from error
    return UMAP
