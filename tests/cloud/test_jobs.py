"""Jobs in a workspace on loopback, which runs them for real: followed, fetched, failed, cancelled, lost and found."""

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from loopback import Credential, open_client
from toy_project import Project
from workspace_server import GROUP, NAME, SUBSCRIPTION, Message, Refusal, WorkspaceServer

from sparsight.cloud import following
from sparsight.cloud.workspace import Workspace
from sparsight.errors import NOTHING_TO_DO, NothingToDo
from sparsight.steps import arguments
from sparsight.steps.arguments import run_step
from sparsight.stores import azureml
from tests.processes import wait_until

pytestmark = [pytest.mark.usefixtures("config", "signed_in")]


@pytest.fixture(autouse=True)
def _runs(workspace_server: WorkspaceServer, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace_server.runs_jobs = True
    monkeypatch.setattr(following, "INTERVAL", 0.2)


def submitted(server: WorkspaceServer) -> str:
    return next(reversed(server.jobs))


def test_submit_follow_fetch(toys: Project, workspace_server: WorkspaceServer) -> None:
    answer = toys("submit", "two", "--set", "word=ahoy", "--wait")
    assert answer.code == 0, answer.out + answer.err
    name = submitted(workspace_server)
    assert "hello: done after" in answer.out
    assert f"Done: {name}" in answer.out
    fetched = toys("fetch", name)
    assert fetched.code == 0, fetched.err
    words = toys.root / "jobs" / name / "hello" / "outputs" / "words"
    assert "ahoy" in next(words.iterdir()).read_text()
    assert (toys.root / "jobs" / name / "hello" / "log.txt").is_file()
    assert f"jobs/{name}/both/outputs/words" in fetched.out


def test_a_failing_step_ends_with_its_log_and_exit_code_1(toys: Project, workspace_server: WorkspaceServer) -> None:
    answer = toys("submit", "two", "--set", "fail=yes", "--wait")
    assert answer.code == 1
    assert "both failed" in answer.out
    assert "told to fail" in answer.out
    fetched = toys("fetch", submitted(workspace_server), "world")
    assert fetched.code == 0
    assert "world: done" in fetched.out


def test_a_pipeline_within_a_pipeline(toys: Project, workspace_server: WorkspaceServer) -> None:
    answer = toys("submit", "nested", "--wait")
    assert answer.code == 0, answer.out + answer.err
    job = workspace_server.jobs[submitted(workspace_server)]
    loud = job.nodes["shout.loud"]
    assert loud["environment_variables"]["SPARSIGHT_BLOB_ENDPOINT"]
    assert len(workspace_server.sent("POST", "startPendingUpload")) == 1
    for step in ("shout.loud", "shout.joined", "count"):
        assert f"{step}: done after" in answer.out
    assert "shout: " not in answer.out
    fetched = toys("fetch", job.name, "shout.loud")
    assert fetched.code == 0, fetched.err
    words = toys.root / "jobs" / job.name / "shout.loud" / "outputs" / "words" / "words.txt"
    assert "HEY" in words.read_text()


def test_jobs_lists_and_shows(toys: Project, workspace_server: WorkspaceServer) -> None:
    toys("submit", "two", "--wait")
    name = submitted(workspace_server)
    listed = toys("jobs")
    assert listed.code == 0, listed.err
    assert name in listed.out
    assert "done" in listed.out
    shown = toys("jobs", name)
    assert f"{name}: done" in shown.out
    assert "both: done" in shown.out


def test_a_cancelled_job_ends_with_exit_code_130(toys: Project, workspace_server: WorkspaceServer) -> None:
    toys("submit", "two", "--set", "seconds=60")
    name = submitted(workspace_server)
    wait_until(lambda: any(child.status == "Running" for child in workspace_server.jobs[name].children().values()))
    assert toys("jobs", name, "--cancel").code == 0
    answer = toys("jobs", name, "--wait")
    assert answer.code == 130
    assert f"Cancelled: {name}" in answer.out


def test_a_step_ends_its_own_pipeline(
    toys: Project, workspace_server: WorkspaceServer, signed_in: Credential, monkeypatch: pytest.MonkeyPatch
) -> None:
    toys("submit", "two", "--set", "seconds=60")
    name = submitted(workspace_server)
    names = {"AZUREML_ARM_SUBSCRIPTION": SUBSCRIPTION, "AZUREML_ARM_RESOURCEGROUP": GROUP}
    of_job = {**names, "AZUREML_ARM_WORKSPACE_NAME": NAME, "AZUREML_ROOT_RUN_ID": name}

    def client(subscription: str, group: str, name: str) -> object:
        where = Workspace(subscription=subscription, resource_group=group, name=name)
        return open_client(where, workspace_server.url, signed_in)

    monkeypatch.setattr(azureml, "open_client", client)
    for variable, value in of_job.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(arguments, "CANCELLATION_SECONDS", 0)
    with pytest.raises(SystemExit) as ended:
        run_step(NoArguments, nothing_to_do, [])
    assert ended.value.code == NOTHING_TO_DO
    assert workspace_server.jobs[name].cancelled
    assert toys("jobs", name, "--wait").code == 130


def test_a_job_that_had_nothing_to_do_ends_with_exit_code_0(toys: Project, workspace_server: WorkspaceServer) -> None:
    toys.edit(
        "code/write.py", "print(", 'print("Nothing to do: 2 new annotations, 50 are asked for.", flush=True)\nprint('
    )
    toys("submit", "two", "--set", "seconds=60")
    name = submitted(workspace_server)

    def cancel_once_told(message: Message) -> None:
        run = workspace_server.jobs[name].run
        logs = run.glob("*/log.txt") if run else ()
        if message.path.endswith("/details") and any("Nothing to do" in log.read_text() for log in logs):
            workspace_server.jobs[name].cancel()

    workspace_server.trouble = cancel_once_told
    answer = toys("jobs", name, "--wait")
    assert answer.code == 0, answer.out
    assert f"Skipped: {name}" in answer.out


@dataclass(frozen=True, kw_only=True)
class NoArguments:
    """Of a step that has none."""


def nothing_to_do(_: NoArguments) -> None:
    raise NothingToDo("2 new annotations, 50 are asked for.")


def test_ctrl_c_while_waiting_leaves_the_job_alone_and_says_how_to_cancel(
    toys: Project, workspace_server: WorkspaceServer
) -> None:
    def interrupt() -> None:
        wait_until(lambda: bool(workspace_server.sent("GET", "/children")))
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    answer = toys("submit", "two", "--set", "seconds=60", "--wait")
    assert answer.code == 130
    name = submitted(workspace_server)
    assert f"python execute.py jobs {name} --cancel" in answer.out
    assert not workspace_server.jobs[name].cancelled


def test_a_lost_connection_is_told_and_borne(toys: Project, workspace_server: WorkspaceServer) -> None:
    cut = iter([OSError("the line is cut")] * 8)
    workspace_server.trouble = troubling("/children", cut)
    answer = toys("submit", "two", "--wait")
    assert answer.code == 0, answer.out + answer.err
    assert "No answer from photos-ws, asking again" in answer.out
    assert "photos-ws answers again." in answer.out


def test_an_expired_token_is_replaced(toys: Project, workspace_server: WorkspaceServer, signed_in: Credential) -> None:
    expired = iter([Refusal(401, "ExpiredAuthenticationToken", "The access token expiry is in the past.")] * 2)
    workspace_server.trouble = troubling("/children", expired)
    answer = toys("submit", "two", "--wait")
    assert answer.code == 0, answer.out + answer.err
    assert "No answer from photos-ws, asking again: The access token expiry is in the past." in answer.out


def test_signed_out_while_waiting_says_that_the_job_goes_on(
    toys: Project, workspace_server: WorkspaceServer, signed_in: Credential, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azure.identity import CredentialUnavailableError

    def nobody(*_: object, **__: object) -> None:
        raise CredentialUnavailableError(message="Please run 'az login' to set up an account")

    def sign_out(message: Message) -> None:
        if message.path.endswith("/children"):
            monkeypatch.setattr(signed_in, "get_token", nobody)
            raise Refusal(401, "ExpiredAuthenticationToken", "The access token expiry is in the past.")

    workspace_server.trouble = sign_out
    answer = toys("submit", "two", "--wait")
    assert answer.code == 2
    assert "Nobody is signed in any more." in answer.err
    assert f"python execute.py jobs {submitted(workspace_server)} --wait" in answer.err


def test_no_answer_for_too_long_gives_up(
    toys: Project, workspace_server: WorkspaceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PATIENCE", 0.5)
    workspace_server.trouble = troubling("/children", iter([OSError("the line is cut")] * 1000))
    answer = toys("submit", "two", "--wait")
    assert answer.code == 2
    assert "No answer for" in answer.err
    assert "The job goes on" in answer.err


def test_a_job_and_a_step_that_do_not_exist(toys: Project, workspace_server: WorkspaceServer) -> None:
    assert "was not found" in toys("jobs", "nothing-1").err
    toys("submit", "two", "--wait")
    answer = toys("fetch", submitted(workspace_server), "bohth")
    assert answer.code == 2
    assert "did you mean 'both'?" in answer.err


def test_fetch_again_keeps_what_is_here(toys: Project, workspace_server: WorkspaceServer, tmp_path: Path) -> None:
    toys("submit", "two", "--wait")
    name = submitted(workspace_server)
    toys("fetch", name, "both", "--into", str(tmp_path / "here"))
    asked = len(workspace_server.sent("POST", "batchGetResolvedUris"))
    assert toys("fetch", name, "both", "--into", str(tmp_path / "here")).code == 0
    assert len(workspace_server.sent("POST", "batchGetResolvedUris")) == asked


def troubling(path: str, troubles: "object") -> Callable[[Message], None]:
    """Raise one trouble after the other at requests whose path ends so, until there are no more."""

    def trouble(message: Message) -> None:
        if message.path.endswith(path) and (error := next(troubles, None)):  # type: ignore[call-overload]
            raise error

    return trouble
