"""Step sync_labels: bring what people said in Label Studio into the photos' documents."""

from dataclasses import dataclass
from pathlib import Path

from sparsight.data.sync.request import SyncRequest
from sparsight.steps.arguments import run_step


@dataclass(frozen=True, kw_only=True)
class Arguments(SyncRequest):
    """Inputs and outputs of the component sync_labels; components/sync_labels/component.yml says what they mean."""

    synced_labels: Path


def main(arguments: Arguments) -> None:
    """Sync, and tell what was done."""
    report = arguments.run()
    report.write(arguments.synced_labels, arguments.parameters())
    print(report, flush=True)


if __name__ == "__main__":
    run_step(Arguments, main)
