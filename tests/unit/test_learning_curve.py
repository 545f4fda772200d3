"""The learning curve: which versions are on it, in which order, and that it can be drawn."""

from PIL import Image

from sparsight.evaluation.learning_curve import learning_curve, plot_learning_curve
from sparsight.stores.lineage import Lineage
from sparsight.stores.registry import ModelVersion


def version(number: int, annotations: int | None, score: float | None, *, digest="a" * 64, stage="candidate"):
    lineage = Lineage(
        kind="classifier",
        backbone="resnet18",
        step="train_classifier",
        run_id="r",
        dataset_counts={"train": 70} | ({} if annotations is None else {"annotations": annotations}),
        metrics={} if score is None else {"macro_f1": score},
        test_digest=digest,
    )
    return ModelVersion(name="photos", number=number, stage=stage, tags=lineage.tags())


def test_versions_are_ordered_by_annotations_and_those_that_tell_nothing_left_out():
    versions = [
        version(1, 100, 0.5),
        version(2, 300, 0.7, stage="production"),
        version(3, None, 0.9),
        version(4, 200, None),
        version(5, 200, 0.6),
    ]
    points = learning_curve(versions)
    assert [(point.reference, point.annotations, point.score) for point in points] == [
        ("photos/1", 100, 0.5),
        ("photos/5", 200, 0.6),
        ("photos/2", 300, 0.7),
    ]
    assert all(point.comparable for point in points)
    assert [point.stage for point in points] == ["candidate", "candidate", "production"]
    assert {point.photos for point in points} == {70}


def test_versions_measured_on_other_test_images_are_marked():
    points = learning_curve([version(1, 100, 0.9, digest="b" * 64), version(2, 200, 0.6), version(3, 300, 0.7)])
    assert [point.comparable for point in points] == [False, True, True]


def test_no_version_makes_no_curve():
    assert learning_curve([]) == []


def test_the_same_curve_is_drawn_alike(tmp_path):
    points = learning_curve(
        [version(1, 100, 0.9, digest="b" * 64), version(2, 200, 0.6), version(3, 400, 0.7, stage="production")]
    )
    for name in ("one.png", "two.png"):
        plot_learning_curve(tmp_path / name, points, model="photos")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert image.size[0] > 600
