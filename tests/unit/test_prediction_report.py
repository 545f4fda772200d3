"""The page about predictions: it counts what it is told, shows the right photos, and keeps none but those."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packed_images import write_packed_images

from sparsight.data.packed import PackedImages
from sparsight.evaluation.prediction_report import TILES, PredictionSummary, write_prediction_report

EVIL = "<b>dog</b>"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> PackedImages:
    """100 photos, each of one grey that is its number."""
    pixels = np.repeat(np.arange(100, dtype=np.uint8), 8 * 8 * 3).reshape(100, 8, 8, 3)
    folder = tmp_path_factory.mktemp("images") / "images"
    return PackedImages(write_packed_images(folder, pixels, [""] * 100, ["train"] * 100))


def row(number: int, limit: float | None = 1.0) -> dict[str, Any]:
    distance = None if limit is None else number / 50
    return {
        "id": f"photo-{number}",
        "label": ("cat", EVIL, "")[number % 3],
        "score": 0.5 + number / 250,
        "entropy": abs(number - 40) / 100,
        "distance": distance,
        "unfamiliar": None if distance is None else distance > limit,
    }


def summary(limit: float | None = 1.0, batch: int = 30) -> PredictionSummary:
    found = PredictionSummary(limit)
    for start in range(0, 100, batch):
        numbers = np.arange(start, min(100, start + batch))
        found.add(numbers, [row(number, limit) for number in numbers.tolist()])
    return found


def test_it_counts_whatever_the_batches(images: PackedImages) -> None:
    for found in (summary(batch=7), summary(batch=100)):
        assert found.photos == {"cat": 34, EVIL: 33, "no answer": 33}
        assert found.unfamiliar.total() == 49
        scores, distances = found.histograms()
        assert sum(counts.sum() for counts in scores.counts.values()) == 100
        assert distances.counts["unfamiliar"].sum() + distances.counts["familiar"].sum() == 100
        assert 49 <= distances.counts["unfamiliar"].sum() <= 50  # one lies on the limit itself
        assert "49% of the photos are unfamiliar" in found.notes(0.95)[0]
        assert found.notes(0.7) == []


def test_the_gallery_shows_the_least_sure_and_the_least_familiar(images: PackedImages) -> None:
    gallery = summary().gallery(images)
    sure = [int(photo.image[0, 0, 0]) for photo in gallery["Least sure"]]
    far = [int(photo.image[0, 0, 0]) for photo in gallery["Least familiar"]]
    assert sure == list(range(99, 99 - TILES, -1))
    assert far == list(range(99, 99 - TILES, -1))
    assert gallery["Least familiar"][0].line == "distance 1.98"
    assert gallery["Least sure"][2].title == "<b>dog</b> 89%"


def test_the_page_stands_alone_escapes_labels_and_is_the_same_again(images: PackedImages, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_prediction_report(tmp_path / name, images, summary(), lead="What photos/3 says.", notes=["Mind & see."])
    page = (tmp_path / "one" / "index.html").read_text()
    assert EVIL not in page
    assert "&lt;b&gt;dog&lt;/b&gt;" in page
    assert "Mind &amp; see." in page
    assert page.count("data:image/png;base64,") == 2
    for file in ("index.html", "summary.txt"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    told = (tmp_path / "one" / "summary.txt").read_text().splitlines()
    assert told[0].split() == ["label", "photos", "mean", "score", "unfamiliar"]
    assert told[1].split() == ["cat", "34", "0.698", "17"]


def test_a_model_that_knows_nothing_of_its_photos_says_so(images: PackedImages, tmp_path: Path) -> None:
    found = summary(limit=None)
    assert len(found.histograms()) == 1
    assert found.gallery(images)["Least familiar"] == []
    write_prediction_report(tmp_path, images, found, lead="", notes=found.notes(0.95))
    assert "holds nothing of its training photos" in (tmp_path / "index.html").read_text()
    assert (tmp_path / "summary.txt").read_text().splitlines()[1].split()[-1] == "-"
