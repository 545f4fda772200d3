"""The step sync_labels against the real Cosmos DB server: only what differs is written, and what others write stays."""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from exports import EMAILS, Task, annotation, entries, task

from sparsight.data.artefact import read_manifest
from sparsight.data.dataset import read_dataset
from sparsight.data.sync.report import SyncReport
from sparsight.data.sync.request import SyncRequest
from sparsight.errors import SparsightError
from sparsight.steps.connect_db import Arguments as ConnectArguments
from sparsight.steps.connect_db import main as connect_db
from sparsight.steps.sync_labels import Arguments, main
from sparsight.stores.metadata import MetadataStore, open_metadata

Document = dict[str, Any]


class Pets:
    """The container pets of a database of its own, an export file, and syncs of one into the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "users.json").write_text(json.dumps(EMAILS))

    def put(self, *documents: Document) -> None:
        async def write() -> None:
            async with open_metadata() as store:
                await store.ensure_container("pets")
                for document in documents:
                    await store.upsert("pets", document)

        asyncio.run(write())

    def documents(self) -> dict[str, Document]:
        async def read() -> list[Document]:
            async with open_metadata() as store:
                return await store.query("pets", "SELECT * FROM c")

        return {document["id"]: document for document in asyncio.run(read())}

    def export(self, tasks: Sequence[Task]) -> Path:
        file = self.folder / "export.json"
        file.write_text(json.dumps(tasks))
        return file

    def request(self, tasks: Sequence[Task] | None, **inputs: Any) -> dict[str, Any]:
        files = {} if tasks is None else {"export": self.export(tasks)}
        return {
            "project": "Pets",
            "containers": "pets",
            "users": self.folder / "users.json",
            "annotators": "email",
            **files,
            **inputs,
        }

    def sync(self, tasks: Sequence[Task] | None, *, dry_run: bool = False, **inputs: Any) -> SyncReport:
        return SyncRequest(**self.request(tasks, **inputs)).run(dry_run=dry_run)


@pytest.fixture
def pets(service_environment: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pets:
    monkeypatch.setenv("SPARSIGHT_COSMOS_DATABASE", f"sync-{uuid.uuid4().hex}")
    return Pets(tmp_path)


def photo(name: str, **fields: Any) -> Document:
    return {"id": name, "uri_orig": f"photos/{name}.png", "note": name} | fields


def etags(documents: dict[str, Document]) -> dict[str, str]:
    return {name: document["_etag"] for name, document in documents.items()}


TASKS = [
    task("both", annotation(1, "dog/poodle"), annotation(2, "dog/poodle")),
    task("argued", annotation(1, "dog/poodle"), annotation(2, "cat")),
    task("single", annotation(3, "cat")),
    task("nobody"),
    task("gone", annotation(1, "cat")),
]
PHOTOS = [photo(name) for name in ("both", "argued", "single", "nobody", "elsewhere")]


def test_a_sync_writes_what_differs_and_nothing_else(pets: Pets) -> None:
    pets.put(*PHOTOS)
    report = pets.sync(TASKS, agreeing=2)
    assert (report.documents, report.changed, report.missing) == (5, 3, 1)
    first = pets.documents()
    assert entries(first["both"]) == {EMAILS[1]: ["dog/poodle"], EMAILS[2]: ["dog/poodle"]}
    assert {name: document.get("has_review") for name, document in first.items()} == {
        "both": True,
        "argued": False,
        "single": False,
        "nobody": None,
        "elsewhere": None,
    }
    assert all(document["note"] == name for name, document in first.items())
    assert pets.sync(TASKS, agreeing=2).changed == 0
    assert etags(pets.documents()) == etags(first)
    changed = [*TASKS[:2], task("single", annotation(3, "dog")), *TASKS[3:]]
    assert pets.sync(changed, agreeing=2).changed == 1
    after = etags(pets.documents())
    assert {name for name in after if after[name] != first[name]["_etag"]} == {"single"}


def test_datasets_follow(pets: Pets, tmp_path: Path) -> None:
    pets.put(*PHOTOS)
    pets.sync(TASKS, agreeing=2)

    def ids(**inputs: Any) -> set[str]:
        folder = tmp_path / uuid.uuid4().hex
        connect_db(ConnectArguments(dataset=folder, containers="pets", **inputs))
        return set(read_dataset(folder)["id"])

    assert ids(min_annotators=2) == {"both"}
    assert ids(require_review=True) == {"both"}
    assert ids(label_policy="any") == {"both", "argued", "single"}
    assert ids(mode="unlabelled") == {"nobody", "elsewhere"}


def test_the_step_writes_a_report_without_addresses(pets: Pets, capsys: pytest.CaptureFixture[str]) -> None:
    pets.put(*PHOTOS)
    (pets.folder / "taxonomy.yml").write_text("nodes:\n  dog:\nretired:\n  cat: dog\n")
    how = pets.request(TASKS, annotators="hashed", reviewers="ann@example.org", taxonomy=pets.folder / "taxonomy.yml")
    main(Arguments(synced_labels=pets.folder / "one", **how))
    manifest = read_manifest(pets.folder / "one", "synced_labels")
    assert manifest.counts["changed"] == 3
    report = json.loads((pets.folder / "one" / "report.json").read_text())
    assert report["labels"]["unknown"] == [{"label": "dog/poodle", "count": 3}]
    assert report["labels"]["retired"] == [{"label": "cat", "taken_as": "dog", "count": 3}]
    summary = (pets.folder / "one" / "summary.txt").read_text()
    assert capsys.readouterr().out.endswith(summary)
    assert summary.startswith("Pets: 5 tasks and 6 annotations read, 6 taken, by 3 annotators.\n3 documents changed, ")
    for file in (pets.folder / "one").iterdir():
        assert b"example.org" not in file.read_bytes()
        assert str(pets.folder).encode() not in file.read_bytes()


def test_a_dry_run_writes_nothing(pets: Pets) -> None:
    pets.put(*PHOTOS)
    before = etags(pets.documents())
    report = pets.sync(TASKS, dry_run=True)
    assert report.changed == 3
    assert "3 documents would be changed" in str(report)
    assert etags(pets.documents()) == before


def test_a_broken_export_changes_nothing(pets: Pets) -> None:
    pets.put(*PHOTOS)
    pets.sync(TASKS)
    before = etags(pets.documents())
    file = pets.export([task("both"), task("argued", annotation(1, "cat"))])
    for content in (file.read_bytes()[:-1], file.read_bytes()[:400], file.read_bytes() + b"]"):
        file.write_bytes(content)
        with pytest.raises(SparsightError, match="is broken off, or isn't JSON"):
            pets.sync(None, export=file)
    odd = task("single", annotation(1))
    odd["annotations"][0]["result"] = [{"type": "taxonomy", "value": {}}]
    with pytest.raises(SparsightError, match="isn't as Label Studio exports it"):
        pets.sync([task("both"), odd])
    assert etags(pets.documents()) == before


def test_clearing_most_documents_at_once_is_refused(pets: Pets) -> None:
    many = [task(f"p{number}", annotation(1, "dog")) for number in range(30)]
    pets.put(*(photo(f"p{number}") for number in range(30)))
    pets.sync(many)
    before = etags(pets.documents())
    with pytest.raises(SparsightError, match="20 of the 30 documents with annotations of 'Pets' would lose all"):
        pets.sync(many[20:])
    assert etags(pets.documents()) == before
    assert pets.sync(many[20:], clear_deleted=False).changed == 0
    assert pets.sync(many[10:]).cleared == 10
    assert pets.sync([], max_cleared=1).cleared == 20
    assert all(document["labels_with_taxonomy"] == [] for document in pets.documents().values())


def test_documents_are_read_page_by_page_and_none_is_lost(pets: Pets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that were written again, which are elsewhere in the server's own order."""
    monkeypatch.setattr("sparsight.stores.metadata._LOCAL_PAGE", 7)
    pets.put(*(photo(f"p{number:02d}") for number in range(30)))
    pets.sync([task(f"p{number:02d}", annotation(1, "dog")) for number in range(0, 30, 3)])
    report = pets.sync([task(f"p{number:02d}", annotation(1, "dog")) for number in range(30)])
    assert (report.documents, report.changed, report.missing) == (30, 20, 0)


def interrupted(monkeypatch: pytest.MonkeyPatch, act: Callable[[MetadataStore, str], Awaitable[None]]) -> None:
    """Have somebody else write right before each write of the sync, through the same server."""
    original = MetadataStore.set_fields

    async def set_fields(self: MetadataStore, name: str, photo_id: str, fields: Any, etag: str) -> bool:
        await act(self, photo_id)
        return await original(self, name, photo_id, fields, etag)

    monkeypatch.setattr(MetadataStore, "set_fields", set_fields)


def test_what_others_write_meanwhile_is_kept(pets: Pets, monkeypatch: pytest.MonkeyPatch) -> None:
    pets.put(*PHOTOS)
    theirs = {"annotator_id": "simulated-1", "taxonomy": [["cat"]]}
    met = set()

    async def once(store: MetadataStore, name: str) -> None:
        if name not in met:
            met.add(name)
            await store.upsert("pets", photo(name, text="read meanwhile", labels_with_taxonomy=[theirs]))

    interrupted(monkeypatch, once)
    assert pets.sync(TASKS).changed == 3
    for name in ("both", "argued", "single"):
        document = pets.documents()[name]
        assert document["text"] == "read meanwhile"
        assert document["labels_with_taxonomy"][0] == theirs
        assert document["total_annotations"] == len(document["labels_with_taxonomy"]) > 1


def test_a_document_that_keeps_changing_is_left_and_told(pets: Pets, monkeypatch: pytest.MonkeyPatch) -> None:
    pets.put(*PHOTOS)

    async def always(store: MetadataStore, name: str) -> None:
        if name == "both":
            await store.upsert("pets", photo(name, text=uuid.uuid4().hex))

    interrupted(monkeypatch, always)
    report = pets.sync(TASKS)
    assert (report.changed, report.busy) == (2, 1)
    assert "1 documents kept changing and were left as they are: sync again." in str(report)
    assert "labels_with_taxonomy" not in pets.documents()["both"]


def test_a_document_that_goes_meanwhile_is_no_error(pets: Pets, monkeypatch: pytest.MonkeyPatch) -> None:
    pets.put(*PHOTOS)

    async def remove(store: MetadataStore, name: str) -> None:
        if name == "both":
            await store._container("pets").delete_item(name, name)

    interrupted(monkeypatch, remove)
    report = pets.sync(TASKS)
    assert (report.changed, report.busy) == (2, 0)
    assert "both" not in pets.documents()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"containers": "cars"}, "has no container 'cars'; it has pets"),
        ({"containers": " , "}, "expected names of Cosmos DB containers"),
        ({"annotators": "name"}, "annotators is 'name'; expected one of hashed, email, id."),
        ({"unknown_labels": "guess"}, "unknown_labels is 'guess'; expected one of keep, refuse, drop."),
        ({"agreeing": 1}, "agreeing is 1; expected 2 annotators or more, or 0 for never."),
        ({"reviewers": "dan@example.org"}, "no user 'dan@example.org' to review"),
        ({"users": None}, "The e-mail address of Label Studio's user 1 isn't known"),
        ({"export": None}, "users goes with an export"),
    ],
)
def test_wrong_inputs_are_told_before_anything_is_written(pets: Pets, inputs: dict[str, Any], message: str) -> None:
    pets.put(*PHOTOS)
    before = etags(pets.documents())
    with pytest.raises(SparsightError) as refused:
        pets.sync(TASKS, **inputs)
    assert message in str(refused.value)
    assert etags(pets.documents()) == before
