"""The step evaluate_sampling: trains networks on chosen photos and on random ones, and compares them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsight.steps.arguments import run_step

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sparsight.data.embeddings import Embeddings
    from sparsight.evaluation.sampling import Repeat
    from sparsight.training.labelled import LabelledSplits
    from sparsight.training.probe import Probe

_PLACES = {"images", "embeddings", "evaluation"}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inputs and outputs of the component evaluate_sampling."""

    images: Path
    embeddings: Path
    evaluation: Path
    budget: int = 1000
    strategy: str = "auto"
    metric: str = "cosine"
    reduction: str = "none"
    dimension: int = 0
    neighbours: int = 15
    min_dist: float = 0.0
    repeats: int = 5
    backbone: str = "resnet18"
    small_image_stem: str = "on"
    epochs: int = 100
    patience: int = 15
    batch_size: int = 64
    learning_rate: float = 0.05
    weight_decay: float = 0.0005
    crop_scale_min: float = 0.6
    horizontal_flip: float = 0.5
    precision: str = "auto"
    seed: int = 0


def main(arguments: Arguments) -> None:
    """Evaluate where that isn't done yet, and track the numbers."""
    import json

    from sparsight.data.artefact import is_finished, read_manifest
    from sparsight.evaluation.sampling import NUMBERS, SUMMARY
    from sparsight.training.tracking import tracked_run

    plain = {name: value for name, value in vars(arguments).items() if name not in _PLACES}
    made_by = {
        name: dict(read_manifest(getattr(arguments, name), name).parameters) for name in ("images", "embeddings")
    }
    parameters = {**plain, **made_by}
    if not is_finished(arguments.evaluation, "sampling_evaluation", parameters):
        _evaluate(arguments, parameters)
    print((arguments.evaluation / SUMMARY).read_text(encoding="utf-8"), flush=True)
    with tracked_run("evaluate_sampling", plain) as tracker:
        numbers = json.loads((arguments.evaluation / NUMBERS).read_text(encoding="utf-8"))
        tracker.metrics({name: numbers[name] for name in ("chosen_accuracy", "at_random_accuracy", "gain")})
        tracker.folder(arguments.evaluation, "sampling_evaluation")
    print(f"{SUMMARY} and index.html are in {arguments.evaluation}", flush=True)


def _evaluate(arguments: Arguments, parameters: dict[str, Any]) -> None:
    from sparsight.data.artefact import new_artefact
    from sparsight.data.embeddings import Embeddings
    from sparsight.data.packed import PackedImages
    from sparsight.errors import SparsightError
    from sparsight.evaluation.sampling import write_sampling
    from sparsight.selection.strategies import resolve_strategy
    from sparsight.training.labelled import LabelledSplits, distinct

    splits = LabelledSplits.of(PackedImages(arguments.images))
    positions = distinct(splits.images, splits.train)[0]
    if not 1 <= arguments.budget < len(positions):
        raise SparsightError(
            f"budget is {arguments.budget:,}; expected 1 to {len(positions) - 1:,}: with all training photos there is "
            "nothing to choose."
        )
    rows = _rows_of(splits, positions, Embeddings(arguments.embeddings))
    repeats = list(compare_with_random(arguments, splits, positions, rows))
    strategy, _ = resolve_strategy(arguments.strategy, arguments.budget)
    with new_artefact(arguments.evaluation, "sampling_evaluation", parameters) as draft:
        write_sampling(draft.folder, repeats, strategy=strategy, budget=arguments.budget, test_images=len(splits.test))
        draft.counts.update(repeats=len(repeats), candidates=len(positions), test_images=len(splits.test))


def _rows_of(
    splits: "LabelledSplits", positions: "NDArray[np.int64]", embeddings: "Embeddings"
) -> "NDArray[np.float32]":
    """Find the training photos' embeddings, in the order of their positions."""
    import numpy as np

    from sparsight.errors import SparsightError

    place = {name: row for row, name in enumerate(embeddings.index["id"])}
    names = splits.images.index["id"].to_numpy(object)[positions]
    missing = [name for name in names if name not in place]
    if missing:
        raise SparsightError(
            f"{embeddings.folder} lacks {len(missing):,} of {len(names):,} training photos; the first is {missing[0]}.",
            hint="Embed the very images that networks are trained on.",
        )
    found: NDArray[np.float32] = embeddings.values[np.array([place[name] for name in names], np.int64)]
    return found


def _probe(arguments: Arguments, image_size: int) -> "Probe":
    from sparsight.models.backbones import describe_backbone
    from sparsight.models.precision import best_device, resolve_precision
    from sparsight.training.probe import Probe

    device = best_device()
    return Probe(
        backbone=describe_backbone(arguments.backbone, arguments.small_image_stem, image_size),
        epochs=arguments.epochs,
        patience=arguments.patience,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        weight_decay=arguments.weight_decay,
        crop_scale_min=arguments.crop_scale_min,
        horizontal_flip=arguments.horizontal_flip,
        device=device,
        precision=resolve_precision(arguments.precision, device),
    )


def compare_with_random(
    arguments: Arguments, splits: "LabelledSplits", positions: "NDArray[np.int64]", embeddings: "NDArray[np.float32]"
) -> "Iterator[Repeat]":
    """Choose and train again and again, with seeds from `seed` on.

    Args:
        arguments: how often, how many photos, by which strategy, what is trained and how; no artefact is read here.
        splits: the images that networks are trained, stopped and tested on.
        positions: int64, N: of the training images to choose from.
        embeddings: float32, N x D, of these images.
    """
    import numpy as np

    from sparsight.evaluation.sampling import Repeat
    from sparsight.selection import Reduction, select
    from sparsight.selection.strategies import resolve_strategy

    strategy, _ = resolve_strategy(arguments.strategy, arguments.budget)
    probe = _probe(arguments, splits.images.size[0])
    reduction = Reduction(
        method=arguments.reduction,
        dimension=arguments.dimension,
        neighbours=arguments.neighbours,
        min_dist=arguments.min_dist,
    )
    for number in range(arguments.repeats):
        seed = arguments.seed + number
        chosen = select(
            embeddings, arguments.budget, strategy=strategy, metric=arguments.metric, reduction=reduction, seed=seed
        ).rows
        at_random = np.random.default_rng(seed).permutation(len(positions))[: arguments.budget]
        print(f"Repeat {number + 1} of {arguments.repeats}: photos chosen by {strategy}", flush=True)
        by_choice = probe.accuracy(splits, positions[chosen], seed)
        print(f"Repeat {number + 1} of {arguments.repeats}: photos at random", flush=True)
        repeat = Repeat(seed=seed, chosen=by_choice, at_random=probe.accuracy(splits, positions[at_random], seed))
        print(f"{strategy} {repeat.chosen:.4f}, at random {repeat.at_random:.4f}", flush=True)
        yield repeat


if __name__ == "__main__":
    run_step(Arguments, main)
