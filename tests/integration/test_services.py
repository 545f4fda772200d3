"""The real local services: started, stopped, killed, restarted; what they keep, and what they show to whom."""

import asyncio
import http.client
import json
import os
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from azure.core.exceptions import HttpResponseError
from azure.cosmos.aio import ContainerProxy, DatabaseProxy

from sparsight.errors import SparsightError
from sparsight.local.processes import is_running
from sparsight.local.services import Service, Services, down, environment, running_services, status, up
from sparsight.stores.settings import BlobSettings, CosmosSettings, blob_service, cosmos_client

FAST = ("azurite", "cosmos")
STOPPED = {"mlflow": "stopped", "label-studio": "stopped", "optuna-dashboard": "stopped"}
PARTITION = {"paths": ["/id"], "kind": "Hash"}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder of services that this test may kill."""
    yield tmp_path / "home"
    down(tmp_path / "home")


def states(home: Path) -> dict[str, str]:
    return {one.name: one.state for one in status(home)}


@asynccontextmanager
async def cosmos_database(services: Services) -> AsyncIterator[DatabaseProxy]:
    async with cosmos_client(CosmosSettings.from_environment(environment(services))) as client:
        yield await client.create_database_if_not_exists("services-test")


async def photos_of(database: DatabaseProxy) -> ContainerProxy:
    return await database.create_container_if_not_exists("photos", PARTITION)


def test_start_status_stop(home: Path) -> None:
    first = up(home, only=FAST)
    assert states(home) == {"azurite": "healthy", "cosmos": "healthy", **STOPPED}
    assert all(one.memory > 10_000_000 for one in status(home) if one.name in FAST)
    again = up(home, only=FAST)
    assert [one.pid for one in again] == [one.pid for one in first]
    assert sorted(down(home)) == ["azurite", "cosmos"]
    assert states(home) == {"azurite": "stopped", "cosmos": "stopped", **STOPPED}
    assert not any(one.runs for one in first)


def test_two_at_once_start_each_service_once(home: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: up(home, only=["cosmos"]), range(2))
    assert one["cosmos"].pid == other["cosmos"].pid


def test_a_restart_keeps_what_is_in_cosmos(home: Path) -> None:
    body = "function plus(n) { return n + 1; }"

    async def fill(services: Services) -> str:
        async with cosmos_database(services) as database:
            photos, gone = await photos_of(database), await database.create_container("gone", PARTITION)
            await gone.create_item({"id": "x"})
            await database.delete_container(gone)
            await asyncio.gather(*(photos.upsert_item({"id": f"p{n}", "n": n}) for n in range(700)))
            await photos.delete_item("p1", "p1")
            await photos.replace_item("p2", {"id": "p2", "n": 200})
            await photos.patch_item("p3", "p3", [{"op": "set", "path": "/n", "value": 300}])
            await photos.scripts.create_user_defined_function({"id": "plus", "body": "function plus(n) { return -1; }"})
            await photos.scripts.delete_user_defined_function("plus")
            await photos.scripts.create_user_defined_function({"id": "plus", "body": body})
            return (await photos.read_item("p4", "p4"))["_etag"]

    async def check(services: Services, etag: str) -> None:
        async with cosmos_database(services) as database:
            assert [one["id"] async for one in database.list_containers()] == ["photos"]
            photos = await photos_of(database)
            query = "SELECT c.id, udf.plus(c.n) AS n FROM c WHERE udf.plus(c.n) < 6 OR c.n > 698 ORDER BY c.n"
            found = [(one["id"], one["n"]) async for one in photos.query_items(query)]
            assert found == [("p0", 1), ("p4", 5), ("p699", 700)]
            assert [n async for n in photos.query_items("SELECT VALUE COUNT(1) FROM c")] == [699]
            assert (await photos.read_item("p2", "p2"))["n"] == 200
            assert (await photos.read_item("p3", "p3"))["n"] == 300
            assert (await photos.read_item("p4", "p4"))["_etag"] == etag
            await photos.create_item({"id": "p1", "n": -100})
            await photos.delete_item("p1", "p1")

    services = up(home, only=["cosmos"])
    etag = asyncio.run(fill(services))
    psutil.Process(services["cosmos"].pid).kill()  # nothing that was answered may be lost
    with (home / "cosmos" / "journal.jsonl").open("a") as journal:
        journal.write('{"in": ["a torn li')
    for _ in range(2):  # from the journal as it was written, then from the compacted one
        services = up(home, only=["cosmos"])
        asyncio.run(check(services, etag))
        down(home)
    assert "its unfinished last line left out" in services["cosmos"].log.with_suffix(".old.log").read_text()


def test_replacing_a_function_takes_effect_and_lasts(home: Path) -> None:
    async def sums(services: Services, body: str | None = None) -> list[int]:
        async with cosmos_database(services) as database:
            photos = await photos_of(database)
            if body and not [one async for one in photos.scripts.list_user_defined_functions()]:
                await photos.upsert_item({"id": "a", "n": 1})
                await photos.scripts.create_user_defined_function({"id": "f", "body": body})
            elif body:
                await photos.scripts.replace_user_defined_function("f", {"id": "f", "body": body})
            return [n async for n in photos.query_items("SELECT VALUE udf.f(c.n) FROM c")]

    services = up(home, only=["cosmos"])
    assert asyncio.run(sums(services, "function (n) { return n + 1; }")) == [2]
    assert asyncio.run(sums(services, "function (n) { return n + 10; }")) == [11]
    down(home)
    assert asyncio.run(sums(up(home, only=["cosmos"]))) == [11]


def test_a_spoiled_journal_is_told_by_its_line(home: Path) -> None:
    (home / "cosmos").mkdir(parents=True)
    (home / "cosmos" / "journal.jsonl").write_text("not JSON\n")
    with pytest.raises(SparsightError, match=r"journal\.jsonl, line 1 can't be read") as caught:
        up(home, only=["cosmos"])
    assert "ended while it was starting" in str(caught.value)
    assert str(home / "cosmos.log") in str(caught.value)
    assert states(home)["cosmos"] == "stopped"


def test_a_restart_keeps_blobs(home: Path) -> None:
    async def blobs(services: Services, content: bytes | None = None) -> dict[str, bytes]:
        async with blob_service(BlobSettings.from_environment(environment(services))) as service:
            container = service.get_container_client("photos")
            if content is not None:
                await container.create_container()
                await container.upload_blob("a/b.jpg", content)
            names = [one.name async for one in container.list_blobs()]
            return {name: await (await container.download_blob(name)).readall() for name in names}

    first = up(home, only=["azurite"])
    content = os.urandom(60_000)
    assert asyncio.run(blobs(first, content)) == {"a/b.jpg": content}
    down(home)
    second = up(home, only=["azurite"])
    assert asyncio.run(blobs(second)) == {"a/b.jpg": content}
    assert second["azurite"].port == first["azurite"].port


def test_a_dead_service_is_reported_and_started_again(home: Path) -> None:
    services = up(home, only=FAST)
    psutil.Process(services["azurite"].pid).kill()
    deadline = time.monotonic() + 30
    while services["azurite"].runs and time.monotonic() < deadline:
        time.sleep(0.02)
    assert states(home) == {"azurite": "dead", "cosmos": "healthy", **STOPPED}
    again = up(home, only=FAST)
    assert states(home)["azurite"] == "healthy"
    assert again["cosmos"].pid == services["cosmos"].pid


def test_a_busy_service_is_waited_for(home: Path) -> None:
    services = up(home, only=["cosmos"])
    server = psutil.Process(services["cosmos"].pid)
    server.suspend()
    assert states(home)["cosmos"] == "silent"
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(up, home, only=["cosmos"])
        time.sleep(1)
        server.resume()
        assert again.result()["cosmos"].pid == server.pid


OWNER = """
import json, sys, time
from pathlib import Path
from sparsight.local.services import running_services
with running_services(Path(sys.argv[1]), only=["azurite", "cosmos"]) as services:
    print("ready", flush=True)
    sys.stdin.read()
"""


def start_owner(home: Path) -> "subprocess.Popen[str]":
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "ready\n"
    return owner


def recorded(home: Path) -> list[Service]:
    entries = json.loads((home / "services.json").read_text())["services"].values()
    return [Service(**{**entry, "log": Path(entry["log"]), "data": Path(entry["data"])}) for entry in entries]


def wait_until_gone(services: list[Service]) -> None:
    deadline = time.monotonic() + 60
    while any(is_running(one.pid, one.started) for one in services):
        assert time.monotonic() < deadline, f"still running: {services}"
        time.sleep(0.05)


def test_a_killed_run_takes_its_services_along(home: Path) -> None:
    with start_owner(home) as owner:
        services = recorded(home)
        assert all(one.healthy for one in services)
        owner.kill()
    wait_until_gone(services)


def test_services_of_a_run_stay_while_another_uses_them(home: Path) -> None:
    with start_owner(home) as first:
        services = recorded(home)
        with start_owner(home) as second:
            first.kill()
            first.wait()
            time.sleep(1)
            assert all(one.healthy for one in services)
            assert second.stdin is not None
            second.stdin.close()
    wait_until_gone(services)


def test_services_up_takes_over_those_of_a_run(home: Path) -> None:
    with running_services(home, only=["cosmos"]) as services:
        taken = up(home, only=["cosmos"])
        assert taken["cosmos"].pid == services["cosmos"].pid
        assert taken["cosmos"].owner == "user"
    assert states(home)["cosmos"] == "healthy"
    assert down(home) == ["cosmos"]


def test_a_run_leaves_the_users_services_alone(home: Path) -> None:
    services = up(home, only=["cosmos"])
    with running_services(home, only=["cosmos"]) as same:
        assert same["cosmos"].pid == services["cosmos"].pid
    assert states(home)["cosmos"] == "healthy"


def test_connections_are_kept_alive(services: Services) -> None:
    parts = urlsplit(services["cosmos"].url)
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection(str(parts.hostname), parts.port, context=context, timeout=10)
    sockets = set()
    for _ in range(3):
        connection.request("GET", "/")
        with connection.getresponse() as response:
            response.read()
            assert response.headers["connection"] == "keep-alive"
        sockets.add(connection.sock.getsockname())
    connection.close()
    assert len(sockets) == 1


def test_cosmos_refuses_a_wrong_key(services: Services) -> None:
    async def create() -> None:
        async with cosmos_client(CosmosSettings(endpoint=services["cosmos"].url, key="d3Jvbmc=")) as client:
            await client.create_database("not-mine")

    with pytest.raises(HttpResponseError, match="isn't signed with this account's key"):
        asyncio.run(create())


@pytest.mark.parametrize("token", [None, "", "%", "type%3Dmaster%26ver%3D1.0%26sig%3D", "a&b=c&sig=AAAA"])
def test_cosmos_refuses_what_is_not_signed(services: Services, token: str | None) -> None:
    parts = urlsplit(services["cosmos"].url)
    context = ssl._create_unverified_context()
    for path in ("/dbs", "//dbs", "/dbs/", "/%64bs", "/dbs/%2e%2e/", "/dbs/%", "/../dbs", "/\\dbs", "https://x/dbs"):
        address = (str(parts.hostname), parts.port)
        with closing(http.client.HTTPSConnection(*address, context=context, timeout=10)) as connection:
            connection.request("GET", path, headers={} if token is None else {"Authorization": token})
            with connection.getresponse() as response:
                assert (path, response.status) == (path, 401)


def test_listening_on_loopback_only(services: Services) -> None:
    for service in services:
        leader = psutil.Process(service.pid)
        listening = [
            connection.laddr
            for process in (leader, *leader.children(recursive=True))
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert [(one.ip, one.port) for one in listening] == [("127.0.0.1", service.port)]


def test_keys_show_nowhere(services: Services) -> None:
    keys = [value for name, value in environment(services).items() if name.endswith("_KEY")]
    assert len(keys) == 2
    lines = [" ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])]
    logs = [path.read_text(errors="replace") for path in services.home.glob("*.log")]
    state = (services.home / "services.json").read_text()
    for key in keys:
        assert not any(key in text for text in (*lines, *logs, state, repr(services)))
    assert stat.S_IMODE(services.home.stat().st_mode) == 0o700
    for path in services.home.rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, f"{path} is open to others"


def test_mlflow_keeps_artifacts_in_its_own_folder(
    service_environment: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "services-test")  # set_experiment would stay set for later tests
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 0.5)
        mlflow.log_text("hello", "notes/hello.txt")
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes/hello.txt") == "hello"
    kept = list((service_environment["mlflow"].data / "artifacts").rglob("hello.txt"))
    assert [path.read_text() for path in kept] == ["hello"]
