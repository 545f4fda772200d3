"""Codes of one linear map: principal components, ITQ, random hyperplanes."""

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from sparsight.errors import SparsightError
from sparsight.search.code import BinaryCode

Sample: TypeAlias = NDArray[np.float32]
_TURNS = 50
"""Steps of ITQ, as in the paper."""


def pca_sign(sample: Sample, bits: int, seed: int) -> BinaryCode:
    """Take the signs of the principal components.

    Args:
        sample: float32 N x D, rows of length 1.
        bits: at most D.
        seed: not used, as nothing here is random.

    Raises:
        SparsightError: there are more bits than dimensions.
    """
    mean, components = principal_components(sample, bits)
    return _code(mean, components)


def itq(sample: Sample, bits: int, seed: int) -> BinaryCode:
    """Turn the principal components so that their signs lose the least.

    Gong and Lazebnik, Iterative Quantization: A Procrustean Approach to Learning Binary Codes (CVPR 2011).

    Args:
        sample: float32 N x D, rows of length 1.
        bits: at most D.
        seed: of the first rotation.

    Raises:
        SparsightError: there are more bits than dimensions.
    """
    mean, components = principal_components(sample, bits)
    projected = np.asarray((sample - mean) @ components, np.float32)
    return _code(mean, np.asarray(components @ best_rotation(projected, seed), np.float32))


def random_hyperplanes(sample: Sample, bits: int, seed: int) -> BinaryCode:
    """Ask on which side of random hyperplanes through the mean an embedding is (LSH).

    Charikar, Similarity Estimation Techniques from Rounding Algorithms (STOC 2002).

    Args:
        sample: float32 N x D, rows of length 1.
        bits: any number.
        seed: of the hyperplanes.
    """
    normals = np.random.default_rng(seed).standard_normal((sample.shape[1], bits), np.float32)
    return _code(sample.mean(axis=0), normals)


def principal_components(sample: Sample, count: int) -> tuple[Sample, Sample]:
    """Find the mean, D, and the `count` directions of most variance, D x count, orthonormal, in descending order.

    Raises:
        SparsightError: there are fewer dimensions than that.
    """
    if count > sample.shape[1]:
        raise SparsightError(
            f"{count} bits are more than the {sample.shape[1]} dimensions of the embeddings, and each takes one.",
            hint="Take fewer bits, or the code random_hyperplanes or learned.",
        )
    mean = sample.mean(axis=0)
    centred = (sample - mean).astype(np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    found = vectors[:, ::-1][:, :count]
    signs = np.sign(found[np.abs(found).argmax(axis=0), np.arange(count)])  # which of the two is up to LAPACK
    return mean, (found * signs).astype(np.float32)


def best_rotation(projected: Sample, seed: int) -> Sample:
    """Find the orthogonal matrix, bits x bits, that brings N x bits numbers nearest to corners of a cube."""
    bits = projected.shape[1]
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((bits, bits)))[0].astype(np.float32)
    for _ in range(_TURNS):
        corners = np.where(projected @ rotation > 0, np.float32(1), np.float32(-1))
        left, _, right = np.linalg.svd(corners.T @ projected)
        rotation = (left @ right).T
    return np.asarray(rotation, np.float32)


def _code(mean: Sample, directions: Sample) -> BinaryCode:
    weight = torch.from_numpy(np.ascontiguousarray(directions.T, np.float32))
    return BinaryCode([(weight, -weight @ torch.from_numpy(np.asarray(mean, np.float32)))])
