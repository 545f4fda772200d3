"""Finding a binary code from embeddings: one call for all kinds."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsight.errors import SparsightError
from sparsight.search.code import BinaryCode, check_bits
from sparsight.search.neighbourhood import learned
from sparsight.search.projections import Sample, itq, pca_sign, random_hyperplanes

CODES: dict[str, Callable[[Sample, int, int], BinaryCode]] = {
    "learned": learned,
    "itq": itq,
    "pca_sign": pca_sign,
    "random_hyperplanes": random_hyperplanes,
}
LARGEST_SAMPLE = 20_000
"""Embeddings that a code is found from, at most; of more, as many at random."""


def find_code(name: str, embeddings: NDArray[np.floating[Any]], bits: int, seed: int = 0) -> BinaryCode:
    """Find a binary code.

    Args:
        name: one of CODES.
        embeddings: floating point N x D, memory-mapped or not.
        bits: a multiple of 8.
        seed: of all that is random; the same inputs give the same code.

    Raises:
        SparsightError: there is no such code or number of bits, there are too few embeddings, or one isn't finite or
            has no direction.
    """
    check_bits(bits)
    if name not in CODES:
        raise SparsightError(f"code is {name!r}; expected one of {', '.join(CODES)}.")
    rows = np.sort(np.random.default_rng(seed).permutation(len(embeddings))[:LARGEST_SAMPLE])
    sample = np.asarray(embeddings[rows], np.float32)
    if len(sample) < 2:
        raise SparsightError(f"A code is found from two embeddings or more; there are {len(sample)}.")
    lengths = np.linalg.norm(sample, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and lengths.all()):
        raise SparsightError("Some embeddings are zero or aren't finite numbers; expected a direction of each.")
    return CODES[name](sample / lengths, bits, seed)
