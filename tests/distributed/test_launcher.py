"""The launcher: what becomes of the others when a worker ends, what outsiders can read, and what is left behind."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.processes import has_ended, wait_until

WORKER = Path(__file__).with_name("summing_worker.py")
SECRET = "s3cr3t-value"


class Launch:
    """Launches command lines; everything that it started is gone after the test."""

    def __init__(self, variables: dict[str, str], folder: Path) -> None:
        self.folder = folder
        self._variables = variables
        self._started: list[subprocess.Popen[str]] = []

    def start(self, command: str, processes: int = 2, **variables: str) -> "subprocess.Popen[str]":
        launcher = [sys.executable, "-m", "sparsight.local.horovod_launcher", "--processes", str(processes)]
        process = subprocess.Popen(
            [*launcher, "--shell", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self._variables, "OMP_NUM_THREADS": "1", **variables},
        )
        self._started.append(process)
        return process

    def __call__(self, command: str, processes: int = 2, **variables: str) -> "subprocess.CompletedProcess[str]":
        process = self.start(command, processes, **variables)
        out, err = process.communicate(timeout=150)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def summing(self, *fatal: int) -> str:
        for step in fatal:
            (self.folder / f"fatal-{step}").touch()
        return f"exec {sys.executable} {WORKER} {self.folder} {' '.join(map(str, fatal))}"

    @property
    def result(self) -> list[float]:
        return json.loads((self.folder / "result").read_text())

    def workers(self) -> dict[int, dict[str, str]]:
        """Read the variables of the workers that came to each other, by process id."""
        return {int(file.stem): json.loads(file.read_text()) for file in self.folder.glob("[0-9]*.json")}

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()


@pytest.fixture
def launch(horovod, tmp_path) -> Iterator[Launch]:
    made = Launch(horovod.environment(), tmp_path)
    yield made
    made.close()


def running(pids: dict[int, object]) -> list[int]:
    return [pid for pid in pids if not has_ended(pid)]


def test_workers_come_to_one_result_and_one_of_them_speaks(launch):
    done = launch(launch.summing())
    assert done.returncode == 0, done.stderr
    assert launch.result == [2, 30, 435]
    assert done.stdout.splitlines() == [*(f"step {step} of 2" for step in range(30)), "done by 0"]
    told = sorted(launch.workers().values(), key=lambda each: each["SPARSIGHT_LOCAL_RANK"])
    assert [each["SPARSIGHT_LOCAL_RANK"] for each in told] == ["0", "1"]
    assert [each["HOROVOD_RANK"] for each in told] == ["0", "1"]
    assert {each["HOROVOD_GLOO_IFACE"] for each in told} <= {"lo", "lo0"}


def test_a_killed_worker_is_replaced_and_nothing_is_lost(launch):
    done = launch(launch.summing(12))
    assert done.returncode == 0, done.stderr
    assert launch.result == [2, 30, 435]
    assert "worker-1 was killed by signal 9; worker-2 takes its place\n" in done.stderr
    ranks = [each["SPARSIGHT_LOCAL_RANK"] for each in launch.workers().values()]
    assert sorted(ranks) == ["0", "1", "1"], "the replacement takes its predecessor's GPU"
    assert "step 11 of 2\nstep 10 of 2\n" in done.stdout, "it goes on after the last commit"


def test_the_others_go_on_when_there_are_no_spares_left(launch):
    done = launch(launch.summing(3, 8, 13, 18))
    assert done.returncode == 0, done.stderr
    assert launch.result == [1, 30, 435]
    named = re.findall(r"^(worker-\d) was killed by signal 9; (.*)$", done.stderr, re.M)
    assert [name for name, _ in named] == ["worker-1", "worker-2", "worker-3", "worker-4"]
    assert named[-1][1] == "the others go on without it, 1 in number"


def test_a_worker_killed_before_it_came_to_the_others_is_started_anew(launch):
    (launch.folder / "early").touch()
    done = launch(launch.summing())
    assert done.returncode == 0, done.stderr
    assert launch.result == [2, 30, 435]
    assert re.search(r"^worker-[01] was killed by signal 9; worker-2 takes its place$", done.stderr, re.M)
    assert done.stdout.splitlines()[-1] == "done by 0"


def test_what_all_refuse_is_said_once(launch):
    words = "echo 'error: epochs is -1; expected at least 1' >&2; echo 'Set it: --set epochs=1' >&2"
    done = launch(f"echo warning $SPARSIGHT_LOCAL_RANK >&2; sleep 1; {words}; sleep 1; exit 2", 3)
    assert done.returncode == 2
    lines = sorted(done.stderr.splitlines())
    assert lines == sorted(
        [
            *(f"warning {rank}" for rank in range(3)),
            "error: epochs is -1; expected at least 1",
            "Set it: --set epochs=1",
        ]
    )


@pytest.mark.parametrize("status", [1, 77, 130, 255])
def test_a_worker_that_fails_by_itself_ends_all(launch, status):
    began = time.monotonic()
    done = launch(f"[ $SPARSIGHT_LOCAL_RANK = 1 ] && exit {status}; echo $$ > {launch.folder}/pid; exec sleep 60")
    assert done.returncode == status
    assert time.monotonic() - began < 30
    pid = launch.folder / "pid"
    assert not pid.is_file() or not running({int(pid.read_text()): None})


def test_all_killed_is_a_failure(launch):
    done = launch(f"sleep 1; exec {sys.executable} -c 'import os; os.kill(os.getpid(), 9)'")
    assert done.returncode == 137
    assert "nobody can go on" in done.stderr


def test_ended_by_a_signal_it_leaves_nobody(launch):
    process = launch.start(launch.summing(), PAUSE="1")
    wait_until(lambda: len(launch.workers()) == 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    assert running(launch.workers()) == []


def test_killed_it_leaves_nobody(launch):
    process = launch.start(launch.summing(), PAUSE="1")
    wait_until(lambda: len(launch.workers()) == 2)
    process.kill()
    wait_until(lambda: not running(launch.workers()), 15)


def test_no_secret_stands_on_a_command_line_and_nobody_else_can_connect(launch):
    process = launch.start(launch.summing(), PAUSE="1", AZURE_CLIENT_SECRET=SECRET)
    wait_until(lambda: len(launch.workers()) == 2)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    assert len(family) >= 5, "the launcher, and two guards with a worker each"
    for each in family:
        line = " ".join(each.cmdline())
        assert SECRET not in line
        assert "AZURE_CLIENT_SECRET" not in line
    holding = [each for each in family if each.pid in launch.workers()]
    assert all(each.environ()["AZURE_CLIENT_SECRET"] == SECRET for each in holding)
    listening = [
        connection.laddr.ip
        for each in family
        for connection in each.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening, "the rendezvous at least"
    assert set(listening) == {"127.0.0.1"}
    (port,) = {each["HOROVOD_GLOO_RENDEZVOUS_PORT"] for each in launch.workers().values()}
    address = f"http://127.0.0.1:{port}/worker_addresses/place-0:0"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(address, b"x", method="PUT"))
