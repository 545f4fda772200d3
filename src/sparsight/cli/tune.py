"""`tune --interactive`: an autoencoder tuned by hand: asks for its shape, trains it, shows it, and asks again."""

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsight.cli.stores import NoServices, stores_open
from sparsight.errors import SparsightError

if TYPE_CHECKING:
    from sparsight.tuning.inputs import Scalar, StepInput

ASKED = ("layers", "filter_size", "filters", "epochs", "batch_size")
"""Inputs of train_autoencoder that people are asked for."""
_FIXED = {"design": "reference", "binary": "False", "channels": "2", "cell": "2", "model_name": "by-hand"}
_NEXT = ("repeat", "save", "load", "quit")


def tune(
    context: typer.Context,
    images: Annotated[
        Path | None, typer.Argument(help="A folder of packed images, as data_prep writes it; by default the newest.")
    ] = None,
    interactive: Annotated[bool, typer.Option("--interactive", help="Try an autoencoder's shapes by hand.")] = False,
    no_services: NoServices = False,
) -> None:
    """Tune an autoencoder by hand: give its layers, filters, epochs and batch size, see what comes out, go on."""
    if not interactive:
        raise SparsightError(
            "By hand, with questions, tunes --interactive.",
            hint="A sampler tunes any training step: python execute.py run tune",
        )
    from sparsight.data.packed import PackedImages

    root: Path = context.obj
    found = images or _newest_images(root)
    packed = PackedImages(found)
    print(f"{found}: {len(packed):,} images of {packed.size[0]} x {packed.size[1]} pixels.")
    with stores_open("mlflow", no_services=no_services):
        _sit(root, found.absolute())


def _sit(root: Path, images: Path) -> None:
    """Ask, train and show until nobody wants to go on."""
    folder, inputs = root / ".sparsight" / "by_hand", _inputs()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    chosen = {name: default for name, (_, default) in inputs.items()}
    model: Path | None = None
    answer, number = "repeat", 0
    while answer != "quit":
        with _told():
            if answer == "repeat":
                number += 1
                chosen = {name: _ask(allowed, chosen[name]) for name, (allowed, _) in inputs.items()}
                model = _train(images, chosen, folder / str(number))
                _show(model)
            elif answer == "save":
                _save(model)
            elif answer == "load":
                model, chosen = _load(chosen)
                _show(model)
        answer = _ask_next()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tell a mistake and go on."""
    try:
        yield
    except SparsightError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)


def _inputs() -> "dict[str, tuple[StepInput, int]]":
    """What people are asked for: what is allowed, and the default."""
    from sparsight.local.files import read_yaml
    from sparsight.tuning.inputs import StepInput

    component = Path(__file__).resolve().parents[3] / "components" / "train_autoencoder" / "component.yml"
    declared = read_yaml(component)["inputs"]
    return {name: (StepInput.declared(name, int, declared[name]), declared[name]["default"]) for name in ASKED}


def _ask(allowed: "StepInput", default: int) -> int:
    def read(text: str) -> int:
        try:
            return int(allowed.parse(str(text)))
        except SparsightError as error:
            raise typer.BadParameter(str(error)) from error

    words = allowed.name.replace("_", " ").capitalize()
    answer: int = typer.prompt(words, default=default, value_proc=read)
    return answer


def _ask_next() -> str:
    def read(text: str) -> str:
        if text not in _NEXT:
            raise typer.BadParameter(f"expected one of {', '.join(_NEXT)}.")
        return text

    answer: str = typer.prompt(f"Next ({', '.join(_NEXT)})", default=_NEXT[0], value_proc=read)
    return answer


def _newest_images(root: Path) -> Path:
    found = [path.parent for path in root.glob("runs/*/*/outputs/images/manifest.json")]
    if not found:
        raise SparsightError(
            f"There are no packed images in {root / 'runs'}.",
            hint="Make some, for instance by python execute.py run compress, or give a folder of them.",
        )
    return max(found, key=lambda path: (path / "manifest.json").stat().st_mtime)


def _train(images: Path, chosen: Mapping[str, int], folder: Path) -> Path:
    """Run the step, say what it says after each epoch, and return the model's folder.

    Raises:
        SparsightError: it failed.
    """
    from sparsight.tuning.trial_process import Place, reason_in, start_trial

    place = Place(folder=folder)
    inputs: dict[str, Scalar | Path] = {"images": images, **_FIXED, **chosen}
    process = start_trial("train_autoencoder", inputs, place, None, {"MLFLOW_EXPERIMENT_NAME": "by-hand"})
    try:
        code = _follow(process, place.log)
    finally:
        process.end()
    if code:
        raise SparsightError(reason_in(place.log), hint=f"All that the step said: {place.log}")
    return place.model


def _follow(process: Any, log: Path) -> int:
    shown = 0
    while True:
        code: int | None = process.poll()
        lines = [
            line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if "valid_loss" in line
        ]
        for line in lines[shown:]:
            print(line, flush=True)
        shown = len(lines)
        if code is not None:
            return code
        time.sleep(0.2)


def _show(model: Path) -> None:
    from sparsight.cli.text_plot import draw

    content = json.loads((model / "report" / "metrics.json").read_text(encoding="utf-8"))
    for title, name in (("Loss", "loss"), ("Loss on images held out", "valid_loss")):
        print(f"\n{title}, epochs 1 to {len(content['history'])}:")
        print("\n".join(draw([epoch[name] for epoch in content["history"]])))
    print("\n" + ", ".join(f"{name} {value:.4g}" for name, value in content["final"].items()))
    print(f"Pictures and curves: open {model / 'report' / 'index.html'}\n")


def _save(model: Path | None) -> None:
    from sparsight.data.artefact import copy_artefact

    if model is None:
        raise SparsightError("There is no model to save yet.")
    target = Path(typer.prompt("Folder to save it in")).expanduser()
    if target.exists():
        raise SparsightError(f"{target} is there already.", hint="Give another name.")
    copy_artefact(model, target)
    print(f"Saved {target}")


def _load(chosen: Mapping[str, int]) -> tuple[Path, dict[str, int]]:
    """Open a saved model; its inputs become the defaults of the next one."""
    from sparsight.models.autoencoder_folder import read_autoencoder_model

    folder = Path(typer.prompt("Folder to load")).expanduser()
    inputs = read_autoencoder_model(folder).hyperparameters
    found = {name: int(inputs.get(name, value)) for name, value in chosen.items()}
    print(f"Loaded {folder}: {', '.join(f'{name} {value}' for name, value in found.items())}")
    return folder, found
