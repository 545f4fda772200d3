"""The step fetch_model: fetches the version that a registered model's name means now, for the steps after it."""

from dataclasses import dataclass
from pathlib import Path

from sparsight.steps.arguments import run_step


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inputs and outputs of the component fetch_model."""

    model: str
    model_folder: Path
    preprocessing: Path


def main(arguments: Arguments) -> None:
    """Find, copy, and say how its images are to be."""
    from sparsight.data.artefact import copy_artefact, is_finished, new_artefact
    from sparsight.models.folder import read_description
    from sparsight.stores.models import model_folder

    with model_folder(arguments.model) as (folder, version):
        wanted = read_description(folder).preprocessing
        copy_artefact(folder, arguments.model_folder)
    print(f"{version or arguments.model}: images of {wanted.image_size} pixels, resize {wanted.resize}.", flush=True)
    parameters = {"image_size": wanted.image_size, "resize": wanted.resize}
    if not is_finished(arguments.preprocessing, "preprocessing", parameters):
        with new_artefact(arguments.preprocessing, "preprocessing", parameters):
            pass


if __name__ == "__main__":
    run_step(Arguments, main)
