"""Choosing what to label: each strategy by its definition, one interface for all, and random beside every result."""

import sys
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from sparsight.errors import SparsightError
from sparsight.selection import STRATEGIES, Reduction, select
from sparsight.selection.badge import badge
from sparsight.selection.clusters import typiclust
from sparsight.selection.herding import max_herding, prob_cover, pure_radius
from sparsight.selection.need import classes_in_need
from sparsight.selection.neighbours import neighbour_distances
from sparsight.selection.pool import Pool

WITHOUT_CLASSIFIER = [name for name in STRATEGIES if name != "badge"]


def blobs(sizes: list[int], dimension: int = 8, spread: float = 0.15, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Points around as many far centres as there are sizes, and whose each is, in mixed order."""
    random = np.random.default_rng(seed)
    centres = np.eye(dimension)[: len(sizes)] * 3
    owners = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    points = centres[owners] + spread * random.standard_normal((len(owners), dimension))
    return points.astype(np.float32), owners


def apart(points: NDArray, others: NDArray) -> NDArray:
    return np.sqrt(((points[:, None].astype(np.float64) - others[None]) ** 2).sum(axis=2))


@pytest.mark.parametrize("name", WITHOUT_CLASSIFIER)
def test_every_strategy_gives_distinct_rows_and_the_same_ones_each_time(name):
    points, _ = blobs([40, 30, 20, 10])
    found = select(points, 30, strategy=name, seed=3)
    assert len(set(found.rows.tolist())) == len(found.rows) == 30
    assert (found.strategy, found.why) == (name, "")
    again = select(torch.from_numpy(points), 30, strategy=name, seed=3)
    np.testing.assert_array_equal(found.rows, again.rows)
    everything = select(points, len(points), strategy=name)
    assert sorted(everything.rows.tolist()) == list(range(len(points)))


@pytest.mark.parametrize("name", ["typiclust", "max_herding", "prob_cover", "kmeans", "farthest_point"])
def test_few_choices_meet_each_group(name):
    points, owners = blobs([120, 60, 20, 12])
    found = select(points, 4, strategy=name, predicted=owners.astype(str))
    assert set(owners[found.rows]) == {0, 1, 2, 3}


@pytest.mark.parametrize("name", ["typiclust", "max_herding", "prob_cover", "kmeans", "farthest_point"])
def test_groups_that_hold_a_label_are_not_chosen_from_first(name):
    points, owners = blobs([120, 60, 20, 12])
    labelled = points[[np.flatnonzero(owners == 0)[0], np.flatnonzero(owners == 2)[0]]]
    found = select(points, 2, strategy=name, labelled=labelled, predicted=owners.astype(str))
    assert set(owners[found.rows]) == {1, 3}


@pytest.mark.parametrize("name", ["typiclust", "max_herding", "prob_cover", "kmeans"])
def test_what_is_learned_from_few_labels_is_more_than_from_random_ones(name):
    """Six unequal groups with stragglers: the nearest of six labels names others' groups."""
    random = np.random.default_rng(1)
    points, owners = blobs([200, 100, 60, 40, 30, 20], spread=0.5, seed=1)
    points[random.permutation(len(points))[:20]] *= 2

    def accuracy(rows: NDArray) -> float:
        return KNeighborsClassifier(1).fit(points[rows], owners[rows]).score(points, owners)

    by_chance = [accuracy(select(points, 6, strategy="random", seed=seed).rows) for seed in range(10)]
    predicted = owners.astype(str)  # says how many classes there are, no more
    found = [accuracy(select(points, 6, strategy=name, predicted=predicted, seed=seed).rows) for seed in range(3)]
    assert np.mean(found) > np.mean(by_chance) + 0.15


def test_typiclust_takes_the_densest_point_of_the_largest_group_and_leaves_tiny_groups_out():
    points, owners = blobs([100, 50, 3], seed=2)
    rows = typiclust(Pool(values=points, metric="euclidean"), 3, 0)
    assert owners[rows].tolist()[:2] == [0, 1]
    assert 2 not in owners[rows]
    for row, group in zip(rows[:2], (0, 1), strict=True):
        members = np.flatnonzero(owners == group)
        nearest = np.sort(apart(points[members], points[members]), axis=1)[:, 1:21].mean(axis=1)
        assert row == members[nearest.argmin()]


def assert_greedy(rows: NDArray, points: NDArray, kernels, labelled: NDArray, weights: NDArray) -> None:
    """Each choice adds what the best one would, by the definition; kernels around the true one allow for rounding."""
    low, high = (kernel(apart(points, np.concatenate([labelled, points]))) for kernel in kernels)
    known = len(labelled)
    for number, row in enumerate(rows):
        before = [*range(known), *(known + rows[:number])]
        covered = high[:, before].max(axis=1, initial=0)
        best = (weights[:, None] * np.maximum(low[:, known:] - covered[:, None], 0)).sum(axis=0).max()
        covered = low[:, before].max(axis=1, initial=0)
        assert (weights * np.maximum(high[:, known + row] - covered, 0)).sum() >= best * (1 - 1e-4)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 120), labels=st.integers(0, 5), uncertain=st.booleans())
def test_herding_is_greedy_for_the_coverage(seed, count, labels, uncertain):
    random = np.random.default_rng(seed)
    points = random.standard_normal((count + labels, 4)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    labelled, points = points[:labels], points[labels:]
    weights = random.random(count) if uncertain else np.ones(count)
    pool = Pool(values=points, labelled=labelled, uncertainty=weights if uncertain else None)
    budget = min(10, count)
    found = max_herding(pool, budget, 0)
    assert len(set(found.tolist())) == budget
    assert_greedy(
        found,
        points,
        [lambda far: np.exp(-(far**2)) - 1e-6, lambda far: np.exp(-(far**2)) + 1e-6],
        labelled,
        weights,
    )
    radius = pure_radius(points, 10, 0)
    found = prob_cover(pool, budget, 0)
    assert len(set(found.tolist())) == budget
    assert_greedy(
        found,
        points,
        [lambda far: (far < radius * (1 - 1e-5)).astype(float), lambda far: (far < radius * (1 + 1e-5)).astype(float)],
        labelled,
        weights,
    )


def test_the_radius_of_prob_cover_leaves_balls_pure():
    points, owners = blobs([100, 100, 100], spread=0.6, seed=4)
    radius = pure_radius(points, 3, 0)
    far = apart(points, points)
    pure = [(owners[row < radius] == owner).all() for row, owner in zip(far, owners, strict=True)]
    assert np.mean(pure) == pytest.approx(0.95, abs=0.02)


def test_uncertainty_draws_herding_to_where_it_is_and_narrows_the_others_down():
    points, owners = blobs([100, 100, 100], seed=5)
    uncertainty = np.where(owners == 1, 0.9, 0.01)
    for name in WITHOUT_CLASSIFIER:
        found = select(points, 2, strategy=name, uncertainty=uncertainty)
        assert owners[found.rows[0]] == 1, name


def test_badge_goes_by_the_gradients_of_the_last_layer():
    random = np.random.default_rng(6)
    points = random.standard_normal((60, 5)).astype(np.float32)
    probabilities = random.dirichlet(np.ones(3) * 0.3, 60)
    errors = probabilities - np.eye(3)[probabilities.argmax(axis=1)]
    gradients = (errors[:, :, None] * points[:, None]).reshape(60, -1)
    pool = Pool(values=points, metric="euclidean", probabilities=probabilities)
    firsts = Counter(int(badge(pool, 2, seed)[1]) for seed in range(400))
    start = int(np.linalg.norm(gradients, axis=1).argmax())
    assert all(badge(pool, 1, seed).tolist() == [start] for seed in range(3))
    chances = ((gradients - gradients[start]) ** 2).sum(axis=1)
    chances /= chances.sum()
    seen = np.array([firsts[row] / 400 for row in range(60)])
    assert np.abs(seen - chances).sum() < 0.4  # 2 if they had nothing in common
    assert len(set(badge(pool, 60, 0).tolist())) == 60


def test_badge_without_probabilities_says_what_it_needs():
    with pytest.raises(SparsightError, match="badge needs a classifier's probabilities"):
        select(np.eye(5), 2, strategy="badge")


@settings(max_examples=50)
@given(
    labels=st.lists(st.sampled_from("abc"), max_size=12),
    predicted=st.lists(st.sampled_from("abcd"), min_size=1, max_size=20),
)
def test_the_class_in_need_has_fewest_labels(labels, predicted):
    count, left = Counter(labels), Counter(predicted)
    for name in classes_in_need(labels, predicted):
        assert (count[name], name) == min((count[each], each) for each in left if left[each])
        count[name] += 1
        left[name] -= 1
    assert not left.total()


def test_by_need_classes_end_up_as_equal_as_they_can():
    points, owners = blobs([100, 40, 6])
    names = np.array(["many", "some", "few"])[owners]
    labelled, labels = points[:10], ["many"] * 10
    found = select(
        points[10:], 24, strategy="kmeans", labelled=labelled, labels=labels, predicted=names[10:], class_need=True
    )
    few = int((names[10:] == "few").sum())
    rest = 24 - few + 10  # labels of the other two, those there were included
    assert Counter(names[10:][found.rows]) == {"few": few, "many": rest // 2 - 10, "some": (rest + 1) // 2}
    with pytest.raises(SparsightError, match="predicted classes, and there are none"):
        select(points, 3, class_need=True)
    with pytest.raises(SparsightError, match="of 10 labelled embeddings, 0 classes are given"):
        select(points[10:], 3, labelled=labelled, predicted=names[10:], class_need=True)


def test_random_stands_beside_what_was_chosen_and_both_are_measured_by_the_definition():
    points, _ = blobs([60, 40], spread=0.4, seed=7)
    labelled, points = points[:3], points[3:]
    found = select(points, 20, strategy="farthest_point", labelled=labelled, metric="euclidean")
    coverage = found.coverage
    assert coverage.sizes[0] == 1
    assert coverage.sizes[-1] == 20
    assert coverage.measured == len(points)
    for number, size in enumerate(coverage.sizes):
        near = apart(points, np.concatenate([labelled, points[found.rows[:size]]])).min(axis=1)
        assert coverage.radii[number] == pytest.approx(near.max())
        assert coverage.means[number] == pytest.approx(near.mean())
    assert coverage.radii[-1] < coverage.random_radii[-1]
    earlier = np.concatenate([labelled, points[found.rows]])
    for place, distance in enumerate(found.distances):
        assert distance == pytest.approx(apart(earlier[3 + place : 4 + place], earlier[: 3 + place]).min())


def test_the_first_choice_of_all_has_no_distance():
    assert select(np.eye(6), 3, strategy="random").distances[0] == np.inf


def test_outliers_are_left_out():
    points, _ = blobs([100, 100])
    points[[17, 60]] = [[50.0] * 8, [-40.0] * 8]
    found = select(points, 5, strategy="farthest_point", metric="euclidean", outlier_share=0.01)
    assert found.outliers.tolist() == [17, 60]
    assert not {17, 60} & set(found.rows.tolist())
    everywhere = select(points, 5, strategy="farthest_point", metric="euclidean")
    assert {17, 60} <= set(everywhere.rows.tolist())
    with pytest.raises(SparsightError, match="expected 1 to 198, the number of embeddings; 2 more are left out"):
        select(points, 199, outlier_share=0.01)


def test_neighbours_are_the_nearest(monkeypatch):
    points = np.random.default_rng(8).standard_normal((70, 3)).astype(np.float32)
    expected = np.sort(apart(points, points), axis=1)[:, 1:6].mean(axis=1)
    np.testing.assert_allclose(neighbour_distances(points, 5, 0), expected, rtol=1e-4)
    assert neighbour_distances(points[:1], 5, 0).tolist() == [0]
    assert neighbour_distances(points[:2], 5, 0) == pytest.approx(apart(points[:1], points[1:2])[0, 0])
    monkeypatch.setattr("sparsight.selection.neighbours._OTHERS", 69)
    assert (neighbour_distances(points, 5, 0) >= expected - 1e-5).all()


def test_principal_components_keep_what_matters():
    random = np.random.default_rng(9)
    plane = random.standard_normal((80, 2))
    points = (plane @ random.standard_normal((2, 30))).astype(np.float32)
    whole = select(points, 10, strategy="farthest_point", metric="euclidean")
    reduced = select(
        points, 10, strategy="farthest_point", metric="euclidean", reduction=Reduction(method="pca", dimension=2)
    )
    np.testing.assert_array_equal(whole.rows, reduced.rows)
    with pytest.raises(SparsightError, match="pca can't make 31 dimensions of 80 embeddings of 30 numbers; 30 at most"):
        select(points, 3, reduction=Reduction(method="pca", dimension=31))
    with pytest.raises(SparsightError, match="reduction is 'tsne'; expected one of none, pca, umap"):
        Reduction(method="tsne")


def test_umap_keeps_groups_apart_and_gives_the_same_each_time():
    pytest.importorskip("umap")
    points, owners = blobs([40, 40, 40])
    found = [
        select(
            points[2:],
            3,
            strategy="farthest_point",
            labelled=points[:2],
            reduction=Reduction(method="umap", dimension=dimension, neighbours=10, min_dist=0.1),
        )
        for dimension in (8, 8)
    ]
    assert set(owners[2:][found[0].rows]) | set(owners[:2]) == {0, 1, 2}
    np.testing.assert_array_equal(found[0].rows, found[1].rows)
    np.testing.assert_array_equal(found[0].distances, found[1].distances)
    with pytest.raises(SparsightError, match="umap can't make 9 dimensions of 10 embeddings of 8 numbers; 8 at most"):
        select(points[:10], 3, reduction=Reduction(method="umap", dimension=9))


def test_without_umap_learn_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(SparsightError, match="needs the package umap-learn, which isn't installed"):
        select(np.eye(9), 2, reduction=Reduction(method="umap", dimension=2))


def test_the_strategy_follows_from_how_many_labels_there_will_be():
    points, _ = blobs([310, 210], seed=1)
    few, many = select(points, 10), select(points, 10, labelled=points[:500])
    assert few.strategy == "typiclust"
    assert "few labels" in few.why
    assert many.strategy == "max_herding"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"strategy": "kmeens"}, "strategy is 'kmeens'; expected one of auto, farthest_point"),
        ({"budget": 0}, "budget is 0; expected 1 to 6, the number of embeddings"),
        ({"budget": 7}, "budget is 7; expected 1 to 6"),
        ({"uncertainty": np.ones(4)}, "uncertainty has 4 rows; expected 6"),
        ({"probabilities": np.ones((7, 2))}, "probabilities has 7 rows; expected 6"),
        ({"labelled": np.ones((2, 3))}, "Labelled embeddings have 3 numbers each; expected 6 as in the others"),
    ],
)
def test_mistakes_are_named(arguments, problem):
    with pytest.raises(SparsightError, match=problem):
        select(**{"embeddings": np.eye(6), "budget": 2, **arguments})
