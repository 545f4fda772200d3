"""Sample photos on their way to the stores: who is labelled, by whom, and which files of a folder count."""

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sparsight.data import samples
from sparsight.data.loading import LoadSummary, SourcePhoto, check_collection_name, image_size
from sparsight.data.samples import GRADES, load_digits, load_elpv, load_folder
from sparsight.errors import SparsightError


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[SourcePhoto]]:
    """What would be loaded, by collection; the stores themselves are met in tests/integration/test_samples.py."""
    collections: dict[str, list[SourcePhoto]] = {}

    def keep(collection: str, photos: list[SourcePhoto], *, relabel: bool) -> LoadSummary:
        collections[collection] = photos
        return LoadSummary(collection=collection, photos=len(photos))

    monkeypatch.setattr(samples, "load_photos", keep)
    return collections


def truth_of_elpv() -> dict[str, list[str]]:
    lines = (samples._package_folder("elpv_dataset") / "data" / "labels.csv").read_text().splitlines()
    names = {"0.0": 0, "0.3333333333333333": 1, "0.6666666666666666": 2, "1.0": 3}
    return {
        f"elpv-{Path(file).stem}": [f"{kind}crystalline", GRADES[names[chance]]]
        for file, chance, kind in map(str.split, lines)
    }


def test_elpv_is_mostly_unlabelled_and_its_test_set_tells_the_truth(loaded: dict[str, list[SourcePhoto]]) -> None:
    load_elpv()
    photos, truth = loaded["elpv"], truth_of_elpv()
    assert len(photos) == len({photo.id for photo in photos}) == len(truth) == 2624
    test = [photo for photo in photos if photo.in_test_set]
    labelled = [photo for photo in photos if photo.annotations and not photo.in_test_set]
    assert (len(test), len(labelled)) == (525, 500)
    for photo in test:
        assert photo.has_review
        assert [note.taxonomy for note in photo.annotations] == [[truth[photo.id]]] * 3
    assert photos[0].read()[:8] == b"\x89PNG\r\n\x1a\n"
    assert photos[0].name == "cell0001.png"


def test_simulated_annotators_sometimes_disagree_and_reviews_settle_it(loaded: dict[str, list[SourcePhoto]]) -> None:
    load_elpv()
    truth = truth_of_elpv()
    labelled = [photo for photo in loaded["elpv"] if photo.annotations and not photo.in_test_set]
    assert Counter(len(photo.annotations) for photo in labelled).keys() == {1, 2, 3}
    said = [(photo, note.taxonomy[0]) for photo in labelled for note in photo.annotations]
    assert all(path == truth[photo.id] for photo, path in said if photo.has_review)
    free = [(truth[photo.id], path) for photo, path in said if not photo.has_review]
    assert 0.02 < sum(path[0] != right[0] for right, path in free) / len(free) < 0.09
    distances = Counter(abs(GRADES.index(path[1]) - GRADES.index(right[1])) for right, path in free)
    assert distances.keys() == {0, 1}
    assert 0.10 < distances[1] / len(free) < 0.20
    assert 0.2 < sum(photo.has_review for photo in labelled) / len(labelled) < 0.4


def test_the_seed_decides_everything(loaded: dict[str, list[SourcePhoto]]) -> None:
    def state(seed: int) -> list[object]:
        load_elpv(limit=300, seed=seed)
        return [(photo.id, photo.annotations, photo.in_test_set, photo.has_review) for photo in loaded["elpv"]]

    assert state(3) == state(3)
    assert state(3) != state(4)


def test_more_labels_keep_those_there_are(loaded: dict[str, list[SourcePhoto]]) -> None:
    def labelled(count: int) -> dict[str, object]:
        load_elpv(labelled=count, test=400)
        return {photo.id: photo.annotations for photo in loaded["elpv"] if photo.annotations}

    few, many = labelled(100), labelled(900)
    assert len(few), len(many) == (500, 1300)
    assert few.items() <= many.items()


def test_digits(loaded: dict[str, list[SourcePhoto]]) -> None:
    load_digits()
    photos = loaded["digits"]
    roles = Counter((bool(photo.annotations), photo.in_test_set) for photo in photos)
    assert roles == {(False, False): 3000, (True, False): 1000, (True, True): 1000}
    assert image_size(photos[0].read()) == (28, 28)
    paths = {tuple(path) for photo in photos for note in photo.annotations for path in note.taxonomy}
    assert paths == {("digit", str(digit)) for digit in range(10)}


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 9999}, {"test": -1}, {"labelled": 2000, "test": 1000}])
def test_numbers_that_do_not_fit(wrong: dict[str, int]) -> None:
    with pytest.raises(SparsightError, match="expected"):
        load_elpv(**wrong)


def photo_file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (6, 4)).save(path)
    return path


def test_folders_are_labels(tmp_path: Path, loaded: dict[str, list[SourcePhoto]]) -> None:
    root = tmp_path / "My Pets"
    for name in ("dog/poodle/1.png", "dog/2.JPG", "unlabelled/deep/3.webp", "4.tiff", "a%b/5.png"):
        photo_file(root / name)
    load_folder(root)
    labels = {photo.name: [note.taxonomy for note in photo.annotations] for photo in loaded["my-pets"]}
    assert labels == {
        "dog/poodle/1.png": [[["dog", "poodle"]]],
        "dog/2.JPG": [[["dog"]]],
        "unlabelled/deep/3.webp": [],
        "4.tiff": [],
        "a%b/5.png": [[["a%b"]]],
    }


def test_files_that_do_not_count(
    tmp_path: Path, loaded: dict[str, list[SourcePhoto]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, outside = tmp_path / "pets", photo_file(tmp_path / "secret.png")
    photo_file(root / "dog" / "1.png")
    (root / "dog" / "broken.jpg").write_bytes(b"")
    (root / "notes.txt").write_text("x")
    photo_file(root / ".hidden.png")
    photo_file(root / ".git" / "x.png")
    photo_file(root / "odd\nname.png")
    (root / "dog" / "out.png").symlink_to(outside)
    (root / "dog" / "in.png").symlink_to(root / "dog" / "1.png")
    (root / "linked").symlink_to(tmp_path, target_is_directory=True)
    (root / "gone.png").symlink_to(root / "nowhere.png")
    os.mkfifo(root / "pipe.png")
    monkeypatch.setattr(samples, "MAX_FILE_BYTES", 10_000)
    (root / "big.png").write_bytes(bytes(10_001))
    summary = load_folder(root)
    assert [photo.name for photo in loaded["pets"]] == ["dog/1.png", "dog/broken.jpg", "dog/in.png"]
    assert summary.skipped == {
        "not an image by its ending": 1,
        "hidden": 1,
        "a name with control characters, backslashes or broken UTF-8": 1,
        "a link that leads out of the folder": 1,
        "not a file": 2,
        "over 64 MiB": 1,
    }
    assert "Skipped 1 files: hidden." in str(summary)


def test_ids_come_from_the_path_below_the_folder(tmp_path: Path, loaded: dict[str, list[SourcePhoto]]) -> None:
    for place in ("here", "there"):
        photo_file(tmp_path / place / "dog" / "1.png")
        load_folder(tmp_path / place, name=f"pets-{place}")
        load_folder(tmp_path / place, name="pets")
        assert loaded["pets"][0].id != loaded[f"pets-{place}"][0].id
        assert loaded["pets"][0].id == "9a86262f67004681ffae7afbf9bd080b"


def test_a_folder_without_images_or_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match="holds no image"):
        load_folder(tmp_path, name="pets")
    with pytest.raises(SparsightError, match="is not a folder"):
        load_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["", "a", "Pets", "a/b", "../x", "pets?", "-pets", "x" * 64])
def test_names_that_cannot_be_a_container(name: str) -> None:
    with pytest.raises(SparsightError, match="can't name a collection"):
        check_collection_name(name)


@given(st.binary(max_size=200))
def test_the_size_of_rubbish_is_unknown(content: bytes) -> None:
    assert image_size(content) == (None, None)
