"""Queries that the local Cosmos DB server answers in its own way: once, in linear time, in as many pages as wanted."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from sparsight.stores.metadata import MetadataStore, open_metadata

Ask = Callable[..., list[Any]]


@pytest.fixture
def ask(service_environment: object, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Query 25 documents, each with a list, in pages of four; `between` is awaited after the first page."""
    monkeypatch.setenv("SPARSIGHT_COSMOS_DATABASE", f"queries-{uuid.uuid4().hex}")
    monkeypatch.setattr("sparsight.stores.metadata._PAGE", 4)

    async def put() -> None:
        async with open_metadata() as store:
            await store.ensure_container("c")
            for number in range(25):
                await store.upsert("c", {"id": f"{number:02d}", "number": number, "list": [number, {"x": number}]})

    async def rows(text: str, between: Callable[[MetadataStore], Any] | None) -> list[Any]:
        found = []
        async with open_metadata() as store:
            async for row in store.rows("c", text):
                found.append(row)
                if between and len(found) == 1:
                    await between(store)
        return found

    asyncio.run(put())
    return lambda text, between=None: asyncio.run(rows(text, between))


def test_what_is_undefined_is_left_out(ask: Ask) -> None:
    assert ask("SELECT c.id, c.none FROM c WHERE c.number = 3") == [{"id": "03"}]
    assert ask("SELECT VALUE [c.id, c.none, c.list] FROM c WHERE c.number = 3") == [["03", [3, {"x": 3}]]]
    assert ask("SELECT VALUE c.none FROM c") == []
    assert ask("SELECT VALUE COUNT(1) FROM c") == [25]
    assert ask("SELECT VALUE x FROM c JOIN x IN c.list WHERE c.number > 22") == [23, {"x": 23}, 24, {"x": 24}]
    assert ask("SELECT TOP 2 VALUE c.number FROM c ORDER BY c.number DESC") == [24, 23]


def test_pages_are_of_one_answer_whatever_is_written_meanwhile(ask: Ask) -> None:
    async def write(store: MetadataStore) -> None:
        for number in (0, 7, 24):
            await store.upsert("c", {"id": f"{number:02d}", "number": 100 + number})
        await store.upsert("c", {"id": "99", "number": 99})
        await store._container("c").delete_item("12", "12")

    assert sorted(ask("SELECT VALUE c.number FROM c", write)) == list(range(25))
    assert len(ask("SELECT VALUE c.number FROM c")) == 25


def test_several_queries_side_by_side_get_pages_of_their_own(ask: Ask) -> None:
    async def both(store: MetadataStore) -> None:
        texts = [f"SELECT VALUE c.number FROM c WHERE c.number {sign} 12" for sign in ("<", ">=")]
        low, high = await asyncio.gather(*(store.query("c", text) for text in texts))
        assert (sorted(low), sorted(high)) == (list(range(12)), list(range(12, 25)))

    assert len(ask("SELECT VALUE c.id FROM c", both)) == 25
