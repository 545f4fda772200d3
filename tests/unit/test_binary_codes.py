"""Binary codes: that they keep what is near near, what each kind promises, and that they survive being written."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sparsight.errors import SparsightError
from sparsight.search import CODES, BinaryCode, find_code
from sparsight.search.neighbourhood import contrast, nearest
from sparsight.search.projections import best_rotation, principal_components
from tests.indexed import groups


def digits() -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = load_digits(return_X_y=True)
    return pixels.astype(np.float32), labels


def mean_average_precision(codes: np.ndarray, labels: np.ndarray, queries: int, depth: int) -> float:
    """Of the first rows as queries among the others; precision is averaged over the right ones of the nearest."""
    bits = np.unpackbits(codes, axis=1).astype(np.int64)
    distances = (bits[:queries, None] != bits[None, queries:]).sum(axis=2)
    order = np.argsort(distances, axis=1, kind="stable")[:, :depth]
    right = labels[queries:][order] == labels[:queries, None]
    precision = right.cumsum(axis=1) / np.arange(1, depth + 1)
    return float(((precision * right).sum(axis=1) / right.sum(axis=1).clip(1)).mean())


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("bits", [8, 24])
def test_a_code_has_the_bits_asked_for_and_is_the_same_every_time(name: str, bits: int) -> None:
    values, _ = groups(300)
    code = find_code(name, values, bits, seed=3)
    codes = code.encode(values)
    assert (codes.dtype, codes.shape) == (np.uint8, (300, bits // 8))
    assert find_code(name, values, bits, seed=3).to_bytes() == code.to_bytes()
    if name != "pca_sign":
        assert find_code(name, values, bits, seed=4).to_bytes() != code.to_bytes()


@pytest.mark.parametrize("name", CODES)
def test_a_code_read_again_gives_the_same_bits(name: str) -> None:
    values, _ = groups(200)
    code = find_code(name, values, 16)
    again = BinaryCode.from_bytes(code.to_bytes(), Path("code.safetensors"))
    assert np.array_equal(again.encode(values), code.encode(values))
    assert np.array_equal(code.encode(values * 100), code.encode(values)), "lengths count for nothing"


def test_the_learned_code_finds_digits_far_better_than_random_hyperplanes() -> None:
    """Queries aren't learned from. Chance is 0.1; benchmarks/search.py tells by how much it beats ITQ."""
    pixels, labels = digits()
    scores = {}
    for name in ("learned", "random_hyperplanes"):
        codes = find_code(name, pixels[300:], 16).encode(pixels)
        scores[name] = mean_average_precision(codes, labels, 300, 100)
    assert scores["learned"] > scores["random_hyperplanes"] + 0.15
    assert scores["learned"] > 0.85


def test_itq_turns_principal_components_without_bending_them() -> None:
    values, _ = groups(500)
    mean, components = principal_components(values, 16)
    assert np.allclose(components.T @ components, np.eye(16), atol=1e-5)
    projected = (values - mean) @ components
    assert np.allclose(np.cov(projected.T) - np.diag(np.cov(projected.T).diagonal()), 0, atol=1e-3)
    rotation = best_rotation(projected, 0)
    assert np.allclose(rotation @ rotation.T, np.eye(16), atol=1e-4)

    def loss(turned: np.ndarray) -> float:
        return float(np.square(turned - np.sign(turned)).sum())

    first = np.linalg.qr(np.random.default_rng(0).standard_normal((16, 16)))[0]
    assert loss(projected @ rotation) < loss(projected @ first)


def test_neighbours_are_those_of_the_greatest_cosine() -> None:
    values, _ = groups(700, dimensions=8)
    units = values / np.linalg.norm(values, axis=1, keepdims=True)
    similarity = units @ units.T
    np.fill_diagonal(similarity, -np.inf)
    expected = np.sort(similarity, axis=1)[:, ::-1][:, :5]
    found = nearest(torch.from_numpy(values), 5).numpy()
    assert np.allclose(np.take_along_axis(similarity, found, axis=1), expected, atol=1e-5)


def test_the_contrast_is_least_where_partners_have_the_same_bits_and_others_opposite_ones() -> None:
    apart = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]]).requires_grad_()
    swapped = apart.detach()[[0, 1, 3, 2]]
    assert contrast(apart, 0.3) < contrast(swapped, 0.3)
    contrast(apart, 0.3).backward()
    assert apart.grad is not None and apart.grad.abs().sum() > 0  # noqa: PT018


@pytest.mark.parametrize(
    ("name", "bits", "values", "message"),
    [
        ("best", 16, np.ones((9, 32)), "expected one of learned, itq, pca_sign, random_hyperplanes"),
        ("itq", 12, np.ones((9, 32)), "expected a multiple of 8, from 8 to 2048"),
        ("pca_sign", 64, np.ones((9, 32)), "64 bits are more than the 32 dimensions"),
        ("itq", 16, np.ones((1, 32)), "two embeddings or more; there are 1"),
        ("itq", 16, np.zeros((9, 32)), "Some embeddings are zero"),
        ("itq", 16, np.full((9, 32), np.nan), "Some embeddings are zero or aren't finite"),
    ],
)
def test_what_gives_no_code_is_refused(name: str, bits: int, values: np.ndarray, message: str) -> None:
    with pytest.raises(SparsightError, match=message):
        find_code(name, values, bits)


def test_embeddings_that_a_code_is_not_of_are_refused() -> None:
    code = find_code("itq", groups(50)[0], 16)
    with pytest.raises(SparsightError, match=r"of 32 dimensions; these are \(3, 31\)"):
        code.encode(np.ones((3, 31)))
    with pytest.raises(SparsightError, match="isn't finite"):
        code.encode(np.full((3, 32), np.inf))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", find_code("itq", groups(50)[0], 16).to_bytes()[:-5]])
def test_a_damaged_code_is_refused_by_the_name_of_its_file(content: bytes) -> None:
    with pytest.raises(SparsightError, match=r"code\.safetensors can't be read as a binary code"):
        BinaryCode.from_bytes(content, Path("code.safetensors"))
