"""Lineage as tags: nothing is lost that fits, nothing is longer than a registry takes."""

import json

from hypothesis import given
from hypothesis import strategies as st

from sparsight.stores.lineage import LIMIT, Lineage, fitted

TEXT = st.text(max_size=60)
FINITE = st.floats(allow_nan=False)


def lineage(**others: object) -> Lineage:
    return Lineage(
        **{"kind": "classifier", "backbone": "resnet18", "step": "train_classifier", "run_id": "7", **others}
    )


@given(
    TEXT,
    st.dictionaries(st.text("abcdefg", min_size=1, max_size=4), TEXT | st.integers() | st.none(), max_size=3),
    st.dictionaries(st.sampled_from(["macro_f1", "accuracy"]), FINITE),
    st.integers(0, 10**9),
)
def test_what_fits_comes_back(run: str, query: dict, metrics: dict, images: int) -> None:
    told = lineage(pipeline_run=run, dataset_query=query, metrics=metrics, test_images=images, test_digest="d")
    assert Lineage.of_tags(told.tags()) == told


@given(st.dictionaries(st.text(max_size=40), st.text(max_size=3000) | st.lists(st.text(max_size=50)), max_size=60))
def test_no_tag_is_longer_than_a_registry_takes(query: dict) -> None:
    tags = lineage(dataset_query=query, base_model="x" * 5000).tags()
    assert all(len(value) <= LIMIT for value in tags.values())
    assert isinstance(json.loads(fitted(query)), dict)


def test_only_long_values_are_cut() -> None:
    content = json.loads(fitted({"where": "c.width > 300 AND " * 100, "containers": "elpv", "seed": 0}))
    assert content["containers"] == "elpv"
    assert content["seed"] == 0
    assert content["where"].endswith("...")


def test_tags_that_others_wrote_are_no_error() -> None:
    tags = {"sparsight.metric.macro_f1": "good", "sparsight.dataset.query": "[", "sparsight.test.images": "many"}
    assert Lineage.of_tags(tags) == Lineage(kind="", backbone="", step="", run_id="")
