"""The index: exact where it says so, the same as a dictionary after any changes, and whole or refused."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsight.data.artefact import read_manifest
from sparsight.data.embeddings import Embeddings
from sparsight.errors import SparsightError
from sparsight.search import Index, IndexOptions, add_photos, build_index, remove_photos
from sparsight.search.generations import changing
from sparsight.search.reranking import FloatEmbeddings
from sparsight.search.searching import Searcher
from sparsight.search.structures import LARGEST_FLAT, Structure, compare_all, resolve_structure
from tests.indexed import groups, write_dataset, write_embeddings
from tests.photos import contents

PLAIN = IndexOptions(code="itq", bits=16)


def naive(codes: np.ndarray, query: np.ndarray, count: int) -> tuple[list[int], list[int]]:
    """Distances and rows of the nearest codes; of equal ones the lowest rows."""
    bits = np.unpackbits(codes, axis=1) != np.unpackbits(query)
    found = sorted((int(distance), row) for row, distance in enumerate(bits.sum(axis=1)))[:count]
    return [distance for distance, _ in found], [row for _, row in found]


def photos(place: Path, ids: list[str], values: np.ndarray, **more: Any) -> tuple[Embeddings, Path]:
    """Write embeddings and their dataset into new folders."""
    place.mkdir(exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=place))
    folder = write_embeddings(place / "embeddings", ids, values, **more)
    return Embeddings(folder), write_dataset(place / "dataset", ids)


def build(place: Path, count: int = 200, options: IndexOptions = PLAIN, **more: Any) -> Path:
    ids = [f"photo-{number:03d}" for number in range(count)]
    build_index(*photos(place, ids, groups(count)[0], **more), place / "index", options)
    return place / "index"


@given(
    bits=st.sampled_from([8, 16, 24, 64, 72]),
    count=st.integers(1, 40),
    wanted=st.integers(1, 50),
    kinds=st.integers(1, 9),
    seed=st.integers(0, 2**16),
)
def test_comparing_all_finds_what_a_naive_search_finds(
    bits: int, count: int, wanted: int, kinds: int, seed: int
) -> None:
    """Few kinds of codes make many ties, which go to the lowest rows."""
    random = np.random.default_rng(seed)
    some = random.integers(0, 256, (kinds, bits // 8), np.uint8)
    codes, queries = some[random.integers(0, kinds, count)], random.integers(0, 256, (3, bits // 8), np.uint8)
    distances, rows = compare_all(codes, queries, wanted)
    for place, query in enumerate(queries):
        assert (distances[place].tolist(), rows[place].tolist()) == naive(codes, query, wanted)


@pytest.mark.parametrize("name", ["ivf", "hnsw"])
def test_a_structure_finds_most_of_the_nearest_codes(name: Any) -> None:
    values, _ = groups(3000, kinds=30)
    codes = np.packbits(values > 0, axis=1)
    structure = Structure.build(name, codes[:2500])
    structure.add(codes[2500:])
    hits = []
    for query in codes[::100]:
        distances, rows = structure.search(query, 10)
        pairs = list(zip(distances.tolist(), rows.tolist(), strict=True))
        assert pairs == sorted(pairs)
        assert [naive(codes[[row]], query, 1)[0][0] for row in rows] == distances.tolist()
        limit = naive(codes, query, 10)[0][-1]
        hits.append((distances <= limit).sum() / 10)
    assert np.mean(hits) > 0.85
    assert Structure.from_bytes(structure.to_bytes(), codes, Path("x")).to_bytes() == structure.to_bytes()


def test_auto_compares_all_until_there_are_millions() -> None:
    assert resolve_structure("auto", LARGEST_FLAT) == "flat"
    assert resolve_structure("auto", LARGEST_FLAT + 1) == "ivf"
    with pytest.raises(SparsightError, match="expected auto, flat, ivf, hnsw"):
        resolve_structure("tree", 5)


@pytest.mark.parametrize("structure", ["flat", "ivf", "hnsw"])
def test_a_photo_of_the_index_is_its_own_nearest_neighbour(structure: str, tmp_path: Path) -> None:
    index = Index(build(tmp_path, options=IndexOptions(code="itq", bits=32, structure=structure)))
    values, _ = groups(200)
    for row in (0, 77, 199):
        found = Searcher(index).search(values[row], 3)
        assert found[0].distance == 0
        assert f"photo-{row:03d}" in [each.id for each in found if each.distance == 0]
        assert found[0].uri == f"photos/{found[0].id}.png"
        assert found[0].container == "photos"


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    options = IndexOptions(code="itq", bits=16, structure="ivf")
    first, second = (build(tmp_path / name, options=options) for name in "ab")
    assert contents(first) == contents(second)
    assert read_manifest(first, "index").counts == {"photos": 200, "bits": 16}
    before = contents(first)
    build(tmp_path / "a", options=options)
    assert contents(first) == before, "what is finished is left as it is"


Ids = st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=6, unique=True)


@settings(max_examples=15)
@given(steps=st.lists(st.tuples(st.booleans(), Ids, st.integers(0, 3)), min_size=1, max_size=5), ivf=st.booleans())
def test_after_any_changes_an_index_holds_what_a_dictionary_would(steps: list[Any], ivf: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        folder = build(place, 12, IndexOptions(code="random_hyperplanes", bits=16, structure="ivf" if ivf else "flat"))
        values = groups(12)[0]
        expected = {f"photo-{number:03d}": values[number] for number in range(12)}
        for adds, ids, seed in steps:
            before = dict(expected)
            if adds:
                given_values = groups(len(ids), seed=seed)[0]
                expected |= dict(zip(ids, given_values, strict=True))
                change = add_photos(folder, *photos(place, ids, given_values))
                assert change.added == len(expected) - len(before)
            else:
                for each in ids:
                    expected.pop(each, None)
                change = remove_photos(folder, ids)
                assert change.removed == len(before) - len(expected)
            assert change.photos == len(expected)
        index = Index(folder)
        assert index.photos.column("id").to_pylist() == list(expected), "in the order in which they came"
        assert np.array_equal(index.codes, index.code.encode(np.stack(list(expected.values()))))
        query = index.code.encode(groups(1, seed=9)[0])[0]
        found = index.search(query, 5, among=np.arange(len(index)))
        assert (found.distances.tolist(), found.rows.tolist()) == naive(index.codes, query, 5)
        assert index.structure is None or len(index.structure) == len(index)


def test_who_has_an_index_open_goes_on_reading_it(tmp_path: Path) -> None:
    folder = build(tmp_path)
    index = Index(folder)
    query = index.codes[5].copy()
    before = index.search(query, 200)
    remove_photos(folder, ["photo-005"])
    assert not index.is_current()
    assert index.search(query, 200).rows.tolist() == before.rows.tolist()
    assert index.photos.rows(np.array([5]))[0]["id"] == "photo-005"
    assert "photo-005" not in Index(folder).photos.column("id").to_pylist()
    files = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert files == {
        *("manifest.json", "current.json", "code.safetensors", "codes-000002.npy", "photos-000002.parquet")
    }, "what is of no use any longer is gone"


def test_a_change_that_fails_half_way_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build(tmp_path)
    codes = Index(folder).codes.copy()

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sparsight.search.writing.write_photos", full)
        with pytest.raises(OSError, match="No space"):
            remove_photos(folder, ["photo-005"])
    assert np.array_equal(Index(folder).codes, codes)
    remove_photos(folder, ["photo-005"])
    assert len(Index(folder)) == 199
    assert sorted(path.name for path in folder.glob("codes-*")) == ["codes-000002.npy"]


def test_two_do_not_change_an_index_at_once(tmp_path: Path) -> None:
    folder = build(tmp_path)
    with changing(folder), pytest.raises(SparsightError, match="is being changed by another process"):
        remove_photos(folder, ["photo-005"])


def test_what_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    folder = build(tmp_path)
    before = contents(folder)
    ids = ["photo-003", "photo-004"]
    change = add_photos(folder, *photos(tmp_path, ids, groups(200)[0][3:5]))
    assert str(change) == "0 added, 0 replaced, 0 removed: 200 photos now."
    assert remove_photos(folder, ["another"]).removed == 0
    assert {name: content for name, content in contents(folder).items() if name != ".lock"} == before


def test_filters_by_label_find_what_lies_below_it(tmp_path: Path) -> None:
    labels = ["dog/poodle", "dog", "cat|dog/boxer", ""] * 50
    index = Index(build(tmp_path, labels=labels))
    found = Searcher(index).search(groups(200)[0][0], 200, label="dog")
    assert len(found) == 150
    assert {each.label for each in found} == {"dog/poodle", "dog", "cat|dog/boxer"}
    documents = np.arange(0, 200, 2)
    both = Searcher(index).search(groups(200)[0][0], 200, label="dog/poodle", documents=documents)
    assert {each.id for each in both} == {f"photo-{number:03d}" for number in range(0, 200, 4)}
    assert Searcher(index).search(groups(200)[0][0], 5, documents=np.array([], np.int64)) == []
    with pytest.raises(SparsightError, match=r"No photo of the index is labelled 'fox'\. Labels there: cat"):
        Searcher(index).search(groups(200)[0][0], 5, label="fox")
    with pytest.raises(SparsightError, match="expected 1 to 1,000"):
        Searcher(index).search(groups(200)[0][0], 0)


def test_float_embeddings_put_candidates_in_order(tmp_path: Path) -> None:
    folder = build(tmp_path)
    extra, _ = groups(5, seed=1)
    new = photos(tmp_path, list("abcde"), extra)
    add_photos(folder, *new)
    index = Index(folder)
    first = next(path for path in tmp_path.glob("*/embeddings") if len(Embeddings(path)) == 200)
    with pytest.raises(SparsightError, match=r"5 of the 205 photos of .* have no embedding in"):
        FloatEmbeddings(index, [first])
    searcher = Searcher(index, FloatEmbeddings(index, [first, new[0].folder]))
    values = np.concatenate([groups(200)[0], extra])
    query = groups(1, seed=3)[0][0]
    found = searcher.search(query, 8)
    cosine = 1 - values @ query / np.linalg.norm(values, axis=1) / np.linalg.norm(query)
    assert [each.cosine_distance for each in found] == pytest.approx(np.sort(cosine)[:8], abs=1e-6)
    assert found[0].id == [*(f"photo-{number:03d}" for number in range(200)), *"abcde"][cosine.argmin()]


def test_embeddings_of_another_model_are_refused(tmp_path: Path) -> None:
    folder = build(tmp_path)
    other = photos(tmp_path, ["a"], groups(1)[0], backbone_digest="1" * 64, model="photos/2")
    with pytest.raises(SparsightError, match="embeddings of photos/2; the index is of photos/1, which has other"):
        add_photos(folder, *other)
    larger = photos(tmp_path, ["a"], groups(1)[0], images={"size": 32, "resize": "fit"})
    with pytest.raises(SparsightError, match="of images of 32 pixels, resize fit; the index is of 16 pixels"):
        add_photos(folder, *larger)


def test_photos_that_can_not_be_told_apart_or_found_are_refused(tmp_path: Path) -> None:
    folder = build(tmp_path)
    embeddings, _ = photos(tmp_path, ["photo-003"], groups(1)[0])
    with pytest.raises(SparsightError, match="lacks 1 of the 1 photos embedded; the first is photo-003"):
        add_photos(folder, embeddings, write_dataset(tmp_path / "other", ["photo-9"]))
    with pytest.raises(SparsightError, match="'photo-003' of container 'holiday' has the id of a photo in the index"):
        add_photos(folder, embeddings, write_dataset(tmp_path / "holiday", ["photo-003"], "holiday"))
    with pytest.raises(SparsightError, match="left without a photo"):
        remove_photos(folder, [f"photo-{number:03d}" for number in range(200)])
    twice, dataset = photos(tmp_path, ["a", "a"], groups(2)[0])
    with pytest.raises(SparsightError, match="several embeddings of one photo"):
        build_index(twice, dataset, tmp_path / "twice", PLAIN)
    with pytest.raises(SparsightError, match="doesn't tell how they were made"):
        build_index(*photos(tmp_path, ["a", "b"], groups(2)[0], images={}), tmp_path / "new", PLAIN)


def change(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "name", ["codes-000001.npy", "photos-000001.parquet", "structure-000001.faiss", "code.safetensors"]
)
def test_an_index_cut_short_or_changed_is_refused_by_the_file(name: str, tmp_path: Path) -> None:
    folder = build(tmp_path, options=IndexOptions(code="itq", bits=16, structure="ivf"))
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-1])
    with pytest.raises(SparsightError, match=rf"{name} has {len(whole) - 1:,} bytes; expected {len(whole):,}"):
        Index(folder)
    (folder / name).write_bytes(whole)
    change(folder / name, -1)
    with pytest.raises(SparsightError, match=f"{name} isn't what was written"):
        Index(folder)
    (folder / name).unlink()
    with pytest.raises(SparsightError, match=f"lacks .*{name}"):
        Index(folder)


def test_a_table_of_contents_that_leads_elsewhere_or_is_damaged_is_refused(tmp_path: Path) -> None:
    folder = build(tmp_path)
    current = json.loads((folder / "current.json").read_text())
    current["files"]["../codes-000001.npy"] = current["files"].pop("codes-000001.npy")
    (folder / "current.json").write_text(json.dumps(current))
    with pytest.raises(SparsightError, match="names files elsewhere"):
        Index(folder)
    (folder / "current.json").write_text("{")
    with pytest.raises(SparsightError, match=r"current\.json can't be read"):
        Index(folder)
    with pytest.raises(SparsightError, match="expected a index folder"):
        Index(tmp_path / "nowhere")


def test_a_tenth_of_a_million_codes_of_256_bits_takes_less_than_10_mb(tmp_path: Path) -> None:
    """On disk, with ids and addresses; from there the codes are mapped, and of photos those are read that are shown."""
    ids = [f"some/folder/{number:07d}.png" for number in range(100_000)]
    values = np.random.default_rng(0).standard_normal((len(ids), 8), np.float32)
    options = IndexOptions(code="random_hyperplanes", bits=256)
    build_index(*photos(tmp_path, ids, values), tmp_path / "index", options)
    assert sum(path.stat().st_size for path in (tmp_path / "index").iterdir()) < 10e6
    index = Index(tmp_path / "index")
    assert isinstance(index.codes, np.memmap)
    assert index.structure is None
    assert Searcher(index).search(values[77_777], 1)[0].uri == "photos/some/folder/0077777.png.png"
