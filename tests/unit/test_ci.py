"""What CI may do, and what its scripts say and hide: read in the workflows, and run against servers on loopback."""

import json
import os
import re
import stat
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCRIPTS = sorted((ROOT / "scripts" / "ci").glob("*.sh"))
SECRET = "proof-of-identity-"
REQUEST_TOKEN = "may-ask-for-proofs"


def workflow(name: str) -> dict:
    """Read a workflow; YAML 1.1 takes its key `on` for true."""
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())


def steps(name: str) -> list[dict]:
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


def commands(name: str) -> str:
    return "\n".join(step.get("run", "") for step in steps(name))


def make_targets(text: str) -> list[str]:
    return [word for words in re.findall(r"\bmake ([a-z ]+)$", text, re.M) for word in words.split()]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_may_do_nothing_but_what_its_job_says(file):
    content = yaml.safe_load(file.read_text())
    assert content["permissions"] == {}
    for job in content["jobs"].values():
        expected = {"contents": "read"} | ({"id-token": "write"} if file.stem == "submit" else {})
        assert job["permissions"] == expected
        assert job["timeout-minutes"] <= 360


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_newer_run_supersedes_an_older_one(file):
    concurrency = yaml.safe_load(file.read_text())["concurrency"]
    assert concurrency["cancel-in-progress"] is True
    assert "github.ref" in concurrency["group"]


@pytest.mark.parametrize("file", [*WORKFLOWS, ROOT / "azure-pipelines.yml", *SCRIPTS], ids=lambda file: file.name)
def test_there_is_no_secret(file):
    text = file.read_text()
    assert "secrets." not in text
    assert "set -x" not in text
    assert not re.search(r"(?i)(password|account.?key|client.?secret)\s*[:=]", text)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_actions_are_pinned_and_leave_no_credential_behind(file):
    for step in steps(file.stem):
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
    versions = re.findall(r"uses: \S+@\S+ # (v\d+\.\d+\.\d+)$", file.read_text(), re.M)
    assert len(versions) == file.read_text().count("uses: ")


def test_tests_are_the_same_everywhere():
    expected = make_targets((ROOT / ".ci" / "run").read_text())
    assert expected == ["check", "test"]
    assert make_targets(commands("test")) == expected
    stages = {stage["stage"]: stage for stage in yaml.safe_load((ROOT / "azure-pipelines.yml").read_text())["stages"]}
    assert make_targets("\n".join(step.get("script", "") for step in stages["test"]["jobs"][0]["steps"])) == expected


def test_targets_called_are_in_the_makefile():
    called = make_targets(commands("submit") + "\n" + (ROOT / "azure-pipelines.yml").read_text())
    assert set(called) <= set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert "install" in called


def test_submission_is_by_tag_or_by_hand_only():
    triggers = workflow("submit")[True]
    assert set(triggers) == {"push", "workflow_dispatch"}
    assert set(triggers["push"]) == {"tags"}
    names = {file.stem for file in (ROOT / "pipelines").glob("*.yml")}
    assert set(triggers["workflow_dispatch"]["inputs"]["pipeline"]["options"]) <= names


def test_values_reach_scripts_through_the_environment_only():
    """`${{ }}` in a script would let a value change the script."""
    assert "${{" not in commands("submit") + commands("test")
    for stage in yaml.safe_load((ROOT / "azure-pipelines.yml").read_text())["stages"]:
        for step in stage["jobs"][0]["steps"]:
            assert "${{" not in step.get("script", "") + step.get("inputs", {}).get("inlineScript", "")


def test_both_ci_systems_call_the_same_scripts():
    devops = (ROOT / "azure-pipelines.yml").read_text()
    called = set(re.findall(r"scripts/ci/(\w+)\.sh", commands("submit")))
    assert called == {"submit", "report", "cancel"}
    # GitHub supersedes by itself.
    assert set(re.findall(r"scripts/ci/(\w+)\.sh", devops)) == called | {"supersede"}


def test_a_cancelled_run_cancels_its_job_and_every_other_attaches_its_report():
    conditions = {
        step.get("run", step.get("uses", "")).split("@")[0]: step.get("if") for step in steps("submit") if "if" in step
    }
    assert conditions == {
        "scripts/ci/cancel.sh": "${{ cancelled() }}",
        'scripts/ci/report.sh "$PIPELINE"': "${{ !cancelled() }}",
        "actions/upload-artifact": "${{ !cancelled() }}",
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.name)
def test_scripts_are_bash_that_stops_at_a_mistake(script):
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    if script.stem != "keep_signed_in":  # that one is read by the others
        assert script.read_text().startswith("#!/usr/bin/env bash\n")
        assert "set -euo pipefail\n" in script.read_text()
        assert script.stat().st_mode & stat.S_IXUSR


class Identities(BaseHTTPRequestHandler):
    """What gives a CI job its proofs of identity, as GitHub and Azure DevOps do."""

    def answer(self) -> None:
        state = self.server.state  # type: ignore[attr-defined]
        state["asked"].append((self.command, self.path, self.headers["Authorization"]))
        known = self.headers["Authorization"] == f"Bearer {REQUEST_TOKEN}"
        proof = f"{SECRET}{len(state['asked'])}"
        body = json.dumps({"value": proof} if self.command == "GET" else {"oidcToken": proof}).encode()
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def identities(request):
    server = HTTPServer(("127.0.0.1", 0), getattr(request, "param", Identities))
    server.state = {"asked": [], "url": f"http://127.0.0.1:{server.server_port}"}  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.state  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


PYTHON = """\
#!/usr/bin/env bash
# Stands for .venv/bin/python: notes what it is asked, and answers as execute.py does.
printf '%s\\n' "$*" >>"$NOTES"
if [[ -n "${AZURE_FEDERATED_TOKEN_FILE:-}" ]]; then
  stat -c 'mode %a' "$AZURE_FEDERATED_TOKEN_FILE" >>"$NOTES"
  for _ in 1 2 3; do sha256sum <"$AZURE_FEDERATED_TOKEN_FILE" >>"$PROOFS"; sleep "${PAUSE:-0}"; done
fi
case "$2" in
  submit)
    echo "Submitted $3-20260101-000000-ab12 to workspace photos (resource group photos)"
    echo "https://ml.azure.com/runs/$3-20260101-000000-ab12?wsid=/x"
    ;;
  jobs) exit "$(sed -n 1p "$STATUSES" && sed -i 1d "$STATUSES")" ;;
  fetch)
    mkdir -p "jobs/$3/$4/outputs/comparison"
    echo page >"jobs/$3/$4/outputs/comparison/index.html"
    echo log >"jobs/$3/$4/log.txt"
    ;;
esac
"""


class Checkout:
    """A checkout with the scripts, and with something that stands for Python."""

    def __init__(self, root: Path) -> None:
        self.root, self.notes, self.proofs, self.statuses = (root, root / "notes", root / "proofs", root / "statuses")
        (root / "scripts").mkdir()
        (root / "scripts" / "ci").symlink_to(ROOT / "scripts" / "ci")
        (root / "python").write_text(PYTHON)
        (root / "python").chmod(0o755)
        self.statuses.write_text("0\n")

    def __call__(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        dropped = ("ACTIONS_", "SYSTEM_", "AZURE", "GITHUB_", "BUILD_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        ours = {"PYTHON": "./python", "NOTES": str(self.notes), "PROOFS": str(self.proofs), "RETRY_SECONDS": "0"}
        return subprocess.run(
            [str(self.root / "scripts" / "ci" / words[0]), *words[1:]],
            env={**kept, **ours, "STATUSES": str(self.statuses), "no_proxy": "*", **variables},
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def github(url: str) -> dict[str, str]:
    return {
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{url}/token?job=1",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": REQUEST_TOKEN,
        "AZURE_CLIENT_ID": "client",
        "AZURE_TENANT_ID": "tenant",
    }


def test_submit_waits_for_the_job_and_says_where_it_is(checkout):
    summary = checkout.root / "summary.md"
    done = checkout("submit.sh", "recognise", "labels=50", "seed=1", GITHUB_STEP_SUMMARY=str(summary))
    job = "recognise-20260101-000000-ab12"
    assert done.returncode == 0, done.stderr
    assert checkout.notes.read_text().splitlines() == [
        "execute.py submit recognise --set labels=50 --set seed=1",
        f"execute.py jobs {job} --wait",
    ]
    assert (checkout.root / "jobs" / "submitted").read_text() == f"{job}\n"
    assert summary.read_text() == f"[{job}](https://ml.azure.com/runs/{job}?wsid=/x)\n"


def test_submit_ends_with_the_jobs_status(checkout):
    checkout.statuses.write_text("1\n")
    assert checkout("submit.sh", "recognise").returncode == 1


def test_submit_asks_again_where_the_status_could_not_be_asked_for(checkout):
    checkout.statuses.write_text("2\n2\n0\n")
    assert checkout("submit.sh", "recognise").returncode == 0
    checkout.statuses.write_text("2\n2\n2\n0\n")
    assert checkout("submit.sh", "recognise").returncode == 2


def test_submit_takes_settings_only(checkout):
    done = checkout("submit.sh", "recognise", "--force")
    assert done.returncode == 2
    assert "'--force' sets nothing: write NAME=VALUE." in done.stderr
    assert not checkout.notes.exists()


def test_the_report_holds_the_page_and_the_log(checkout):
    checkout("submit.sh", "recognise")
    done = checkout("report.sh", "recognise")
    assert done.returncode == 0, done.stderr
    assert checkout.notes.read_text().splitlines()[-1] == "execute.py fetch recognise-20260101-000000-ab12 compare"
    assert sorted(path.name for path in (checkout.root / "jobs" / "report").iterdir()) == [
        "index.html",
        "log.txt",
        "submit.log",
    ]


def test_cancel_cancels_what_was_submitted(checkout):
    checkout("submit.sh", "pretrain")
    checkout.statuses.write_text("0\n")
    assert checkout("cancel.sh").returncode == 0
    assert checkout.notes.read_text().splitlines()[-1] == "execute.py jobs pretrain-20260101-000000-ab12 --cancel"


@pytest.mark.parametrize("words", [["cancel.sh"], ["report.sh", "recognise"]])
def test_without_a_job_there_is_nothing_to_do(checkout, words):
    done = checkout(*words)
    assert (done.returncode, "No job was submitted" in done.stdout) == (0, True)


def test_a_long_wait_gets_fresh_proofs_that_nobody_else_sees(checkout, identities):
    variables = {**github(identities["url"]), "SIGN_IN_SECONDS": "0.2", "PAUSE": "0.5"}
    done = checkout("submit.sh", "recognise", **variables)
    assert done.returncode == 0, done.stderr
    assert len(set(checkout.proofs.read_text().split())) > 3
    assert "mode 600" in checkout.notes.read_text()
    assert SECRET not in done.stdout + done.stderr
    assert REQUEST_TOKEN not in done.stdout + done.stderr
    asked = len(identities["asked"])
    assert identities["asked"][0][:2] == ("GET", "/token?job=1&audience=api://AzureADTokenExchange")
    time.sleep(0.7)
    assert len(identities["asked"]) <= asked + 1, "it goes on asking after its end"


def test_the_end_waits_for_nothing(checkout, identities):
    began = time.monotonic()
    assert checkout("submit.sh", "recognise", **github(identities["url"])).returncode == 0
    assert time.monotonic() - began < 30  # not the 120 seconds to the next proof


def test_azure_devops_gives_proofs_too(checkout, identities):
    variables = {
        "SYSTEM_OIDCREQUESTURI": f"{identities['url']}/oidc",
        "SYSTEM_ACCESSTOKEN": REQUEST_TOKEN,
        "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID": "connection",
        "AZURESUBSCRIPTION_CLIENT_ID": "client",
        "AZURESUBSCRIPTION_TENANT_ID": "tenant",
    }
    done = checkout("submit.sh", "recognise", **variables)
    assert done.returncode == 0, done.stderr
    assert identities["asked"][0][:2] == ("POST", "/oidc?api-version=7.1&serviceConnectionId=connection")


def test_without_permission_it_says_which(checkout, identities):
    variables = {**github(identities["url"]), "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "another"}
    done = checkout("submit.sh", "recognise", **variables)
    assert done.returncode == 2
    assert "permissions: id-token: write" in done.stderr
    assert not checkout.notes.exists()


def test_it_says_whose_name_is_missing(checkout, identities):
    done = checkout("submit.sh", "recognise", **{**github(identities["url"]), "AZURE_CLIENT_ID": ""})
    assert done.returncode == 2
    assert "set AZURE_CLIENT_ID and AZURE_TENANT_ID" in done.stderr


class Builds(BaseHTTPRequestHandler):
    """Azure DevOps's list of runs."""

    def do_GET(self) -> None:
        runs = [(5, "refs/tags/v1"), (7, "refs/tags/v1"), (6, "refs/heads/main"), (9, "refs/tags/v1")]
        self._send({"value": [{"id": number, "sourceBranch": branch} for number, branch in runs]})

    def do_PATCH(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.state["asked"].append((self.path, json.loads(body), self.headers["Authorization"]))  # type: ignore[attr-defined]
        self._send({})

    def _send(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("identities", [Builds], indirect=True)
def test_on_azure_devops_older_runs_of_the_same_branch_are_cancelled(checkout, identities):
    done = checkout(
        "supersede.sh",
        SYSTEM_COLLECTIONURI=f"{identities['url']}/",
        SYSTEM_TEAMPROJECTID="project",
        SYSTEM_DEFINITIONID="3",
        SYSTEM_ACCESSTOKEN=REQUEST_TOKEN,
        BUILD_BUILDID="7",
        BUILD_SOURCEBRANCH="refs/tags/v1",
    )
    assert done.returncode == 0, done.stderr
    path = "/project/_apis/build/builds/5?api-version=7.1"
    assert identities["asked"] == [(path, {"status": "cancelling"}, f"Bearer {REQUEST_TOKEN}")]
    assert REQUEST_TOKEN not in done.stdout + done.stderr
