"""The local services, as far as they can be seen without starting a server."""

import json
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sparsight.errors import SparsightError
from sparsight.local import servers, services
from sparsight.local.processes import (
    Supervisor,
    file_lock,
    free_ports,
    is_running,
    last_lines,
    port_is_free,
    terminate_group,
    write_private,
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def taken_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_status_of_services_that_never_ran(home: Path) -> None:
    assert [(one.name, one.state) for one in services.status(home)] == [
        ("azurite", "stopped"),
        ("cosmos", "stopped"),
        ("mlflow", "stopped"),
        ("label-studio", "stopped"),
        ("optuna-dashboard", "stopped"),
    ]
    assert services.down(home) == []


def test_unknown_service_is_named(home: Path) -> None:
    with pytest.raises(SparsightError, match="no service 'redis'; there are azurite, cosmos, mlflow, label-studio"):
        services.up(home, only=["redis"])


def test_fixed_port_in_use_says_who_has_it(home: Path, taken_port: int) -> None:
    with pytest.raises(SparsightError) as caught:
        services.up(home, only=["cosmos"], ports={"cosmos": taken_port})
    assert f"Port {taken_port}, asked for cosmos, is in use" in str(caught.value)
    assert f"process {os.getpid()}" in str(caught.value)


def test_missing_node_ends_with_the_command(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SparsightError, match=r"Node\.js is not on the PATH") as caught:
        services.up(home, only=["azurite"])
    assert str(caught.value).endswith("`make install`.")
    assert services.status(home)[0].state == "stopped"


def test_old_node_is_refused_by_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "node"
    program.write_text("#!/bin/sh\necho v18.20.1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SparsightError, match=r"Node\.js v18\.20\.1; the local servers need 20 or newer"):
        servers.node()


def test_missing_packages_end_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "__file__", str(tmp_path / "a" / "b" / "c" / "servers.py"))
    with pytest.raises(SparsightError, match=r"azurite and @vercel/cosmosdb-server are not in") as caught:
        servers.node_modules()
    assert str(caught.value).endswith("`make install`.")


def test_unreadable_state_is_one_message(home: Path) -> None:
    home.mkdir()
    (home / "services.json").write_text('{"version": 99, "services": {}}')
    with pytest.raises(SparsightError, match="version 99, expected 1"):
        services.status(home)


def test_a_recycled_process_id_is_not_the_service(home: Path) -> None:
    me = psutil.Process()
    assert is_running(me.pid, me.create_time())
    assert not is_running(me.pid, me.create_time() - 1000)
    assert not is_running(None, 0.0)


def test_account_keys_are_random_lasting_and_private(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    assert servers.account_key(one) == servers.account_key(one) != servers.account_key(other)
    assert stat.S_IMODE((one / "account.key").stat().st_mode) == 0o600


def test_servers_get_no_stray_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://elsewhere.invalid")
    monkeypatch.setenv("NODE_OPTIONS", "--inspect=0.0.0.0")
    for server in servers.SERVERS.values():
        variables = server.full_environment(tmp_path)
        assert "PATH" in variables
        assert not {"MLFLOW_TRACKING_URI", "NODE_OPTIONS"} & variables.keys()


def test_free_ports_differ_and_are_free() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(port_is_free(port) for port in ports)


def test_private_files_are_written_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_private(path, "{}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_a_held_lock_is_reported_after_a_while(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        file_lock(path, what="nobody"),
        pytest.raises(SparsightError, match="for another run"),
        file_lock(path, patience=0, what="another run"),
    ):
        pass
    with file_lock(path, shared=True, what="nobody"), file_lock(path, shared=True, patience=0, what="nobody"):
        pass


def test_last_lines_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_lines(log) == "  (the log is empty)"
    log.write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert last_lines(log, 2) == "  line 9998\n  line 9999"


def _sleeper(folder: Path, supervisor: Supervisor) -> tuple[int, float]:
    return supervisor.start(["sleep", "60"], {"PATH": os.environ["PATH"]}, folder, folder / "log")


def test_supervised_processes_end_with_the_block_or_outlive_it(tmp_path: Path) -> None:
    with_it, without = Supervisor(tmp_path, outlive=False), Supervisor(tmp_path, outlive=True)
    ending, staying = _sleeper(tmp_path, with_it), _sleeper(tmp_path, without)
    assert is_running(*ending)
    with_it.close()
    without.close()
    assert not is_running(*ending)
    assert is_running(*staying)
    terminate_group(staying[0])
    assert not is_running(*staying)


def test_a_process_that_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, outlive=True)
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    )
    stubborn = supervisor.start([sys.executable, "-c", code], {}, tmp_path, tmp_path / "log")
    while is_running(*stubborn) and not (tmp_path / "log").read_text():
        time.sleep(0.02)
    terminate_group(stubborn[0], grace=0.1)
    supervisor.close()
    assert not is_running(*stubborn)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, outlive=False)
    with pytest.raises(SparsightError, match="no-such-program could not be started"):
        supervisor.start(["no-such-program"], {}, tmp_path, tmp_path / "log")
    supervisor.close()


def test_killed_owner_takes_its_processes_along(tmp_path: Path) -> None:
    code = (
        "import sys, time, os, json\n"
        "from pathlib import Path\n"
        "from sparsight.local.processes import Supervisor\n"
        "folder = Path(sys.argv[1])\n"
        "started = Supervisor(folder, outlive=False).start(['sleep', '60'], dict(os.environ), folder, folder / 'log')\n"
        "print(json.dumps(started), flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid, started = json.loads(owner.stdout.readline())
        assert is_running(pid, started)
        owner.kill()
    deadline = time.monotonic() + 30
    while is_running(pid, started):
        assert time.monotonic() < deadline, "still running half a minute after its owner was killed"
        time.sleep(0.05)


def test_local_services_are_reached_past_a_proxy(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    assert services.environment(services.Services(home, {})) == {}
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", "intranet.example.com")
    assert services.environment(services.Services(home, {}))["NO_PROXY"] == "intranet.example.com,127.0.0.1,localhost"
