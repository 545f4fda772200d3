"""Splits, limits and oversampling that depend on a photo's id and the seed alone, never on the other photos."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sparsight.errors import SparsightError

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Oversampling = Literal["off", "balanced"]
OVERSAMPLING: tuple[str, ...] = get_args(Oversampling)


def unit_hash(purpose: str, seed: int, photo_id: str) -> float:
    """Draw a number in [0, 1) that an id, a seed and a purpose fix for ever, uniform over ids.

    Two purposes give independent numbers: which split a photo is in says nothing about its place under a limit.
    """
    digest = hashlib.blake2b(f"{purpose}\0{seed}\0{photo_id}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """Shares of the splits; they add up to 1.

    Raises:
        SparsightError: a share is negative or not finite, or the three don't add up to 1.
    """

    train: float
    valid: float
    test: float

    def __post_init__(self) -> None:
        shares = (self.train, self.valid, self.test)
        if not all(math.isfinite(share) and 0 <= share <= 1 for share in shares):
            raise SparsightError(f"Split ratios are {_listed(shares)}; expected three numbers from 0 to 1.")
        if abs(sum(shares) - 1) > 1e-6:
            raise SparsightError(
                f"Split ratios are {_listed(shares)}, together {sum(shares):g}; expected a sum of 1.",
                hint="Set train_ratio, valid_ratio and test_ratio so that they add up to 1.",
            )


def _listed(shares: Sequence[float]) -> str:
    return ", ".join(f"{name} {share:g}" for name, share in zip(SPLITS, shares, strict=True))


def assign_split(photo_id: str, ratios: Ratios, seed: int, *, in_test_set: bool = False) -> Split:
    """Say which split a photo belongs to.

    A share of the hash's range belongs to each split, so within each class the splits have the ratios' sizes in
    expectation, and a photo added later moves no other. A photo marked for the test set is always in `test`.
    """
    if in_test_set:
        return "test"
    # Divided by their sum as computed, shares that stop at a split end at 1 exactly: none gets a photo by rounding.
    whole = ratios.train + ratios.valid + ratios.test
    drawn = unit_hash("split", seed, photo_id)
    if drawn < ratios.train / whole:
        return "train"
    return "valid" if drawn < (ratios.train + ratios.valid) / whole else "test"


def first_by_hash(photo_ids: Sequence[str], limit: int | None, seed: int) -> list[str]:
    """Choose `limit` ids by the order of a hash; a larger limit chooses the same ones and more. None chooses all."""
    ordered = sorted(photo_ids, key=lambda photo_id: (unit_hash("limit", seed, photo_id), photo_id))
    return ordered if limit is None else ordered[:limit]


def repetitions(labels: Mapping[str, str], oversampling: Oversampling, seed: int) -> dict[str, int]:
    """Say how often each training photo appears.

    `balanced` repeats every class to the size of the largest. Each photo appears at least once, and no photo of a
    class more than once oftener than another; which ones get the odd repeat is fixed by the hash of their ids.

    Args:
        labels: label by id.
        oversampling: `off` or `balanced`.
        seed: of the hash.
    """
    if oversampling == "off" or not labels:
        return dict.fromkeys(labels, 1)
    classes: dict[str, list[str]] = {}
    for photo_id, label in labels.items():
        classes.setdefault(label, []).append(photo_id)
    largest = max(map(len, classes.values()))
    return {
        photo_id: largest // len(members) + (place < largest % len(members))
        for members in classes.values()
        for place, photo_id in enumerate(first_by_hash(members, None, seed))
    }
