"""Steps in several processes: how many, what is refused before anything starts, and what one process does as before."""

import importlib.util
import json
import os
import signal
import subprocess

import psutil
import pytest
from toy_project import Project

from sparsight.local.distribution import check_distributions, size_of
from tests.processes import has_ended, wait_until

JOB = """\
$schema: https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json
type: pipeline
inputs: {{processes: 1}}
settings: {{default_compute: azureml:cpu}}
jobs:
  many:
    type: command
    component: ./many.component.yml
    inputs: {{{inputs}}}
{more}
"""
COMPONENT = """\
$schema: https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json
name: many
version: "1"
type: command
is_deterministic: true
inputs: {{{inputs}}}
outputs:
  out: {{type: uri_folder}}
environment:
  image: mcr.microsoft.com/azureml/minimal-ubuntu22.04-py39-cpu-inference
{more}
command: >-
  {command}
"""
CHOSEN = "processes: {type: integer, default: 1, min: 1}, instances: {type: integer, default: 1, min: 1}"
MPI = "distribution: {{type: mpi, process_count_per_instance: {0}}}\nresources: {{instance_count: {1}}}"
BOUND = "processes: '${{parent.inputs.processes}}'"
# With words of `inputs` in it, as each input must be passed on.
TELL = (
    "echo $OMP_NUM_THREADS > ${{outputs.out}}/local-${SPARSIGHT_LOCAL_RANK:-none} "
    "&& echo $HOROVOD_SIZE $(ps -ww -o args= -p $PPID) >> ${{outputs.out}}/local-${SPARSIGHT_LOCAL_RANK:-none}"
)
needs_horovod = pytest.mark.skipif(importlib.util.find_spec("horovod") is None, reason="needs Horovod: make horovod")


@pytest.fixture
def project(tmp_path, capsys):
    return Project(tmp_path, capsys)


def write(project: Project, command: str, *, declared="", given="", more="", node="") -> None:
    project.path("many.component.yml").write_text(COMPONENT.format(inputs=declared, more=more, command=command))
    indented = "\n".join(f"    {line}" for line in node.splitlines())
    project.path("many.yml").write_text(JOB.format(inputs=given, more=indented))


def chosen(project: Project, command: str) -> None:
    words = command + " ; : ${{inputs.processes}} ${{inputs.instances}}"
    write(project, words, declared=CHOSEN, given=BOUND, more=MPI.format(1, 1))


@pytest.mark.parametrize(
    ("declared", "given", "more", "node", "expected"),
    [
        ("", "", "", "", (1, 1)),
        ("", "", MPI.format(3, 2), "", (3, 2)),
        ("", "", MPI.format(3, 2), MPI.format(2, 1), (2, 1)),
        ("", "", "", "resources: {instance_count: 2}", (1, 1)),
        (CHOSEN, BOUND, MPI.format(1, 1), "", (1, 1)),
        (CHOSEN, "processes: 4, instances: 2", MPI.format(1, 1), "", (4, 2)),
        ("instances: {type: integer, default: 2}", "", MPI.format(1, 1), "", (1, 2)),
        (CHOSEN, "processes: 4", "", "", (1, 1)),
        ("", "", "", "distribution: {type: pytorch, process_count_per_instance: 2}", (2, 1)),
    ],
)
def test_how_many_processes_a_step_runs_as(project, declared, given, more, node, expected):
    write(project, "true", declared=declared, given=given, more=more, node=node)
    pipeline, _ = project.load("many")
    size = size_of(pipeline, pipeline.steps["many"])
    assert (size.processes, size.instances) == expected


@pytest.mark.parametrize("kind", ["pytorch", "tensorflow"])
def test_other_distributions_are_refused(project, kind):
    count = "worker_count" if kind == "tensorflow" else "process_count_per_instance"
    write(project, "true", node=f"distribution: {{type: {kind}, {count}: 2}}")
    answer = project("run", "many", "--no-services")
    assert answer.code == 2
    assert f"2 processes of a {kind} distribution run on Azure ML only" in answer.err
    write(project, "true", node=f"distribution: {{type: {kind}, {count}: 1}}")
    assert list(check_distributions(project.load("many")[0])) == []


def test_without_horovod_several_processes_are_refused_before_anything_starts(project, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "horovod" else find(name))
    chosen(project, "true")
    answer = project("run", "many", "--set", "processes=2", "--no-services")
    assert answer.code == 2
    assert "many runs as 2 processes" in answer.err
    assert "make horovod" in answer.err
    assert not (project.root / "runs").exists()
    assert project("run", "many", "--no-services").code == 0, "one process needs none"


def test_one_process_is_launched_as_ever(project, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    chosen(project, TELL)
    assert project("run", "many", "--no-services").code == 0
    out = project.latest().path / "many/outputs/out"
    (told,) = [file.read_text() for file in out.iterdir()]
    assert told.startswith("\n/"), "neither threads nor places are set"
    assert "guard.py" in told
    assert json.loads((project.latest().path / "many/inputs.json").read_text())["processes"] == 1


@needs_horovod
def test_several_share_the_cores_and_their_number_is_told(project, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    chosen(project, TELL)
    answer = project("run", "many", "--set", "processes=2", "--no-services")
    assert answer.code == 0, answer.out
    assert "many: running (no earlier run; 2 processes)" in answer.out
    run = project.latest().path / "many"
    assert sorted(file.name for file in (run / "outputs/out").iterdir()) == ["local-0", "local-1"]
    assert (run / "outputs/out/local-0").read_text().startswith("1\n2 ")
    told = json.loads((run / "inputs.json").read_text())
    assert told["processes"] == 2
    assert "horovod_launcher" not in told["command"], "the command is the one Azure ML runs"
    assert "many: reused" in project("run", "many", "--set", "processes=2", "--no-services").out
    assert "input processes changed" in project("run", "many", "--no-services").out


@needs_horovod
def test_what_the_user_says_of_threads_holds(project, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    chosen(project, TELL)
    assert project("run", "many", "--set", "processes=2", "--no-services").code == 0
    assert (project.latest().path / "many/outputs/out/local-1").read_text().startswith("7\n")


@needs_horovod
def test_a_component_of_anybodys_runs_as_its_yaml_says(project):
    write(project, TELL, more=MPI.format(3, 1))
    assert project("run", "many", "--no-services").code == 0
    names = sorted(file.name for file in (project.latest().path / "many/outputs/out").iterdir())
    assert names == ["local-0", "local-1", "local-2"]
    write(project, TELL, more=MPI.format(2, 1))
    assert "distribution changed" in project("run", "many", "--no-services").out


@needs_horovod
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_ends_takes_all_processes_with_it(project, tmp_path, number):
    pids = tmp_path / "pids"
    pids.mkdir()
    chosen(project, f"touch {pids}/$$ && exec sleep 60")
    command = project.command("run", "many", "--set", "processes=2", "--no-services")
    runner = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: len(list(pids.iterdir())) == 2)
    workers = [psutil.Process(int(file.name)) for file in pids.iterdir()]
    family = [each for one in workers for each in [one, *one.parents()[:3]] if each.pid not in {1, os.getpid()}]
    runner.send_signal(number)
    runner.wait(30)
    wait_until(lambda: all(has_ended(each.pid) for each in family))
