import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from toy_project import Project

from sparsight.local.graph import Step
from sparsight.local.records import all_runs
from sparsight.local.room import Room
from tests.processes import has_ended, wait_until

GOLDEN = (
    "python write.py --word 'hello' --count 3 --loud False --note 'greet the world' "
    "--seconds 0 --out {runs}/hello/outputs/words"
)


@pytest.fixture
def project(tmp_path, capsys):
    return Project(tmp_path, capsys)


def started(project: Project, *arguments: str) -> "subprocess.Popen[str]":
    """Start a command as a process of its own, as a person would."""
    return subprocess.Popen(
        project.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def test_the_command_line_is_the_one_azure_ml_runs(project):
    assert project("run", "two").code == 0
    told = json.loads((project.latest().path / "hello/inputs.json").read_text())
    assert told["command"] == GOLDEN.format(runs=project.latest().path)
    assert told["working_directory"] == str(project.path("code"))
    assert told["inputs"] == {"word": "hello", "count": 3, "loud": False, "note": "greet the world", "seconds": 0}
    world = json.loads((project.latest().path / "world/inputs.json").read_text())
    assert "--note" not in world["command"]
    assert "--loud True" in world["command"]
    assert "--seconds 0 " in world["command"]


def test_a_run_tells_what_it_ran_with(project):
    project("run", "two", "--set", "word=hi")
    record = project.latest().read()
    assert record.status == "done"
    assert record.settings == {"word": "hi", "count": 3, "seconds": 0, "note": "greet the world", "fail": "no"}
    assert record.steps == ["hello", "world", "both"]
    assert record.code_version
    assert record.versions["python"]
    assert record.file == "pipelines/two.yml"


def test_steps_find_their_surroundings(project):
    project.edit("two.yml", "      GREETING: hi", "      GREETING: hi there")
    project.edit(
        "components/join/component.yml",
        "python join.py",
        "env > ${{outputs.words}}/env.txt && command -v python >> ${{outputs.words}}/env.txt && python join.py",
    )
    assert project("run", "two").code == 0
    run = project.latest()
    lines = (run.path / "both/outputs/words/env.txt").read_text().splitlines()
    assert "GREETING=hi there" in lines
    assert f"SPARSIGHT_RUN={run.id}" in lines
    assert "MLFLOW_EXPERIMENT_NAME=two" in lines
    assert any(line.startswith("SPARSIGHT_CODE_VERSION=") for line in lines)
    assert any(line.startswith(f"PYTHONPATH={project.path('code')}") for line in lines)
    assert lines[-1] == str(Path(os.sys.executable).parent / "python")


def test_independent_steps_run_side_by_side(project):
    meet = "touch '${{inputs.mine}}'; until [ -e '${{inputs.other}}' ]; do sleep 0.02; done"
    first, second = str(project.root / "first"), str(project.root / "second")
    project.inline(
        "meeting", {"a": (meet, {"mine": first, "other": second}), "b": (meet, {"mine": second, "other": first})}
    )
    assert project("run", "meeting", "--at-once", "2").code == 0


def step(cores: int) -> Step:
    return Step(
        name="x",
        component="x",
        where="",
        command="",
        code=None,
        environment="",
        variables={},
        deterministic=True,
        ports={},
        sources={},
        outputs={},
        cores=cores,
    )


@pytest.mark.parametrize(
    ("room", "new", "running", "expected"),
    [
        (Room(8, 2), 2, [], True),
        (Room(8, 2), 4, [], True),
        (Room(8, 2), 1, [1], True),
        (Room(8, 2), 1, [2], False),
        (Room(8, 8), 2, [2, 2, 2], True),
        (Room(3, 8), 2, [2, 2, 2], False),
    ],
)
def test_a_step_starts_where_there_is_room(room, new, running, expected):
    assert room.takes(step(new), [step(each) for each in running]) is expected


def test_a_failing_step_ends_the_run_with_its_last_lines_and_the_way_on(project):
    answer = project("run", "two", "--set", "fail=yes")
    run = project.latest()
    assert answer.code == 1
    assert project.statuses() == {"hello": "done", "world": "done", "both": "failed"}
    assert "both failed with exit code 1" in answer.out
    assert "  told to fail" in answer.out
    assert f"python execute.py run --resume {run.id}" in answer.out
    assert run.read().status == "failed"


def test_after_a_failure_what_runs_may_finish_and_nothing_new_starts(project):
    go = project.root / "go"
    project.inline(
        "half",
        {
            "bad": (f"touch {go}; exit 3", {"x": "1"}),
            "good": (f"until [ -e {go} ]; do sleep 0.02; done; sleep 0.2", {"x": "1"}),
            "never": ("true", {"x": "${{parent.jobs.bad.outputs.out}}"}),
        },
    )
    assert project("run", "half", "--at-once", "2").code == 1
    assert project.statuses() == {"bad": "failed", "good": "done", "never": "waiting"}


def test_a_step_that_leaves_an_output_out_has_failed(project):
    project.inline("empty", {"a": ("rmdir ${{outputs.out}}", {"x": "1"})})
    answer = project("run", "empty")
    assert answer.code == 1
    assert "the step ended without making its output 'out'" in answer.out


def test_what_a_step_leaves_in_the_background_ends_with_it(project):
    project.inline("leaver", {"a": (f"(sleep 600 & echo $! > {project.root}/pid); true", {"x": "1"})})
    assert project("run", "leaver").code == 0
    child = int((project.root / "pid").read_text())
    wait_until(lambda: has_ended(child))


def slow(project: Project) -> Path:
    """Write a pipeline whose step takes long at its first attempt and finds its own half-made work at the second."""
    pid = project.root / "pid"
    draft = "${{outputs.out}}.partial"
    project.inline(
        "slow",
        {
            "quick": ("echo 1 > ${{outputs.out}}/x", {"x": "1"}),
            "long": (
                f"if [ -e {draft} ]; then cp {draft} ${{{{outputs.out}}}}/x; "
                f"else echo half > {draft}; echo $$ > {pid}; sleep 600; fi",
                {"x": "${{parent.jobs.quick.outputs.out}}"},
            ),
        },
    )
    return pid


def test_a_killed_run_takes_its_steps_along_and_can_be_taken_up(project):
    pid_file = slow(project)
    process = started(project, "run", "slow")
    wait_until(lambda: pid_file.exists() and pid_file.read_text().strip())
    step = int(pid_file.read_text())
    run = next(iter(all_runs(project.root / "runs")))
    refused = project("run", "--resume", run.id)
    assert refused.code == 2
    assert "is still running" in refused.err
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    wait_until(lambda: has_ended(step))
    assert "killed" in project("runs").out
    answer = project("run", "--resume", run.id)
    assert answer.code == 0, answer
    assert "quick: reused (finished before, kept)" in answer.out
    assert project.latest().id == run.id
    assert project.statuses() == {"quick": "done", "long": "done"}
    assert (run.path / "long/outputs/out/x").read_text() == "half\n"


def test_half_made_work_of_another_command_is_not_taken_up(project):
    pid_file = slow(project)
    process = started(project, "run", "slow")
    wait_until(lambda: pid_file.exists() and pid_file.read_text().strip())
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    wait_until(lambda: has_ended(int(pid_file.read_text())))
    changed = "if [ -e ${{outputs.out}}.partial ]; then exit 9; fi; echo fresh > ${{outputs.out}}/x"
    project.inline(
        "slow",
        {
            "quick": ("echo 1 > ${{outputs.out}}/x", {"x": "1"}),
            "long": (changed, {"x": "${{parent.jobs.quick.outputs.out}}"}),
        },
    )
    assert project("run", "--resume", "latest").code == 0
    assert (project.latest().path / "long/outputs/out/x").read_text() == "fresh\n"


def test_what_our_own_step_finished_is_kept_when_it_failed_afterwards(project):
    whole = "${{outputs.out}}/manifest.json"
    register = f"if [ -e {whole} ]; then exit 0; fi; mkdir ${{{{outputs.out}}}}; echo once > {whole}; exit 1"
    project.inline("ours", {"a": (f"true sparsight.steps.x; {register}", {"x": "1"})})
    assert project("run", "ours", "--no-services").code == 1
    assert project("run", "--resume", "latest", "--no-services").code == 0
    assert project("run", "ours", "--no-services", "--force").code == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_its_steps_and_says_how_to_go_on(project, number):
    pid_file = slow(project)
    process = started(project, "run", "slow")
    wait_until(lambda: pid_file.exists() and pid_file.read_text().strip())
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert has_ended(int(pid_file.read_text()))
    assert project.statuses() == {"quick": "done", "long": "cancelled"}
    assert f"run --resume {project.latest().id}" in out
    assert "Traceback" not in out
