"""How many steps run side by side on this machine."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from sparsight.local.graph import Step

MEMORY_PER_STEP = 4 * 2**30


@dataclass(frozen=True)
class Room:
    """How many steps this machine takes side by side.

    Args:
        steps: at most so many, whatever they need.
        cores: what they keep busy together; one step always runs.
    """

    steps: int
    cores: int

    @classmethod
    def of_this_machine(cls) -> "Room":
        """Measure: every core, and 4 GB of the memory that is free now for each step."""
        import psutil

        return cls(max(1, psutil.virtual_memory().available // MEMORY_PER_STEP), os.cpu_count() or 1)

    def takes(self, step: Step, running: Sequence[Step]) -> bool:
        """Tell whether a step can start beside those that run."""
        busy = sum(each.cores for each in running)
        return not running or (len(running) < self.steps and busy + step.cores <= self.cores)
