"""A worker for test_launcher.py: sums over 30 steps, commits every 5, and meets the others again after a death.

Usage: summing_worker.py FOLDER [STEP ...]; at each of these steps, once, the worker with rank 1 kills itself. Each
writes its variables to FOLDER/PID.json, and the one with rank 0 the result to FOLDER/result.
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

STEPS = 30


def main(folder: Path, fatal: list[int]) -> None:
    if (folder / "early").is_file():
        (folder / "early").unlink(missing_ok=True)
        os.kill(os.getpid(), signal.SIGKILL)
    import horovod.torch as hvd
    import torch
    from horovod.common.exceptions import HorovodInternalError

    hvd.init()
    known = {name: value for name, value in os.environ.items() if name.startswith(("HOROVOD_", "SPARSIGHT_", "OMP_"))}
    (folder / f"{os.getpid()}.json").write_text(json.dumps(known))
    state = committed = torch.zeros(2)  # steps done, and the sum
    while True:
        try:
            state = committed = hvd.broadcast(committed, root_rank=0)
            while state[0] < STEPS:
                step = int(state[0])
                with contextlib.suppress(FileNotFoundError):
                    if hvd.rank() == 1 and step in fatal:
                        (folder / f"fatal-{step}").unlink()
                        os.kill(os.getpid(), signal.SIGKILL)
                # A mean over what all would sum up to, so that fewer workers come to the same.
                total = hvd.allreduce(torch.tensor([float(step)]), op=hvd.Average, name=f"step.{step}")
                state = state + torch.tensor([1.0, float(total)])
                if hvd.rank() == 0:
                    print(f"step {step} of {hvd.size()}", flush=True)
                if step % 5 == 4:
                    committed = state
                time.sleep(float(os.environ.get("PAUSE", "0")))
            hvd.allreduce(torch.zeros(1), name="end")
            break
        except HorovodInternalError:
            hvd.shutdown()
            hvd.init()
    if hvd.rank() == 0:
        (folder / "result").write_text(json.dumps([hvd.size(), *state.tolist()]))
    print(f"done by {hvd.rank()}", flush=True)


main(Path(sys.argv[1]), [int(word) for word in sys.argv[2:]])
