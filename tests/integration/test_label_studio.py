"""The local Label Studio server: whose it is, what it keeps, what it shows to whom, and who it tells of labels."""

import contextlib
import functools
import json
import queue
import shutil
import socket
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from sparsight.cli import main
from sparsight.errors import SparsightError
from sparsight.local import label_studio as server
from sparsight.local.servers import SERVERS
from sparsight.local.services import Service, Services, down, environment, status, up
from sparsight.stores.annotations import AnnotationStore, open_annotations
from sparsight.stores.settings import LabelStudioSettings

CONFIG = """<View><Image name="image" value="$image"/><Taxonomy name="taxonomy" toName="image">
<Choice value="cell"><Choice value="whole"/></Choice></Taxonomy></View>"""


def processes(service: Service) -> list[psutil.Process]:
    leader = psutil.Process(service.pid)
    return [leader, *leader.children(recursive=True)]


@pytest.fixture
def store(label_studio: Service) -> Iterator[AnnotationStore]:
    with open_annotations(settings_of(label_studio)) as opened:
        yield opened


def settings_of(service: Service) -> LabelStudioSettings:
    return LabelStudioSettings.from_environment(environment(Services(service.data.parent, {service.name: service})))


def test_it_is_healthy_and_says_how_to_sign_in(label_studio: Service) -> None:
    [found] = [one for one in status(label_studio.data.parent) if one.name == "label-studio"]
    assert found.state == "healthy"
    assert found.memory > 100_000_000
    password = server.password(label_studio.data)
    assert found.note == f"sign in as admin@localhost; the password is in {label_studio.data / 'password'}"
    assert password not in found.note


def test_what_is_imported_while_the_database_is_locked_is_whole(label_studio: Service, store: AnnotationStore) -> None:
    project = store.ensure_project("Locked meanwhile", CONFIG)
    result = [{"from_name": "taxonomy", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [["cell"]]}}]
    task = {"data": {"image": "http://127.0.0.1/1"}, "annotations": [{"result": result}]}
    with sqlite3.connect(label_studio.data / "label_studio.sqlite3", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        send = functools.partial(store._client.projects.import_tasks, project.id, request=[task])
        importing = threading.Thread(target=send)
        importing.start()
        importing.join(7)  # longer than SQLite's own patience of 5 seconds
        other.execute("ROLLBACK")
        importing.join()
    [found] = store.export(project)
    assert len(found["annotations"]) == 1


def test_another_ones_label_studio_is_not_taken_for_ours(label_studio: Service, tmp_path: Path) -> None:
    assert SERVERS["label-studio"].is_healthy(label_studio.port, label_studio.data)
    assert not SERVERS["label-studio"].is_healthy(label_studio.port, tmp_path)


def test_it_listens_on_loopback_and_speaks_to_nobody_outside(label_studio: Service, store: AnnotationStore) -> None:
    store.ensure_project("Connections", CONFIG)
    connections = [one for process in processes(label_studio) for one in process.net_connections(kind="inet")]
    listening = [(one.laddr.ip, one.laddr.port) for one in connections if one.status == psutil.CONN_LISTEN]
    assert listening == [("127.0.0.1", label_studio.port)]
    assert {one.raddr.ip for one in connections if one.raddr} <= {"127.0.0.1"}


def test_password_and_token_show_nowhere(label_studio: Service, store: AnnotationStore) -> None:
    store.users()
    secrets = [server.password(label_studio.data), server.token(label_studio.data)]
    home = label_studio.data.parent
    lines = [" ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])]
    texts = [path.read_text(errors="replace") for path in (*home.glob("*.log"), home / "services.json")]
    for secret in secrets:
        assert not any(secret in text for text in (*lines, *texts))
    for path in home.rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, f"{path} is open to others"


def test_the_kept_database_knows_nobody(label_studio: Service) -> None:
    with contextlib.closing(sqlite3.connect(f"file:{server.kept_database()}?mode=ro", uri=True)) as database:
        for table in ("htx_user", "authtoken_token", "organization", "project"):
            assert database.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (0,)
        assert database.execute("SELECT COUNT(*) FROM django_migrations").fetchone()[0] > 100


def copy_data(data: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for name in (".env", "password", "token"):
        shutil.copy(data / name, target)
    with contextlib.ExitStack() as stack:
        files = (folder / "label_studio.sqlite3" for folder in (data, target))
        source, copy = (stack.enter_context(contextlib.closing(sqlite3.connect(file))) for file in files)
        source.backup(copy)


def test_everything_is_there_after_a_restart(label_studio: Service, tmp_path: Path) -> None:
    """Of a copy, that is, since others use the one that runs."""
    with open_annotations(settings_of(label_studio)) as store:
        made = store.ensure_project("Before the restart", CONFIG, 2)
    copy_data(label_studio.data, tmp_path / "home" / "label-studio")
    [again] = up(tmp_path / "home", only=["label-studio"])
    try:
        assert again.port != label_studio.port
        with open_annotations(settings_of(again)) as store:
            assert store.project("Before the restart") == made
    finally:
        assert down(tmp_path / "home") == ["label-studio"]


def test_a_port_that_is_taken_meanwhile_is_refused_and_no_other_is_taken(label_studio: Service, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        command = SERVERS["label-studio"].command(port, tmp_path)
        variables = SERVERS["label-studio"].full_environment(tmp_path)
        ended = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ended.returncode != 0
    assert "port is already in use" in ended.stdout + ended.stderr


def test_it_is_missing_without_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_REPOSITORY", tmp_path)
    with pytest.raises(SparsightError, match="Label Studio server is not installed") as caught:
        up(tmp_path / "home", only=["label-studio"])
    assert "make label-studio" in caught.value.hint


class Listener(BaseHTTPRequestHandler):
    """Keeps what it is told."""

    told: "queue.Queue[dict]" = queue.Queue()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.told.put(json.loads(body))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


def test_a_program_on_this_machine_is_told_of_annotations(label_studio: Service, store: AnnotationStore) -> None:
    project = store.ensure_project("Webhooks", CONFIG)
    [task] = store.add_tasks(project, [{"image": "http://127.0.0.1/1", "id": "1", "container": "cells"}])
    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        client = store._client
        client.webhooks.create(
            url=f"http://127.0.0.1:{listener.server_port}/", project=project.id, send_for_all_actions=True
        )
        value = {"taxonomy": [["cell", "whole"]]}
        result = [{"from_name": "taxonomy", "to_name": "image", "type": "taxonomy", "value": value}]
        client.annotations.create(str(task), result=result)
        told = Listener.told.get(timeout=30)
        listener.shutdown()
    assert told["action"] == "ANNOTATION_CREATED"
    assert told["annotation"]["result"][0]["value"] == value


COMPONENT = """\
$schema: https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json
name: look
version: "1"
type: command
tags: {services: label-studio}
outputs:
  seen: {type: uri_folder}
environment: {image: mcr.microsoft.com/azureml/minimal-ubuntu22.04-py39-cpu-inference}
command: >-
  mkdir -p ${{outputs.seen}}; echo "$SPARSIGHT_LABEL_STUDIO_URL" > ${{outputs.seen}}/url.txt;
  test -n "$SPARSIGHT_LABEL_STUDIO_TOKEN" && test -z "$SPARSIGHT_BLOB_KEY"
"""
PIPELINE = """\
$schema: https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json
type: pipeline
settings: {default_compute: azureml:cpu}
jobs:
  look: {type: command, component: ./look.yml}
"""


def test_a_step_that_names_it_finds_it(label_studio: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSIGHT_SERVICES_HOME", str(label_studio.data.parent))
    (tmp_path / "look.yml").write_text(COMPONENT)
    (tmp_path / "looking.yml").write_text(PIPELINE)
    with pytest.raises(SystemExit) as ended:
        main(tmp_path, ["run", str(tmp_path / "looking.yml")])
    assert ended.value.code == 0
    assert next(tmp_path.glob("runs/*/look/outputs/seen/url.txt")).read_text().strip() == label_studio.url
    token = server.token(label_studio.data)
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and token in file.read_text()]
