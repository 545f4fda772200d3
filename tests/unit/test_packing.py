"""The layout of packed images: rows in the dataset's order, closed up over failures, recorded shard by shard."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsight.data import packing_plan
from sparsight.data.fetching import Packing
from sparsight.data.packed import shard_name
from sparsight.data.packing import pack_images
from sparsight.data.packing_plan import Plan
from sparsight.data.shards import close_up, commit_shard, create_shard, read_record, write_row
from sparsight.data.share import Message, Share
from sparsight.errors import SparsightError


def dataset(ids: list[str], split: str = "train") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": ids,
            "uri": [f"photos/{name}.jpg" for name in ids],
            "file_hash": "",
            "label": [f"label {name}" for name in ids],
            "split": split,
        }
    )


def picture(number: int) -> np.ndarray:
    return np.full((2, 2, 3), number, np.uint8)


def pack(plan: Plan, failing: set[int]) -> None:
    """Do what the processes do, without a store: image i is filled with the number i."""
    shards: dict[int, dict[int, str]] = {shard: {} for shard in range(plan.shards)}
    for job in plan.jobs():
        shard, row = divmod(job.image, plan.shard_rows)
        if job.image in failing:
            shards[shard][row] = "missing"
        else:
            write_row(job.shard, job.rows, job.row, picture(job.image))
    for shard, failed in shards.items():
        plan.commit(shard, failed)


@settings(deadline=None, max_examples=50)
@given(
    rows=st.lists(st.integers(0, 11), min_size=1, max_size=30),
    failing=st.sets(st.integers(0, 11)),
    shard_rows=st.integers(1, 5),
)
def test_the_index_finds_every_image_that_did_not_fail(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int], failing: set[int], shard_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("plan")
    table = dataset([f"{row:02d}" for row in rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing_plan, "SHARD_ROWS", shard_rows)
        plan = Plan(table, folder, Packing(size=2))
    pack(plan, failing)
    plan.close_up()
    plan.write_index()
    order = list(dict.fromkeys(rows))
    index = pd.read_parquet(folder / "index.parquet")
    expected = [row for row in rows if order.index(row) not in failing]
    assert index["id"].tolist() == [f"{row:02d}" for row in expected]
    assert index["label"].tolist() == [f"label {row:02d}" for row in expected]
    shards = [np.load(folder / shard_name(shard)) for shard in range(plan.shards)]
    found = [int(shards[shard][row][0, 0, 0]) for shard, row in zip(index["shard"], index["row"], strict=True)]
    assert found == [order.index(row) for row in expected]
    assert sum(map(len, shards)) == len(set(range(len(order))) - failing)
    assert plan.failures()["id"].tolist() == [f"{row:02d}" for n, row in enumerate(order) if n in failing]


def test_a_finished_shard_is_not_fetched_again_but_its_failures_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing_plan, "SHARD_ROWS", 3)
    table = dataset(list("abcdefgh"))
    first = Plan(table, tmp_path, Packing(size=2))
    for row in range(3):
        job = next(job for job in first.jobs() if job.image == row)
        write_row(job.shard, job.rows, job.row, picture(row))
    first.commit(0, {1: "missing"})
    second = Plan(table, tmp_path, Packing(size=2))
    assert [job.image for job in second.jobs()] == [1, 3, 4, 5, 6, 7]


def divided(plans: list[Plan]) -> list[list[int]]:
    """Whose shards are whose: each of these processes tells what it has, and hears what all have."""
    told: list[Message] = []
    for plan in plans:
        plan.divide(Share(size=len(plans), exchange=lambda message: [told.append(message) or {}] * len(plans)))
    for rank, plan in enumerate(plans):
        plan.divide(Share(rank=rank, size=len(plans), exchange=lambda _: json.loads(json.dumps(told))))
    return [plan.own for plan in plans]


def test_shards_are_dealt_out_evenly_but_finished_ones_stay_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing_plan, "SHARD_ROWS", 3)
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        folder.mkdir()
    table = dataset(list("abcdefghijklmnop"))
    assert divided([Plan(table, folder, Packing(size=2)) for folder in folders]) == [[0, 2, 4], [1, 3, 5]]
    begun = Plan(table, folders[1], Packing(size=2))
    for shard in (0, 4):
        create_shard(begun.shard_path(shard), 3, 2)
    begun.commit(0, {1: "missing"})
    assert divided([Plan(table, folder, Packing(size=2)) for folder in folders]) == [[1, 3, 5], [0, 2, 4]]
    assert begun.shard_path(0).exists()
    assert not begun.shard_path(4).exists(), "half-made, it mustn't be left beside another process's"
    in_one_folder = divided([Plan(table, folders[1], Packing(size=2)) for _ in range(3)])
    assert sorted(shard for own in in_one_folder for shard in own) == list(range(6))


def test_rows_that_were_taken_out_are_not_filled_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing_plan, "SHARD_ROWS", 3)
    plan = Plan(dataset(list("abcd")), tmp_path, Packing(size=2))
    pack(plan, {1, 3})
    assert [job.image for job in plan.jobs()] == [1, 3]
    close_up(plan.shard_path(0), 3, plan.failed[0])
    assert [job.image for job in Plan(plan.dataset, tmp_path, Packing(size=2)).jobs()] == [3]


def test_splits_keep_their_order_and_repeated_ids_share_pixels(tmp_path: Path) -> None:
    table = pd.concat([dataset(list("aab")), dataset(["c"], "valid"), dataset(["d"], "test")], ignore_index=True)
    plan = Plan(table, tmp_path, Packing(size=2))
    pack(plan, set())
    plan.close_up()
    plan.write_index()
    index = pd.read_parquet(tmp_path / "index.parquet")
    assert index["row"].tolist() == [0, 0, 1, 2, 3]
    assert index["split"].tolist() == ["train", "train", "train", "valid", "test"]
    assert plan.counts() == {
        "images": 4, "rows": 5, "shards": 1, "failures": 0, "train": 3, "valid": 1, "test": 1,
    }  # fmt: skip


def test_one_id_with_two_addresses_is_refused(tmp_path: Path) -> None:
    table = dataset(list("aa"))
    table.loc[1, "uri"] = "elsewhere/a.jpg"
    with pytest.raises(SparsightError, match="'a' more than one"):
        Plan(table, tmp_path, Packing(size=2))


def test_an_empty_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match="no images"):
        Plan(dataset([]), tmp_path, Packing(size=2))


@pytest.mark.parametrize("wrong", [{"size": 0}, {"max_pixels": 0}, {"max_bytes": -1}, {"resize": "stretch"}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, int | str]) -> None:
    with pytest.raises(SparsightError, match="expected"):
        Packing(**{"size": 8, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"max_failures": -0.1}, {"max_failures": 1.5}])
def test_shares_and_numbers_out_of_bounds_are_refused(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(SparsightError, match="expected 1 or more, and a share from 0 to 1"):
        pack_images(dataset(["a"]), tmp_path / "images", Packing(size=2), **wrong)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_closing_up_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / shard_name(0)
    create_shard(path, 200, 2)
    for row in range(200):
        write_row(path, 200, row, picture(row))
    failed = dict.fromkeys((0, 63, 64, 199), "missing")
    close_up(path, 200, failed)
    once = path.read_bytes()
    close_up(path, 200, failed)
    assert path.read_bytes() == once
    assert np.load(path)[:, 0, 0, 0].tolist() == [row for row in range(200) if row not in failed]


def test_a_shard_can_lose_all_of_its_rows(tmp_path: Path) -> None:
    path = tmp_path / shard_name(0)
    create_shard(path, 2, 2)
    close_up(path, 2, {0: "empty", 1: "missing"})
    assert np.load(path, mmap_mode="r").shape == (0, 2, 2, 3)


def test_a_record_is_read_as_written(tmp_path: Path) -> None:
    create_shard(tmp_path / "shard.npy", 3, 2)
    commit_shard(tmp_path / "shard.npy", tmp_path / "record.json", {2: "empty", 0: "missing"})
    assert read_record(tmp_path / "record.json") == {0: "missing", 2: "empty"}
    assert read_record(tmp_path / "none.json") is None
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(SparsightError, match="can't be read"):
        read_record(tmp_path / "record.json")


def test_a_store_that_nobody_named_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARSIGHT_BLOB_ENDPOINT", raising=False)
    with pytest.raises(SparsightError, match="SPARSIGHT_BLOB_ENDPOINT is not set"):
        pack_images(dataset(["a", "b"]), tmp_path / "images", Packing(size=8), processes=1)
