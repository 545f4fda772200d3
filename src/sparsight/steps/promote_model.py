"""Step promote_model: put the newest version of a model into production if it beats the one that is there."""

import json
from dataclasses import dataclass
from pathlib import Path

from sparsight.steps.arguments import run_step


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inputs and outputs of the component; components/promote_model/component.yml says what they mean."""

    model: Path
    images: Path
    model_name: str = "classifier"
    metric: str = "macro_f1"
    min_gain: float = 0.0
    verdict: Path


def main(arguments: Arguments) -> None:
    """Judge, promote, and write the verdict."""
    from sparsight.data.artefact import is_finished, new_artefact, read_manifest, write_text
    from sparsight.evaluation.promotion import promote
    from sparsight.stores.registry import open_registry
    from sparsight.training.publishing import version_of

    read_manifest(arguments.model, "model")
    registry = open_registry()
    version = version_of(registry, arguments.model_name, arguments.model)
    parameters = {"version": version.reference, "metric": arguments.metric, "min_gain": arguments.min_gain}
    if is_finished(arguments.verdict, "verdict", parameters):
        return
    with new_artefact(arguments.verdict, "verdict", parameters) as draft:
        verdict = promote(
            registry,
            version.reference,
            metric=arguments.metric,
            by=arguments.min_gain,
            images=arguments.images,
        )
        summary = f"{'Promoted' if verdict.allowed else 'Not promoted'}: {verdict.reason}"
        told = {
            "candidate": verdict.candidate.reference,
            "incumbent": verdict.incumbent.reference if verdict.incumbent else None,
            "promoted": verdict.allowed,
            "gain": verdict.gain,
            "reason": verdict.reason,
        }
        write_text(draft.folder / "verdict.json", json.dumps(told, indent=2) + "\n")
        write_text(draft.folder / "summary.txt", f"{summary}\n")
    print(summary)


if __name__ == "__main__":
    run_step(Arguments, main)
