"""What test_lost_process.py runs: train_moco, in which a process kills itself once.

FATAL=MARK:LOCAL_RANK:CALL kills the process of that number on this machine before that call of the trainer's `step`,
counted from 1 over all epochs, or with CALL `finish` when the model is about to be written, unless MARK is gone.
"""

import os
import signal
import sys
from pathlib import Path

from sparsight.steps.arguments import run_step
from sparsight.steps.train_moco import Arguments, main
from sparsight.training import moco

mark, local_rank, call = os.environ.get("FATAL", "-:-:-").split(":")
calls = 0


def die() -> None:
    if os.environ.get("SPARSIGHT_LOCAL_RANK") == local_rank and Path(mark).exists():
        Path(mark).unlink()
        os.kill(os.getpid(), signal.SIGKILL)


class Mortal(moco.MoCoTrainer):
    """A trainer that counts its steps."""

    def step(self, parts):
        global calls
        calls += 1
        if str(calls) == call:
            die()
        return super().step(parts)

    def remove_checkpoint(self, folder):
        if call == "finish":
            die()
        super().remove_checkpoint(folder)


moco.MoCoTrainer = Mortal
run_step(Arguments, main, sys.argv[1:])
