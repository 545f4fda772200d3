"""The step connect_db against the real Cosmos DB server: filters, parameters, and the same bytes every time."""

import asyncio
import json
import random
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sparsight.data.dataset import read_dataset
from sparsight.data.labels import is_under, join_path
from sparsight.errors import SparsightError
from sparsight.steps.connect_db import Arguments, main
from sparsight.stores.metadata import FILTER_BODY, FILTER_NAME, open_metadata

Document = dict[str, Any]
Query = Callable[..., pd.DataFrame]


def photo(name: str, *labels: str, **fields: Any) -> Document:
    """A document; one annotator for each label."""
    notes = [
        {"annotator_id": f"a{who}", "taxonomy": [label.split("/")], "extra": 1} for who, label in enumerate(labels)
    ]
    return {"id": name, "uri_orig": f"photos/{name}.png", "labels_with_taxonomy": notes} | fields


def note(*path: str) -> Document:
    return {"annotator_id": "a", "taxonomy": [list(path)]}


@pytest.fixture
def put(service_environment: object, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write documents into a container of this test's own database."""
    monkeypatch.setenv("SPARSIGHT_COSMOS_DATABASE", f"connect-{uuid.uuid4().hex}")

    async def write(container: str, documents: Sequence[Document]) -> None:
        async with open_metadata() as store:
            await store.ensure_container(container)
            for document in documents:
                await store.upsert(container, document)

    return lambda documents, container="photos": asyncio.run(write(container, documents))


@pytest.fixture
def query(tmp_path: Path) -> Query:
    """Run the step and read what it wrote."""

    def run(**arguments: Any) -> pd.DataFrame:
        target = tmp_path / uuid.uuid4().hex
        main(Arguments(dataset=target, **arguments))
        return read_dataset(target)

    return run


def ids(table: pd.DataFrame) -> set[str]:
    return set(table["id"])


PETS = [
    photo("poodle", "dog/poodle"),
    photo("boxer", "dog/boxer", "dog/boxer", has_review=True),
    photo("argued", "dog/boxer", "cat/siamese", "dog/boxer"),
    photo("tied", "dog/boxer", "cat/siamese"),
    photo("siamese", "cat/siamese", is_blurred=True, resolution_width=640),
    photo("sharp", "cat/persian", is_blurred=False, resolution_width=300, text='say "hi"'),
    photo("rejected", "dog/poodle", sortout=True),
    photo("hidden", "dog/poodle", sortout_testset=True),
    photo("plain"),
    photo("plain hidden", sortout_testset=True),
    {"id": "bare", "uri_orig": "photos/bare.png"},
    {"id": "odd", "uri_orig": "photos/odd.png", "labels_with_taxonomy": None, "is_blurred": "yes", "sortout": None},
    {"id": "odd too", "uri_orig": "photos/odd2.png", "labels_with_taxonomy": [None, 3, {"taxonomy": ["x", [5]]}]},
]
LABELLED = {"poodle", "boxer", "argued", "siamese", "sharp", "hidden"}


def test_each_filter(put: Callable[..., None], query: Query) -> None:
    put(PETS)
    assert ids(query()) == LABELLED
    assert ids(query(label_policy="any")) == LABELLED | {"tied"}
    assert ids(query(label_policy="unanimous")) == LABELLED - {"argued"}
    assert ids(query(include='["dog"]')) == {"poodle", "boxer", "argued", "hidden"}
    assert ids(query(include='["dog/poodle", "cat/persian"]')) == {"poodle", "hidden", "sharp"}
    assert ids(query(exclude='["cat"]')) == {"poodle", "boxer", "hidden"}
    assert ids(query(include='["dog"]', exclude='["dog/boxer"]')) == {"poodle", "hidden"}
    assert ids(query(min_annotators=2)) == {"boxer", "argued"}
    assert ids(query(require_review=True)) == {"boxer"}
    assert ids(query(exclude_blurred=True)) == LABELLED - {"siamese"}
    assert ids(query(where="c.resolution_width >= @w", where_parameters='{"@w": 300}')) == {"siamese", "sharp"}
    assert ids(query(where="ARRAY_CONTAINS(@n, c.id)", where_parameters='{"@n": ["poodle", "plain"]}')) == {"poodle"}
    assert ids(query(mode="unlabelled")) == {"plain", "bare", "odd"}
    everything = ids(query(mode="all", train_ratio=1, valid_ratio=0, test_ratio=0))
    assert everything == LABELLED - {"hidden"} | {"tied", "plain", "bare", "odd", "odd too"}


def test_labels_by_level(put: Callable[..., None], query: Query) -> None:
    put(PETS)
    whole = query().set_index("id")["label"]
    assert (whole["argued"], whole["sharp"]) == ("dog/boxer", "cat/persian")
    first = query(taxonomy_level=1).set_index("id")["label"]
    assert (first["argued"], first["sharp"]) == ("dog", "cat")
    assert query().set_index("id")["split"]["hidden"] == "test"


def test_labels_that_stop_at_an_inner_node_and_several_labels(put: Callable[..., None], query: Query) -> None:
    put([photo("agreed", "dog/poodle", "dog/poodle"), photo("breed unclear", "dog/poodle", "dog/boxer")])
    assert query()["label"].tolist() == ["dog/poodle"]
    deep = query(label_depth="agreed").set_index("id")["label"]
    assert deep.to_dict() == {"agreed": "dog/poodle", "breed unclear": "dog"}
    several = query(label_policy="any", several_labels=True).set_index("id")["label"]
    assert several.to_dict() == {"agreed": "dog/poodle", "breed unclear": "dog/boxer|dog/poodle"}


def test_the_function_in_the_database_equals_its_definition(put: Callable[..., None]) -> None:
    """Used in SELECT and in WHERE, over random documents."""
    draw = random.Random(5)

    def path() -> list[str]:
        return [draw.choice("ab") for _ in range(draw.randint(1, 3))]

    documents = [
        {
            "id": str(number),
            "labels_with_taxonomy": [
                {"annotator_id": str(who), "taxonomy": [path() for _ in range(draw.randint(0, 2))]}
                for who in range(draw.randint(0, 3))
            ],
        }
        for number in range(60)
    ]
    put(documents)

    async def ask(include: list[list[str]], exclude: list[list[str]]) -> dict[str, Any]:
        call = f"udf.{FILTER_NAME}(c.id, c.labels_with_taxonomy, @include, @exclude)"
        text = f"SELECT c.id, {call} AS annotations FROM c WHERE NOT IS_NULL({call})"
        async with open_metadata() as store:
            rows = await store.query("photos", text, {"@include": include, "@exclude": exclude})
        return {row["id"]: row["annotations"] for row in rows}

    def naive(include: list[list[str]], exclude: list[list[str]]) -> dict[str, Any]:
        wanted = {}
        for document in documents:
            paths = [path for note in document["labels_with_taxonomy"] for path in note["taxonomy"]]
            included = not include or any(is_under(path, node) for path in paths for node in include)
            if included and not any(is_under(path, node) for path in paths for node in exclude):
                wanted[document["id"]] = document["labels_with_taxonomy"]
        return wanted

    for _ in range(25):
        include, exclude = ([path() for _ in range(draw.randint(0, 2))] for _ in range(2))
        assert asyncio.run(ask(include, exclude)) == naive(include, exclude)


def test_another_version_of_the_function_is_replaced(put: Callable[..., None], query: Query) -> None:
    put(PETS)

    async def spoil() -> None:
        async with open_metadata() as store:
            scripts = store._container("photos").scripts
            await scripts.delete_user_defined_function(FILTER_NAME)
            other = "function filterDocumentsByLabels() { return null; }"
            await scripts.create_user_defined_function({"id": FILTER_NAME, "body": other})

    async def body() -> list[str]:
        async with open_metadata() as store:
            functions = store._container("photos").scripts.list_user_defined_functions()
            return [function["body"] async for function in functions]

    asyncio.run(spoil())
    assert ids(query(include='["dog"]')) == {"poodle", "boxer", "argued", "hidden"}
    assert asyncio.run(body()) == [FILTER_BODY]


def test_queries_side_by_side_find_the_function_while_it_is_replaced(put: Callable[..., None]) -> None:
    put(PETS)
    text = f"SELECT VALUE COUNT(1) FROM c WHERE NOT IS_NULL(udf.{FILTER_NAME}(c.id, c.labels_with_taxonomy, [], []))"

    async def race() -> list[list[int]]:
        async with open_metadata() as store:
            other = {"id": FILTER_NAME, "body": f"/* older */ {FILTER_BODY}"}
            await store._container("photos").scripts.replace_user_defined_function(FILTER_NAME, other)

            async def use() -> list[int]:
                await store.install_filter("photos")
                return await store.query("photos", text)

            return await asyncio.gather(*(use() for _ in range(8)))

    for _ in range(3):
        assert asyncio.run(race()) == [[len(PETS)]] * 8


EVIL = ['"] OR true --', "' OR '1'='1", "dog') OR (1=1", "${x}", '\\"', "@sparsight_include"]


def test_text_of_users_stays_text(put: Callable[..., None], query: Query) -> None:
    named = {f"evil {place}": text for place, text in enumerate(EVIL)}
    put([photo(name, text=text) | {"labels_with_taxonomy": [note(text)]} for name, text in named.items()])
    for name, text in named.items():
        assert ids(query(include=json.dumps([join_path([text])]))) == {name}
        assert ids(query(where="c.text = @text", where_parameters=json.dumps({"@text": text}))) == {name}
    assert ids(query(exclude=json.dumps([join_path([text]) for text in EVIL[1:]]))) == {"evil 0"}


def test_the_same_input_gives_the_same_bytes(put: Callable[..., None], tmp_path: Path) -> None:
    put([photo(f"p{number}", "dog/poodle" if number % 3 else "cat/siamese") for number in range(40)])
    for name in ("one", "two"):
        main(Arguments(dataset=tmp_path / name, oversampling="balanced"))
        put([photo("p7", "dog/poodle")])  # written again, so last in the server's own order
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert "manifest.json" in files
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_photos_added_leave_old_ones_where_they_were(put: Callable[..., None], query: Query) -> None:
    def splits(table: pd.DataFrame) -> dict[str, str]:
        return dict(table[["id", "split"]].to_numpy().tolist())

    put([photo(f"p{number}", "dog") for number in range(50)])
    before = splits(query())
    put([photo(f"q{number}", "dog") for number in range(30)])
    after = splits(query())
    assert len(after) == 80
    assert {name: after[name] for name in before} == before
    limited = query(limit=10)
    assert (limited["split"] != "test").sum() == 10
    assert set(splits(limited).items()) <= set(after.items())


TAXONOMY = """\
nodes:
  dog:
  dog/poodle:
  dog/boxer:
  feline:
  feline/siamese:
retired:
  cat: feline
  dog/wolf: feline
  cat/persian:
"""
WOLF = photo("wolf", "dog/wolf")


@pytest.fixture
def taxonomy(tmp_path: Path) -> Path:
    (tmp_path / "pets.yml").write_text(TAXONOMY)
    return tmp_path / "pets.yml"


def test_a_taxonomy_renames_retired_labels_and_drops_others(
    put: Callable[..., None], query: Query, taxonomy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put([*PETS, WOLF])
    table = query(taxonomy=taxonomy).set_index("id")["label"]
    assert table["siamese"] == "feline/siamese"
    assert table["wolf"] == "feline"
    assert set(table.index) == LABELLED - {"sharp"} | {"wolf"}
    out = capsys.readouterr().out
    assert "'cat/siamese', given 3 times: taken as 'feline/siamese'" in out
    assert "'cat/persian', given once: dropped, as it is retired without a successor" in out
    assert "dropped 2 photos: no label at this taxonomy level" in out


def test_include_and_exclude_name_nodes_of_the_taxonomy(put: Callable[..., None], query: Query, taxonomy: Path) -> None:
    """Also where the label in the database lies elsewhere, and by a retired name."""
    put([*PETS, WOLF])
    assert ids(query(taxonomy=taxonomy, include='["feline"]')) == {"siamese", "wolf"}
    assert ids(query(taxonomy=taxonomy, include='["cat"]')) == {"siamese", "wolf"}
    assert ids(query(taxonomy=taxonomy, include='["dog"]')) == {"poodle", "boxer", "argued", "hidden"}
    assert ids(query(taxonomy=taxonomy, exclude='["feline"]')) == {"poodle", "boxer", "hidden"}
    with pytest.raises(
        SparsightError, match=r"include has 'dgo', which is no node of the taxonomy\.\nDid you mean 'dog'"
    ):
        query(taxonomy=taxonomy, include='["dgo"]')
    (taxonomy.parent / "more.yml").write_text(TAXONOMY.replace("retired", "  bird:\nretired"))
    with pytest.raises(SparsightError, match=r"labelled 'bird'\. Labels there: dog, dog/boxer,"):
        query(taxonomy=taxonomy.parent / "more.yml", include='["bird"]')


def test_labels_that_the_taxonomy_does_not_know_are_refused_or_dropped(
    put: Callable[..., None], query: Query, taxonomy: Path
) -> None:
    put([*PETS, photo("odd one", "Dog/poodle"), photo("two", "dog/poodle", "Dog/poodle")])
    with pytest.raises(SparsightError) as refused:
        query(taxonomy=taxonomy)
    assert "'Dog/poodle', given 2 times: unknown; nearest is 'dog/poodle'" in str(refused.value)
    assert "set unknown_labels to 'drop'" in str(refused.value)
    dropped = query(taxonomy=taxonomy, unknown_labels="drop").set_index("id")["label"]
    assert "odd one" not in dropped
    assert dropped["two"] == "dog/poodle"


def test_a_photo_whose_labels_are_dropped_is_not_taken_for_unlabelled(
    put: Callable[..., None], query: Query, taxonomy: Path
) -> None:
    put([photo("persian", "cat/persian"), photo("plain")])
    everything = query(taxonomy=taxonomy, mode="all", train_ratio=0, valid_ratio=0, test_ratio=1)
    assert ids(everything) == {"plain"}


def test_a_taxonomy_file_counts_by_its_content(put: Callable[..., None], tmp_path: Path, taxonomy: Path) -> None:
    put([photo("p", "dog/poodle")])
    copy = tmp_path / "elsewhere.yml"
    copy.write_bytes(taxonomy.read_bytes())
    for name, file in (("one", taxonomy), ("two", copy)):
        main(Arguments(dataset=tmp_path / name, taxonomy=file))
    assert (tmp_path / "one" / "manifest.json").read_bytes() == (tmp_path / "two" / "manifest.json").read_bytes()


def test_several_containers(put: Callable[..., None], query: Query, tmp_path: Path) -> None:
    put([photo("1", "dog")], container="one")
    put([photo("2", "dog")], container="two")
    main(Arguments(containers="one, two", dataset=tmp_path / "dataset"))
    assert json.loads((tmp_path / "dataset" / "containers.json").read_text()) == {"1": "one", "2": "two"}
    put([photo("1", "dog")], container="two")
    with pytest.raises(SparsightError, match="both in 'one' and in 'two'"):
        query(containers="one,two")


@pytest.mark.parametrize(
    ("arguments", "problem", "hint"),
    [
        ({"containers": "pets"}, "no container 'pets'; it has photos", "Name one of those"),
        ({"database": "nowhere"}, "no database 'nowhere'; it has", "data load"),
        ({"include": '["dog/boxxer"]'}, "labelled 'dog/boxxer'. Labels there: cat, cat/persian", "'dog/boxer'"),
        ({"exclude": '["dgo"]'}, "labelled 'dgo'", "'dog'"),
        (
            {"require_review": True, "exclude": '["dog"]'},
            "then 1 reviewed (require_review), then 0 with the labels",
            "",
        ),
        ({"where": "c.resolution_width >="}, "HTTP 400", "extra condition"),
        ({"where": "NOSUCH(c.id)"}, "HTTP 400", "extra condition"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    put: Callable[..., None], tmp_path: Path, arguments: dict[str, Any], problem: str, hint: str
) -> None:
    put(PETS)
    with pytest.raises(SparsightError) as caught:
        main(Arguments(dataset=tmp_path / "dataset", **arguments))
    assert problem in caught.value.problem
    assert hint in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "problem", "hint"),
    [
        ({"include": "dog"}, "include is not JSON", ""),
        ({"include": '"dog"'}, "expected a JSON list of labels", ""),
        ({"where": "c.id = @x", "where_parameters": "[]"}, "expected a JSON object", ""),
        ({"train_ratio": 0.9}, "expected a sum of 1", "add up to 1"),
        ({"mode": "some"}, "mode is 'some'; expected one of labelled, unlabelled, all", ""),
        ({"mode": "unlabelled", "include": '["dog"]'}, "mode is 'unlabelled'", ""),
        ({"mode": "all", "min_annotators": 2}, "min_annotators is 2, but mode is 'all'", ""),
        ({"mode": "all", "oversampling": "balanced"}, "oversampling is 'balanced', but mode is 'all'", ""),
        ({"limit": 0}, "limit is 0; expected 1 or more", ""),
        ({"containers": " , "}, "expected names of Cosmos DB containers", ""),
    ],
)
def test_inputs_are_checked_before_the_first_request(
    tmp_path: Path, arguments: dict[str, Any], problem: str, hint: str
) -> None:
    with pytest.raises(SparsightError) as caught:
        main(Arguments(dataset=tmp_path / "dataset", **arguments))
    assert problem in caught.value.problem
    assert hint in caught.value.hint
