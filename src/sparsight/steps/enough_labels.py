"""Step enough_labels: pass a dataset on if enough annotations came in since a model was trained."""

from dataclasses import dataclass
from pathlib import Path

from sparsight.data.artefact import copy_artefact
from sparsight.errors import NothingToDo
from sparsight.steps.arguments import run_step


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inputs and outputs of the component; components/enough_labels/component.yml says what they mean."""

    dataset: Path
    model_name: str = "classifier"
    min_new: int = 50
    new_dataset: Path


def main(arguments: Arguments) -> None:
    """Compare, and copy the dataset or end the run."""
    from sparsight.evaluation.annotations import annotations_since
    from sparsight.stores.registry import open_registry

    found = annotations_since(open_registry(), arguments.model_name, arguments.dataset)
    if found.new < arguments.min_new:
        raise NothingToDo(f"{found}, {arguments.min_new:,} are asked for.")
    print(f"{found}.")
    copy_artefact(arguments.dataset, arguments.new_dataset)


if __name__ == "__main__":
    run_step(Arguments, main)
