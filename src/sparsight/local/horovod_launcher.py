"""Runs one command line as several processes here, which Horovod connects, and replaces those that are killed.

    python -m sparsight.local.horovod_launcher --processes 2 --shell 'python -m sparsight.steps.train_moco ...'

Each worker finds its place in variables `HOROVOD_*`, and the lowest number that no other worker on this machine has in
`SPARSIGHT_LOCAL_RANK`. A worker that a signal ended is replaced while there are spare places, and then the others go on
without it; they find out by Horovod's `HorovodInternalError`, and call `shutdown` and `init` to meet again. A worker
that ends by itself with a status other than 0 ends all of them, and that is the launcher's status, too.

`horovodrun` isn't used: it writes all environment variables, keys among them, on the workers' command lines, where
every user of the machine can read them; and it gives up on a machine when one of its workers dies.
"""

import argparse
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from horovod.runner.elastic.driver import ElasticDriver

from sparsight.guarded.guard import GRACE
from sparsight.guarded.step_process import start_guarded
from sparsight.local.rendezvous import Places, Rendezvous, connection
from sparsight.local.worker_output import Output

SPARES = 3
"""How many workers are replaced."""
TIMEOUT_SECONDS = 300
"""How long workers wait for each other when they meet: on a busy machine one may still be importing. That a process has
died they see by its connections, at once."""
CYCLE_MILLISECONDS = 5
"""How often Horovod looks for something to send: at its own 1 that took 9 % of a core from the training, now 2 %."""
_INTERRUPTED = 130
_SIGNALS = range(129, 193)


@dataclass(eq=False)
class Worker:
    """One process, the guard that ends it, and its numbers.

    Args:
        number: of all workers, in the order in which they began; its name is worker-NUMBER.
        place: what Horovod takes for its host.
        local: the lowest number that no other worker had then.
        process: its guard.
    """

    number: int
    place: str
    local: int
    process: "subprocess.Popen[bytes]"

    def end(self) -> None:
        """Tell its guard to end it, without waiting."""
        if self.process.stdin is not None:
            self.process.stdin.close()


class Launcher:
    """Starts the workers, and knows who is alive.

    Args:
        command: the command line for bash.
        processes: how many of it.
        output: where what they write goes.
    """

    def __init__(self, command: str, processes: int, output: Output) -> None:
        self.command, self.processes, self.output = command, processes, output
        self._rendezvous = Rendezvous()
        # One is enough to go on, and all places are filled as long as there are any.
        self._driver = ElasticDriver(self._rendezvous, Places(processes + SPARES), 1, processes)
        self._changed = threading.Condition(threading.RLock())
        self._alive: list[Worker] = []
        self._filled: set[str] = set()
        self._promised: deque[int] = deque()
        self._next, self._early, self._finished = processes, 0, 0
        self._port = 0
        self._status: int | None = None

    def run(self) -> int:
        """Run until no worker is left; return the exit status."""
        self._port = self._rendezvous.start_for(self._driver)
        self._driver.wait_for_available_slots(self.processes)
        self._driver.start(self.processes, self._work)
        with self._changed:
            while self._status is None and (self._alive or len(self._filled) < self.processes):
                self._changed.wait(0.5)
        self._wait_for_the_end()
        return self._status or 0

    def end(self, status: int) -> None:
        """End all workers, for a reason that has this exit status; the first reason counts."""
        with self._changed:
            if self._status is None:
                self._status = status
            for worker in self._alive:
                worker.end()
            self._changed.notify_all()

    def _wait_for_the_end(self) -> None:
        deadline = time.monotonic() + GRACE + 5
        with self._changed:
            while self._alive and time.monotonic() < deadline:
                self._changed.wait(0.5)
            for worker in self._alive:
                worker.process.kill()

    def _work(self, slot_info: Any, _: Any) -> tuple[int, float]:
        """Be what Horovod's driver calls, in a thread of its own, for each place to be filled."""
        try:
            return self._fill(slot_info)
        except BaseException as error:
            self.output.say(f"error: a process can't be started: {error}")
            self.end(1)
            raise

    def _fill(self, slot_info: Any) -> tuple[int, float]:
        """Run a worker in a place to its end, and another if it was killed before it came to the others."""
        number = None
        while True:
            worker = self._begin(slot_info, number)
            if worker is None:
                return 1, time.time()
            streams = [
                threading.Thread(target=self.output.pass_on_stdout, args=(worker.number, worker.process.stdout)),
                threading.Thread(target=self.output.pass_on_stderr, args=(worker.number, worker.process.stderr)),
            ]
            for stream in streams:
                stream.daemon = True
                stream.start()
            status = worker.process.wait()
            for stream in streams:
                stream.join(GRACE)
            number = self._ended(worker, status)
            if number is None:
                return status, time.time()

    def _begin(self, slot_info: Any, number: int | None) -> Worker | None:
        with self._changed:
            if self._status is not None:
                return None
            first = len(self._filled) < self.processes and number is None
            if number is None:
                number = slot_info.rank if first else self._promised.popleft()
            taken = {worker.local for worker in self._alive}
            local = slot_info.rank if first else next(each for each in range(self.processes) if each not in taken)
            variables = {
                "HOROVOD_GLOO_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
                "HOROVOD_CYCLE_TIME": str(CYCLE_MILLISECONDS),
                **os.environ,
                **connection(slot_info, self._port),
                # With Horovod's cache of agreements each process decides by itself which tensors travel together, and
                # those that meet again decide otherwise than a new one: the connection breaks. Without it one decides.
                "HOROVOD_CACHE_CAPACITY": "0",
                "SPARSIGHT_LOCAL_RANK": str(local),
            }
            process = start_guarded(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, variables=variables)
            worker = Worker(number, slot_info.hostname, local, process)
            self._filled.add(worker.place)
            self._alive.append(worker)
            return worker

    def _ended(self, worker: Worker, status: int) -> int | None:
        """Note that a worker has ended, and do what follows; the number of the one to begin in the same place at once.

        That is possible where it was killed before it had come to the others: they are waiting still. Later, its death
        ends their connections, and Horovod's driver fills its place once all have noticed.
        """
        with self._changed:
            self._alive.remove(worker)
            worker.end()
            self._changed.notify_all()
            if self._status is not None:
                return None
            if status == 0:
                self._finished += 1
                return None
            if status not in _SIGNALS or status == _INTERRUPTED:
                self.end(status)
                return None
            return self._lost(worker, status)

    def _lost(self, worker: Worker, status: int) -> int | None:
        """Say that a worker was killed, and what becomes of the others; the number of the one in the same place."""
        told = f"worker-{worker.number} was killed by signal {status - 128}"
        early = not self._rendezvous.has(worker.place)
        left = SPARES - self._early if early else self.processes + SPARES - len(self._filled) - len(self._promised)
        if self._finished or (early and not left) or not (early or self._alive):
            why = "when others had ended already" if self._finished else "and nobody can go on"
            self.output.say(f"{told} {why}")
            self.end(status)
            return None
        if not left:
            self.output.say(f"{told}; the others go on without it, {len(self._alive)} in number")
        else:
            self.output.say(f"{told}; worker-{self._next} takes its place")
        speaker = worker.number == self.output.speaker
        if speaker and not early:
            self.output.speaker = min(each.number for each in self._alive)
        if not left:
            return None
        self._next += 1
        if not early:
            self._promised.append(self._next - 1)
            return None
        self._early += 1
        self.output.speaker = self._next - 1 if speaker else self.output.speaker
        return self._next - 1


def main(words: Sequence[str] | None = None) -> int:
    """Launch, and return the exit status."""
    parser = argparse.ArgumentParser(description="Run a command line as several processes that Horovod connects.")
    parser.add_argument("--processes", type=int, required=True, help="how many")
    parser.add_argument("--shell", required=True, help="the command line, for bash")
    asked = parser.parse_args(words)
    logging.disable()  # what Horovod's driver says of each step it takes
    launcher = Launcher(asked.shell, asked.processes, Output(sys.stdout.buffer, sys.stderr.buffer))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: launcher.end(128 + number))
    return launcher.run()


if __name__ == "__main__":
    sys.exit(main())
