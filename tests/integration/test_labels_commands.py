"""`labels taxonomy` and `labels sync` as people type them, against the real Cosmos DB server."""

import asyncio
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exports import EMAILS, annotation, task

from sparsight.cli import main
from sparsight.stores.metadata import open_metadata

ROOT = Path(__file__).parents[2]
Answer = tuple[int, str]

DOCUMENTS: list[dict[str, Any]] = [
    {"id": "1", "labels_with_taxonomy": [{"annotator_id": "a", "taxonomy": [["dog", "poodle"], ["cat"]]}]},
    {"id": "2", "labels_with_taxonomy": [{"annotator_id": "a", "taxonomy": [["Cat"]]}, {"taxonomy": [["dog"]]}]},
    {"id": "3", "labels_with_taxonomy": [None, "x", {"taxonomy": "y"}, {"taxonomy": [[], [3], "z"]}, {}]},
    {"id": "4", "labels_with_taxonomy": None},
    {"id": "5"},
]


@pytest.fixture
def run(
    service_environment: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Type a command; gives its exit status and what it printed."""
    monkeypatch.setenv("SPARSIGHT_COSMOS_DATABASE", f"labels-{uuid.uuid4().hex}")

    async def put() -> None:
        async with open_metadata() as store:
            await store.ensure_container("pets")
            for document in DOCUMENTS:
                await store.upsert("pets", document)

    asyncio.run(put())

    def command(*words: object) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(ROOT, ["labels", *map(str, words)])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out + printed.err

    return command


def test_a_taxonomy_is_derived_and_fits_what_it_is_derived_from(run: Callable[..., Answer], tmp_path: Path) -> None:
    file = tmp_path / "pets.yml"
    code, told = run("taxonomy", "derive", "--containers", "pets", "--out", file, "--no-services")
    assert (code, file.read_text()) == (0, "nodes:\n  Cat:  # 1\n  cat:  # 1\n  dog:  # 1\n  dog/poodle:  # 1\n")
    assert "warning: 'Cat' and 'cat' differ in case or blanks alone." in told
    assert f"{file}: 4 nodes, 0 retired, 0 that reject a photo, names in no language" in told
    code, told = run("taxonomy", "check", file, "--containers", "pets", "--no-services")
    assert (code, told.splitlines()[-1]) == (0, "Every label in pets has its place.")
    code, told = run("taxonomy", "derive", "--containers", "pets", "--out", file, "--no-services")
    assert code == 2
    assert "is there already" in told


def test_labels_that_a_taxonomy_does_not_know_are_listed(run: Callable[..., Answer], tmp_path: Path) -> None:
    file = tmp_path / "pets.yml"
    file.write_text("nodes:\n  dog:\n  cat:\nretired:\n  dog/poodle: dog\n")
    code, told = run("taxonomy", "check", file, "--containers", "pets", "--no-services")
    assert code == 1
    assert told.splitlines()[1:] == [
        "'dog/poodle', given once: taken as 'dog'",
        "'Cat', given once: unknown; nearest is 'cat'",
    ]
    assert run("taxonomy", "check", file)[0] == 0


def test_an_export_is_synced_from_the_command_line(run: Callable[..., Answer], tmp_path: Path) -> None:
    export, users = tmp_path / "export.json", tmp_path / "users.json"
    export.write_text(json.dumps([task("5", annotation(1, "dog"), annotation(2, "dog"))]))
    users.write_text(json.dumps(EMAILS))
    how = ("sync", "Pets", "--containers", "pets", "--export", export, "--users", users, "--no-services")
    assert run(*how, "--dry-run")[1].endswith("1 documents would be changed, 0 of them cleared; 4 stay as they are.\n")
    code, told = run(*how)
    assert code == 0
    assert told.endswith(
        "Pets: 1 tasks and 2 annotations read, 2 taken, by 2 annotators.\n"
        "1 documents changed, 0 of them cleared; 4 stay as they are.\n"
    )
    assert "; 5 stay as they are." in run(*how)[1]
    code, told = run(*how, "--annotators", "names")
    assert (code, told) == (2, "error: annotators is 'names'; expected one of hashed, email, id.\n")
