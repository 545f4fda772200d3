"""The step compare: sets classifiers that were tested on the same images beside each other."""

from dataclasses import dataclass
from pathlib import Path

from sparsight.steps.arguments import run_step

MODELS = ("pretrained", "pretrained_oversampled", "random_features", "scratch")
BASELINES = ("scratch", "random_features")


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inputs and outputs of the component compare."""

    pretrained: Path
    scratch: Path
    comparison: Path
    pretrained_oversampled: Path | None = None
    random_features: Path | None = None


def main(arguments: Arguments) -> None:
    """Compare the models given and track the result."""
    from sparsight.data.artefact import is_finished, new_artefact
    from sparsight.evaluation.comparison import SUMMARY, check_comparable, read_entry, write_comparison
    from sparsight.training.tracking import tracked_run

    folders = {name: getattr(arguments, name) for name in MODELS if getattr(arguments, name) is not None}
    entries = {name: read_entry(folder) for name, folder in folders.items()}
    check_comparable(entries)
    parameters = {"models": list(entries)}
    if not is_finished(arguments.comparison, "comparison", parameters):
        with new_artefact(arguments.comparison, "comparison", parameters) as draft:
            write_comparison(draft.folder, entries, BASELINES)
            draft.counts.update(models=len(entries), test_images=next(iter(entries.values())).metrics.images)
    print((arguments.comparison / SUMMARY).read_text(encoding="utf-8"), flush=True)
    with tracked_run("compare", {"models": ", ".join(entries)}) as tracker:
        tracker.metrics({f"{name}_test_macro_f1": entry.metrics.macro_f1 for name, entry in entries.items()})
        tracker.folder(arguments.comparison, "comparison")
    print(f"{SUMMARY} and index.html are in {arguments.comparison}", flush=True)


if __name__ == "__main__":
    run_step(Arguments, main)
