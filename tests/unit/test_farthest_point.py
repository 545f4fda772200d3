"""Farthest point sampling gives the naive algorithm's answer, to the last place, whatever the data and its storage."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparsight.errors import SparsightError
from sparsight.selection import cells, covering, farthest_point, frontier
from sparsight.selection.farthest_point import FarthestPoints
from sparsight.selection.points import Points

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module", params=[0, 64], ids=["bounds", "cells"])
def small_parts(request):
    """Parts so small that a hundred points fill many of them; by either way, whatever the number of dimensions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(farthest_point, "_FEW_DIMENSIONS", request.param)
        patch.setattr(farthest_point, "_FRONT", 3)
        patch.setattr(farthest_point, "_UPDATED", (5, 5))
        patch.setattr(frontier, "_POOL", 3)
        patch.setattr(covering, "_PAIRS", {"cpu": 64, "cuda": 64})
        patch.setattr(covering, "_LANES", 4)
        patch.setattr(covering, "_SPAN", 16)
        patch.setattr(covering, "_NUMBERS", 8)
        patch.setattr(cells, "_CELL", 4)
        patch.setattr(cells, "_SAMPLE", 2)
        patch.setattr(cells, "_GAPS", 256)
        patch.setattr(cells, "_PAIRS", 64)
        yield


def naive(points: NDArray, budget: int, start: int = 0, labelled: NDArray | None = None) -> FarthestPoints:
    """Bring every point up to date after each choice, by the definition."""
    exact = np.array(points, np.float64, order="C")  # NumPy sums in another order where rows lie otherwise
    known = np.empty((0, exact.shape[1])) if labelled is None else labelled.astype(np.float64)
    squared, nearest = np.full(len(exact), np.inf), np.full(len(exact), -1)
    chosen: list[int] = []
    distances = []

    def meet(centre: NDArray, number: int) -> None:
        found = ((exact - centre) ** 2).sum(axis=1)
        nearest[found < squared], squared[:] = number, np.minimum(found, squared)

    for centre in known:
        meet(centre, -1)
    while len(chosen) < budget:
        keys = squared.copy()
        keys[chosen] = -1
        place = start if not chosen and not len(known) else int(keys.argmax())
        distances.append(squared[place])
        meet(exact[place], len(chosen))
        chosen.append(place)
    return FarthestPoints(
        order=np.array(chosen),
        distances=np.sqrt(distances),
        nearest=nearest,
        nearest_distances=np.sqrt(squared),
    )


def assert_same(found: FarthestPoints, expected: FarthestPoints) -> None:
    np.testing.assert_array_equal(found.order, expected.order)
    np.testing.assert_array_equal(found.distances, expected.distances)
    np.testing.assert_array_equal(found.nearest, expected.nearest)
    np.testing.assert_array_equal(found.nearest_distances, expected.nearest_distances)


def drawn(kind: str, count: int, dimension: int, seed: int) -> NDArray[np.float64]:
    """Data of a kind that tempts an algorithm to go wrong."""
    random = np.random.default_rng(seed)
    points = random.standard_normal((count, dimension))
    if kind == "lattice":  # ties everywhere
        return random.integers(-2, 3, (count, dimension)).astype(np.float64)
    if kind == "thirds":  # ties that rounding breaks
        return random.integers(-2, 3, (count, dimension)) / 3
    if kind == "duplicates":
        return points[random.integers(0, min(4, count), count)]
    if kind == "far from zero":
        return points * 0.01 + 1000
    if kind == "two far clusters":
        return points * 1e-3 + 1e4 * random.integers(0, 2, (count, 1))
    if kind == "huge":
        return points * 1e18
    if kind == "tiny":
        return points * 1e-30
    if kind == "outlier":
        points[count // 2] *= 1e6
    return points


KINDS = ["normal", "lattice", "thirds", "duplicates", "far from zero", "two far clusters", "huge", "tiny", "outlier"]


@settings(max_examples=100)
@given(
    kind=st.sampled_from(KINDS),
    count=st.integers(1, 90),
    dimension=st.sampled_from([1, 2, 3, 9, 40]),
    seed=st.integers(0, 2**32 - 1),
    share=st.floats(0, 1),
    labels=st.integers(0, 12),
)
def test_the_answer_is_that_of_the_naive_algorithm(kind, count, dimension, seed, share, labels):
    points = drawn(kind, count + labels, dimension, seed).astype(np.float32)
    budget, start = max(1, round(share * count)), seed % count
    labelled, points = points[:labels], points[labels:]
    found = farthest_point.farthest_point(
        Points(points, device=CPU), budget, labelled=labelled.astype(np.float64), start=start
    )
    assert_same(found, naive(points, budget, start, labelled))
    assert len(set(found.order)) == budget


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_every_storage_gives_the_answer_of_the_numbers_that_it_holds(kind, dtype):
    points = torch.from_numpy(drawn(kind, 80, 6, 5)).to(dtype)
    if not points.isfinite().all():
        pytest.skip("float16 holds no such number")
    found = farthest_point.farthest_point(Points(points, device=CPU), 40)
    assert_same(found, naive(points.double().numpy(), 40))


@pytest.mark.parametrize("kind", ["normal", "lattice", "far from zero"])
def test_cosine_is_the_distance_of_directions(kind):
    points = drawn(kind, 80, 4, 6).astype(np.float32)
    points = points[np.abs(points).sum(axis=1) > 0]
    lengths = np.sqrt((points.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    directions = points / lengths
    found = farthest_point.farthest_point(Points(points, metric="cosine", device=CPU), 30)
    expected = naive(directions, 30)
    np.testing.assert_array_equal(found.order, expected.order)
    np.testing.assert_array_equal(found.nearest, expected.nearest)
    cosines = (directions * directions[found.order[found.nearest]]).sum(axis=1)
    np.testing.assert_allclose(found.nearest_distances, 1 - cosines, atol=1e-12)


def test_a_file_larger_than_memory_is_read_where_it_is_needed(tmp_path: Path):
    points = drawn("normal", 200, 8, 7).astype(np.float32)
    np.save(tmp_path / "points.npy", points)
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    assert_same(farthest_point.farthest_point(Points(mapped, device=CPU), 50), naive(points, 50))
    views = [points[:, ::-1], np.asfortranarray(points), points[::2]]
    for view in views:
        assert_same(farthest_point.farthest_point(Points(view, device=CPU), 50), naive(view, 50))
    np.testing.assert_array_equal(points, mapped)


def test_the_usual_sizes_of_parts_give_the_same(monkeypatch):
    for module, name, value in [
        (farthest_point, "_FRONT", 256),
        (farthest_point, "_UPDATED", (4096, 32768)),
        (frontier, "_POOL", 16),
        (covering, "_PAIRS", {"cpu": 2**20}),
        (covering, "_LANES", 64),
        (cells, "_CELL", 256),
        (cells, "_GAPS", 2**22),
        (cells, "_PAIRS", 2**19),
    ]:
        monkeypatch.setattr(module, name, value)
    points = drawn("normal", 5000, 5, 8).astype(np.float32)
    assert_same(farthest_point.farthest_point(Points(points, device=CPU), 300), naive(points, 300))


def test_radii_are_how_far_the_farthest_point_is_after_each_choice():
    points = drawn("normal", 60, 3, 9)
    found = farthest_point.farthest_point(Points(points, device=CPU), 60)
    for taken in (1, 7, 59, 60):
        apart = np.linalg.norm(points[:, None] - points[found.order[:taken]], axis=2)
        assert found.radii[taken - 1] == pytest.approx(apart.min(axis=1).max())
    assert (np.diff(found.radii) <= 0).all()
    assert found.radii[-1] == 0


@pytest.mark.parametrize("budget", [0, 11])
def test_a_budget_that_cannot_be_is_refused(budget):
    with pytest.raises(SparsightError, match=rf"budget is {budget}; expected 1 to 10"):
        farthest_point.farthest_point(Points(np.ones((10, 2)), device=CPU), budget)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.ones((3, 2), np.int64), r"int64 \(3, 2\); expected floating-point"),
        (np.ones(3), r"float64 \(3,\); expected"),
        (np.ones((0, 3)), r"\(0, 3\); expected"),
        ([[1.0]], "are list; expected"),
        (np.array([[1.0], [np.nan], [np.inf]]), "Row 1 of the embeddings holds a number that isn't finite, and so"),
    ],
)
def test_what_are_no_embeddings_is_refused(values, problem):
    with pytest.raises(SparsightError, match=problem):
        Points(values)


def test_a_row_without_direction_and_an_unknown_metric_are_refused():
    with pytest.raises(SparsightError, match="Row 2 of the embeddings holds zeros only"):
        Points(np.array([[1.0], [2.0], [0.0]]), metric="cosine")
    with pytest.raises(SparsightError, match="metric is 'manhattan'; expected one of euclidean, cosine"):
        Points(np.ones((2, 2)), metric="manhattan")


def test_less_precise_products_are_refused():
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(SparsightError, match="torch multiplies float32 with 'high' precision"):
            Points(np.ones((2, 2)))
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_the_same(kind):
    points = torch.from_numpy(drawn(kind, 90, 9, 10).astype(np.float32))
    expected = naive(points.numpy(), 60)
    assert_same(farthest_point.farthest_point(Points(points.cuda()), 60), expected)
    assert_same(farthest_point.farthest_point(Points(points, device=torch.device("cuda")), 60), expected)
