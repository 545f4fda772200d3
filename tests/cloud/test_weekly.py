"""Schedules in a workspace on loopback: put into force, listed, fired, stopped."""

import json

import pytest
from golden_messages import Golden, Normaliser
from loopback import Credential
from toy_project import Project
from workspace_server import WorkspaceServer

pytestmark = [pytest.mark.usefixtures("config")]

WEEKLY = """\
name: weekly-two
trigger:
  type: recurrence
  frequency: week
  interval: 2
  schedule:
    week_days: [monday, friday]
    hours: [3]
    minutes: [30]
create_job:
  type: pipeline
  job: ../two.yml
  inputs:
    word: ahoy
"""


@pytest.fixture
def scheduled_toys(toys: Project) -> Project:
    folder = toys.root / "pipelines" / "schedules"
    folder.mkdir()
    (folder / "weekly.yml").write_text(WEEKLY)
    return toys


def test_the_message_of_weekly_retraining(
    golden: Golden, signed_in: Credential, workspace_server: WorkspaceServer, sparsight: Project
) -> None:
    answer = sparsight("schedule", "weekly_retrain", "--set", "min_new=20")
    assert answer.code == 0, answer.err
    assert "weekly-retrain starts retrain in workspace photos-ws" in answer.out
    assert "every week on monday at 03:00 UTC" in answer.out
    (message,) = workspace_server.sent("PUT", "/schedules/")
    job = message.body["properties"]["action"]["jobDefinition"]
    assert job["inputs"]["min_new"]["value"] == "20"
    golden("schedules/weekly_retrain", Normaliser(workspace_server)(message.body))
    assert workspace_server.jobs == {}


def test_put_listed_fired_stopped(
    signed_in: Credential, workspace_server: WorkspaceServer, scheduled_toys: Project
) -> None:
    toys = scheduled_toys
    assert "In pipelines/schedules: weekly." in toys("schedule").out
    put = toys("schedule", "weekly")
    assert put.code == 0, put.err
    when = "every 2 weeks on monday, friday at 03:30 UTC"
    assert f"weekly-two starts two in workspace photos-ws (resource group photos-rg) {when}." in put.out
    assert f"weekly-two: {when}" in toys("schedule").out

    workspace_server.runs_jobs = True
    job = workspace_server.fire("weekly-two")
    followed = toys("jobs", job, "--wait")
    assert followed.code == 0, followed.out + followed.err
    toys("fetch", job, "hello")
    assert "ahoy" in (toys.root / "jobs" / job / "hello" / "outputs" / "words" / "words.txt").read_text()

    stopped = toys("schedule", "weekly", "--off")
    assert stopped.code == 0, stopped.err
    assert not workspace_server.schedules["weekly-two"]["properties"]["isEnabled"]
    assert "weekly-two: out of force" in toys("schedule").out


def test_a_dry_run_sends_nothing(
    signed_in: Credential, workspace_server: WorkspaceServer, scheduled_toys: Project
) -> None:
    answer = scheduled_toys("schedule", "weekly", "--dry-run")
    assert answer.code == 0, answer.err
    assert "weekly-two would start two every 2 weeks" in answer.out
    job = json.loads(answer.out.partition("\nJob:\n")[2].partition("\nNothing was sent.")[0])
    assert job["properties"]["inputs"]["word"]["value"] == "ahoy"
    assert workspace_server.messages == []


def test_what_cannot_be_scheduled(
    signed_in: Credential, workspace_server: WorkspaceServer, scheduled_toys: Project
) -> None:
    toys = scheduled_toys
    assert "did you mean 'weekly'?" in toys("schedule", "weekli").err
    wrong = toys("schedule", "weekly", "--set", "wort=ahoy")
    assert wrong.code == 2
    assert "no input 'wort'; did you mean 'word'?" in wrong.err
    (toys.root / "pipelines" / "schedules" / "odd.yml").write_text(WEEKLY.replace("job: ../two.yml", "job: 3"))
    assert "expected the path of a pipeline's YAML" in toys("schedule", "odd").err
    assert "--off goes with no other option" in toys("schedule", "weekly", "--off", "--dry-run").err
    assert "Say which schedule is meant." in toys("schedule", "--off").err
    more = WEEKLY.replace("  inputs:", "  compute: azureml:cpu\n  inputs:")
    (toys.root / "pipelines" / "schedules" / "more.yml").write_text(more)
    assert "create_job has compute; only type, job and inputs are taken here" in toys("schedule", "more").err
    never = toys("schedule", "weekly", "--off")
    assert never.code == 2
    assert "weekly-two" in never.err
    assert workspace_server.schedules == {}
