"""Photos loaded into the real Azurite and Cosmos DB servers, once and again."""

import asyncio
import hashlib
import uuid
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sparsight.data.records import PhotoDocument
from sparsight.data.samples import load_digits, load_elpv, load_folder
from sparsight.errors import SparsightError
from sparsight.stores.images import ImageStore
from sparsight.stores.metadata import open_metadata

Documents = dict[str, dict[str, Any]]


@pytest.fixture(autouse=True)
def own_database(service_environment: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSIGHT_COSMOS_DATABASE", f"samples-{uuid.uuid4().hex}")


def documents(collection: str) -> Documents:
    async def read() -> Documents:
        async with open_metadata() as store:
            return {row["id"]: row for row in await store.query(collection, "SELECT * FROM c")}

    return asyncio.run(read())


def change(collection: str, document: dict[str, Any]) -> None:
    async def write() -> None:
        async with open_metadata() as store:
            await store.upsert(collection, document)

    asyncio.run(write())


def blob(uri: str) -> bytes:
    async def read() -> bytes:
        async with ImageStore() as store:
            return await store.download(uri)

    return asyncio.run(read())


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    root = tmp_path / f"pets-{uuid.uuid4().hex[:8]}"
    for place, name in enumerate(("dog/poodle/1.png", "dog/2 #?%.png", "unlabelled/3.png")):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8 + place, 6), (place, 0, 0)).save(path)
    (root / "dog" / "broken.jpg").write_bytes(b"not a photo")
    return root


def test_a_folder_is_in_both_stores(pets: Path) -> None:
    summary = load_folder(pets)
    assert (summary.photos, summary.labelled, summary.uploaded, summary.created) == (4, 3, 4, 4)
    found = {row["uri_orig"]: row for row in documents(pets.name).values()}
    assert set(found) == {f"photos/{pets.name}/{path.relative_to(pets)}" for path in pets.rglob("*.*")}
    for uri, row in found.items():
        PhotoDocument.model_validate(row)
        assert hashlib.sha256(blob(uri)).hexdigest() == row["file_hash"]
    poodle = found[f"photos/{pets.name}/dog/poodle/1.png"]
    assert poodle["labels_with_taxonomy"] == [{"annotator_id": "folder", "taxonomy": [["dog", "poodle"]]}]
    assert (poodle["resolution_width"], poodle["resolution_height"]) == (8, 6)
    assert found[f"photos/{pets.name}/dog/broken.jpg"]["resolution_width"] is None


def test_loading_again_changes_nothing(pets: Path) -> None:
    load_folder(pets)
    before = documents(pets.name)
    again = load_folder(pets)
    assert (again.photos, again.uploaded, again.created, again.updated) == (4, 0, 0, 0)
    assert documents(pets.name) == before


def test_what_others_wrote_since_survives_loading_again(pets: Path) -> None:
    load_folder(pets)
    old = next(row for row in documents(pets.name).values() if row["uri_orig"].endswith("poodle/1.png"))
    notes = [{"annotator_id": "ann", "taxonomy": [["cat"]]}]
    change(
        pets.name, old | {"labels_with_taxonomy": notes, "camera": "K1", "sortout_testset": True, "has_review": True}
    )
    Image.new("RGB", (30, 20)).save(pets / "dog" / "poodle" / "1.png")
    summary = load_folder(pets)
    assert (summary.uploaded, summary.updated) == (1, 1)
    new = documents(pets.name)[old["id"]]
    assert (new["resolution_width"], new["resolution_height"]) == (30, 20)
    assert new["file_hash"] != old["file_hash"]
    assert (new["labels_with_taxonomy"], new["camera"]) == (notes, "K1")
    assert new["sortout_testset"] is True
    assert new["has_review"] is True


def test_photos_gone_from_the_folder_are_reported_and_kept(pets: Path) -> None:
    load_folder(pets)
    (pets / "dog" / "broken.jpg").unlink()
    summary = load_folder(pets)
    assert (summary.photos, summary.left_alone) == (3, 1)
    assert len(documents(pets.name)) == 4


def test_a_database_that_forgot_everything_is_filled_again(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_folder(pets)
    before = documents(pets.name)
    monkeypatch.setenv("SPARSIGHT_COSMOS_DATABASE", f"samples-{uuid.uuid4().hex}")
    summary = load_folder(pets)
    assert (summary.uploaded, summary.created) == (0, 4)
    ours = PhotoDocument.model_fields
    assert {key: {name: row[name] for name in ours} for key, row in documents(pets.name).items()} == {
        key: {name: row[name] for name in ours} for key, row in before.items()
    }


def test_elpv_with_other_annotators(capsys: pytest.CaptureFixture[str]) -> None:
    summary = load_elpv(limit=60, labelled=20, test=10)
    assert (summary.photos, summary.labelled, summary.in_test_set, summary.created) == (60, 20, 10, 60)
    assert "Loading elpv 60/60 photos" in capsys.readouterr().out
    assert all(row["resolution_width"] == 300 for row in documents("elpv").values())

    person = next(row for row in documents("elpv").values() if row["sortout_testset"])
    notes = [{"annotator_id": "a person", "taxonomy": [["polycrystalline", "defective"]]}]
    change("elpv", person | {"labels_with_taxonomy": notes})
    again = load_elpv(limit=60, labelled=30, test=5)
    assert (again.uploaded, again.created) == (0, 0)
    now = documents("elpv")
    assert now[person["id"]]["labels_with_taxonomy"] == notes
    assert now[person["id"]]["sortout_testset"] is True
    assert sum(bool(row["labels_with_taxonomy"]) for row in now.values()) in {35, 36}


def test_digits_are_png_files() -> None:
    load_digits(limit=5)
    row = next(iter(documents("digits").values()))
    assert blob(row["uri_orig"]).startswith(b"\x89PNG")


def test_a_dead_server_is_one_message(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSIGHT_COSMOS_ENDPOINT", "https://127.0.0.1:9")
    with pytest.raises(SparsightError, match="doesn't answer") as caught:
        load_folder(pets)
    assert "services up" in caught.value.hint
