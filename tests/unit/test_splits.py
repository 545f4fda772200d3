"""Splits, limits and oversampling that other photos can't move."""

import hashlib
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsight.data.splits import Ratios, assign_split, first_by_hash, repetitions, unit_hash
from sparsight.errors import SparsightError

IDS = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=60)
SEEDS = st.integers(-(2**40), 2**40)
SHARES = st.tuples(st.integers(0, 10), st.integers(0, 10), st.integers(0, 10)).filter(any)


def ratios(shares: tuple[int, int, int]) -> Ratios:
    whole = sum(shares)
    return Ratios(train=shares[0] / whole, valid=shares[1] / whole, test=shares[2] / whole)


def test_the_hash_never_changes() -> None:
    """Written down: another value would move every photo of every dataset made so far."""
    assert unit_hash("split", 0, "photo-1") == 0.14456458580218357
    assert assign_split("photo-1", Ratios(train=0.7, valid=0.15, test=0.15), 0) == "train"


@given(st.text(max_size=20), SEEDS)
def test_the_hash_is_blake2b_in_the_unit_range(photo_id: str, seed: int) -> None:
    naive = int(hashlib.blake2b(b"split\0%d\0%s" % (seed, photo_id.encode()), digest_size=8).hexdigest(), 16) / 2**64
    assert 0 <= unit_hash("split", seed, photo_id) < 1
    assert unit_hash("split", seed, photo_id) == pytest.approx(naive, abs=2**-52)


@given(st.text(min_size=1, max_size=9), SHARES, SEEDS)
def test_a_split_is_where_the_hash_falls(photo_id: str, shares: tuple[int, int, int], seed: int) -> None:
    drawn, whole = unit_hash("split", seed, photo_id), sum(shares)
    naive = next(
        (
            name
            for name, end in zip(("train", "valid"), (shares[0], sum(shares[:2])), strict=True)
            if drawn < end / whole
        ),
        "test",
    )
    found = assign_split(photo_id, ratios(shares), seed)
    assert found == naive
    assert shares[("train", "valid", "test").index(found)] > 0


@given(st.text(min_size=1), SHARES, SEEDS)
def test_the_test_set_is_always_in_test(photo_id: str, shares: tuple[int, int, int], seed: int) -> None:
    assert assign_split(photo_id, ratios(shares), seed, in_test_set=True) == "test"


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_each_class_is_split_in_the_ratios_expected(seed: int) -> None:
    wanted = Ratios(train=0.7, valid=0.2, test=0.1)
    for label in ("dog", "cat"):
        counts = Counter(assign_split(f"{label}-{number}", wanted, seed) for number in range(3000))
        for split, share in (("train", 0.7), ("valid", 0.2), ("test", 0.1)):
            assert abs(counts[split] - 3000 * share) < 5 * math.sqrt(3000 * share * (1 - share))


def test_seeds_split_independently() -> None:
    half = Ratios(train=0.5, valid=0.5, test=0)
    same = sum(assign_split(str(number), half, 0) == assign_split(str(number), half, 1) for number in range(2000))
    assert 880 < same < 1120


@pytest.mark.parametrize(
    "shares", [(0.5, 0.2, 0.2), (1.2, -0.2, 0), (math.nan, 0.5, 0.5), (math.inf, 0, 0), (0.0, 0.0, 0.0)]
)
def test_ratios_that_are_none(shares: tuple[float, float, float]) -> None:
    with pytest.raises(SparsightError, match="Split ratios"):
        Ratios(train=shares[0], valid=shares[1], test=shares[2])


@given(IDS, st.integers(0, 30), st.integers(0, 30), SEEDS)
def test_a_larger_limit_keeps_what_a_smaller_one_chose(ids: list[str], one: int, more: int, seed: int) -> None:
    chosen, larger = first_by_hash(ids, one, seed), first_by_hash(ids, one + more, seed)
    assert larger[: len(chosen)] == chosen
    assert len(chosen) == min(one, len(ids))
    assert set(first_by_hash(ids, None, seed)) == set(ids)


@given(IDS, IDS, st.integers(1, 30), SEEDS)
def test_photos_added_never_reorder_old_ones(old: list[str], new: list[str], limit: int, seed: int) -> None:
    before = first_by_hash(old, None, seed)
    after = first_by_hash(sorted({*old, *new}), None, seed)
    assert [photo_id for photo_id in after if photo_id in set(old)] == before


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.sampled_from("abc"), max_size=50), SEEDS)
def test_balanced_classes_are_as_large_as_the_largest(labels: dict[str, str], seed: int) -> None:
    times = repetitions(labels, "balanced", seed)
    assert times.keys() == labels.keys()
    largest = max(Counter(labels.values()).values(), default=0)
    for label in set(labels.values()):
        members = [times[photo_id] for photo_id in labels if labels[photo_id] == label]
        assert sum(members) == largest
        assert max(members) - min(members) <= 1
        assert min(members) >= 1
    assert times == repetitions(dict(reversed(labels.items())), "balanced", seed)


def test_no_oversampling_repeats_nothing() -> None:
    assert repetitions({"x": "a", "y": "a", "z": "b"}, "off", 0) == {"x": 1, "y": 1, "z": 1}
