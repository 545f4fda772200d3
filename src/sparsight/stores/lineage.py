"""What a registered model came from: recorded with its version, so that it can be told, compared and made again."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

LIMIT = 1000
"""Characters of a value: what Azure ML takes; MLflow takes 5,000."""
_METRIC = "sparsight.metric."
_TEXTS = {
    "kind": "sparsight.kind",
    "backbone": "sparsight.backbone",
    "step": "sparsight.step",
    "run_id": "sparsight.run_id",
    "pipeline_run": "sparsight.run",
    "code_version": "sparsight.code_version",
    "base_model": "sparsight.base_model",
    "dataset_digest": "sparsight.dataset.digest",
    "test_digest": "sparsight.test.digest",
    "weights_digest": "sparsight.weights.digest",
}
_OBJECTS = {"dataset_query": "sparsight.dataset.query", "dataset_counts": "sparsight.dataset.counts"}


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Where a model is from, and how good it was. What isn't known is empty.

    Attributes:
        kind: `backbone`, `classifier` or `autoencoder`.
        backbone: its network.
        step: the component that trained it.
        run_id: the MLflow run, on Azure ML also the step's job.
        pipeline_run: the run of the whole pipeline: its folder in `runs/`, or its job.
        code_version: as git describes it.
        base_model: the version or weights it stands on.
        dataset_query: what was asked of the database, and how labels and splits were made: connect_db's inputs.
        dataset_counts: photos by split.
        dataset_digest: equal for the same photos with the same labels in the same splits.
        metrics: numbers by name; of a classifier those on the test split.
        test_digest: equal for the same test images with the same labels; scores compare only where it is.
        test_images: their number.
        weights_digest: of weights.safetensors; tells versions apart.
    """

    kind: str
    backbone: str
    step: str
    run_id: str
    pipeline_run: str = ""
    code_version: str = ""
    base_model: str = ""
    dataset_query: Mapping[str, Any] = field(default_factory=dict)
    dataset_counts: Mapping[str, int] = field(default_factory=dict)
    dataset_digest: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    test_digest: str = ""
    test_images: int = 0
    weights_digest: str = ""

    def tags(self) -> dict[str, str]:
        """Write it as tags, each within what a registry takes; long values of the query are cut."""
        tags = {tag: getattr(self, name)[:LIMIT] for name, tag in _TEXTS.items()}
        tags |= {tag: fitted(getattr(self, name)) for name, tag in _OBJECTS.items() if getattr(self, name)}
        tags |= {f"{_METRIC}{name}": repr(float(value)) for name, value in self.metrics.items()}
        tags["sparsight.test.images"] = str(self.test_images) if self.test_images else ""
        return {tag: value for tag, value in tags.items() if value}

    def to_json(self) -> str:
        """Write all of it, uncut."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, default=str) + "\n"

    @classmethod
    def of_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))

    @classmethod
    def of_tags(cls, tags: Mapping[str, str]) -> Self:
        """Read it from a version's tags; what is missing or can't be read is empty, as others may write tags, too."""
        images = tags.get("sparsight.test.images", "")
        found: dict[str, Any] = {name: tags.get(tag, "") for name, tag in _TEXTS.items()}
        found |= {name: _object(tags.get(tag, "")) for name, tag in _OBJECTS.items()}
        return cls(**found, metrics=_metrics(tags), test_images=int(images) if images.isdecimal() else 0)


def fitted(content: Mapping[str, Any]) -> str:
    """Write a JSON object of at most LIMIT characters: long values are cut, the fewer the better, and end in `...`."""
    for length in (LIMIT, 200, 100, 50, 20):
        text = json.dumps({key: _cut(value, length) for key, value in content.items()}, default=str)
        if len(text) <= LIMIT:
            return text
    return json.dumps({"cut": f"{len(content)} values, too many for a tag; lineage.json holds them"})


def _cut(value: Any, length: int) -> Any:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return value if len(text) <= length else f"{text[:length]}..."


def _metrics(tags: Mapping[str, str]) -> dict[str, float]:
    found = {}
    for tag, value in tags.items():
        if tag.startswith(_METRIC):
            try:
                found[tag.removeprefix(_METRIC)] = float(value)
            except ValueError:
                continue
    return found


def _object(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
