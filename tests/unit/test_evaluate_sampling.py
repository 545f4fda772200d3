"""The step evaluate_sampling: choosing is worth something where random photos miss a class, and is said to be."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some
from packed_images import write_packed_images
from scipy.stats import ttest_rel

from sparsight.data.artefact import new_artefact
from sparsight.errors import SparsightError
from sparsight.evaluation.sampling import Gain, Repeat
from sparsight.steps.evaluate_sampling import Arguments, main

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
SIZES = {"train": (150, 6, 6), "valid": (12, 12, 12), "test": (40, 40, 40)}
SHARES = some.floats(0, 1, width=32)


@pytest.fixture(autouse=True)
def tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "sampling")


@pytest.fixture
def arguments(tmp_path: Path) -> Arguments:
    """Three patterns, one of them common and two rare, whose embeddings lie far apart."""
    random = np.random.default_rng(0)
    patterns = np.zeros((3, 16, 16))
    patterns[0, :8], patterns[1, :, :8], patterns[2, ::2] = 1, 1, 1
    owners = np.concatenate([np.repeat(np.arange(3), sizes) for sizes in SIZES.values()])
    splits = np.repeat(list(SIZES), [sum(sizes) for sizes in SIZES.values()])
    pixels = 60 + 120 * patterns[owners] + random.normal(0, 25, (len(owners), 16, 16))
    images = np.repeat(pixels.clip(0, 255).astype(np.uint8)[..., None], 3, axis=3)
    folder = write_packed_images(tmp_path / "images", images, [f"kind/{each}" for each in owners], list(splits))
    values = 5 * np.eye(3, 8)[owners] + random.normal(0, 0.3, (len(owners), 8))
    with new_artefact(tmp_path / "embeddings", "embeddings", {"model": "toy"}) as draft:
        np.save(draft.folder / "embeddings.npy", values.astype(np.float32))
        index = pd.read_parquet(folder / "index.parquet")[["id", "split", "label"]]
        index.to_parquet(draft.folder / "index.parquet", index=False)
    return Arguments(
        images=folder,
        embeddings=tmp_path / "embeddings",
        evaluation=tmp_path / "evaluation",
        budget=9,
        strategy="farthest_point",
        repeats=3,
        backbone="resnet10_narrow",
        epochs=12,
        batch_size=9,
        horizontal_flip=0.0,
        crop_scale_min=1.0,
    )


def numbers(folder: Path) -> dict[str, float]:
    return json.loads((folder / "sampling.json").read_text())


def test_choosing_is_worth_what_random_photos_miss(arguments: Arguments, capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments)
    found = numbers(arguments.evaluation)
    assert found["chosen_accuracy"] > 0.8, "all three kinds are among what was chosen; chance is 0.33"
    assert found["gain"] > 0.15
    assert found["p_value"] < 0.2
    repeats = pd.read_csv(arguments.evaluation / "repeats.csv")
    assert repeats["seed"].tolist() == [0, 1, 2]
    assert (repeats["chosen"] - repeats["at_random"]).mean() == pytest.approx(found["gain"])
    assert "farthest_point" in capsys.readouterr().out
    assert (arguments.evaluation / "index.html").read_text().count("data:image/png") == 1


def test_random_against_random_begins_with_the_same_photos_and_ends_with_the_same_number(arguments: Arguments) -> None:
    main(dataclasses.replace(arguments, strategy="random", repeats=1, epochs=2))
    found = numbers(arguments.evaluation)
    assert found["gain"] == 0
    assert found["p_value"] is None


def test_a_finished_evaluation_is_kept(arguments: Arguments) -> None:
    quick = dataclasses.replace(arguments, repeats=1, epochs=1)
    main(quick)
    before = (quick.evaluation / "sampling.json").stat().st_mtime_ns
    main(quick)
    assert (quick.evaluation / "sampling.json").stat().st_mtime_ns == before


def test_wrong_input_is_told(arguments: Arguments) -> None:
    with pytest.raises(SparsightError, match="budget is 162; expected 1 to 161"):
        main(dataclasses.replace(arguments, budget=162))
    other = arguments.embeddings.with_name("other")
    with new_artefact(other, "embeddings", {"model": "toy"}) as draft:
        np.save(draft.folder / "embeddings.npy", np.zeros((1, 8), np.float32))
        pd.DataFrame({"id": ["a"], "split": ["train"], "label": [""]}).to_parquet(draft.folder / "index.parquet")
    with pytest.raises(SparsightError, match="lacks 162 of 162 training photos; the first is image-00000"):
        main(dataclasses.replace(arguments, embeddings=other))
    assert not arguments.evaluation.exists()


@given(some.lists(some.tuples(SHARES, SHARES), min_size=2, max_size=8))
def test_the_test_is_students_paired_one(pairs: list[tuple[float, float]]) -> None:
    gain = Gain.of([Repeat(seed=0, chosen=one, at_random=other) for one, other in pairs])
    chosen, at_random = np.array(pairs).T
    if gain.p_value is None:
        assert np.ptp(chosen - at_random) == pytest.approx(0, abs=1e-12)
        return
    expected = ttest_rel(chosen, at_random)
    assert gain.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    interval = expected.confidence_interval(0.95)
    assert (gain.low, gain.high) == pytest.approx((interval.low, interval.high))
