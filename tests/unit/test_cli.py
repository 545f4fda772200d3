import subprocess
import sys

import pytest
import typer.main
from toy_project import Project

from sparsight.cli import app

WORKSPACE = ["--subscription", "--resource-group", "--workspace"]
SURFACE = {
    "list": [],
    "show": ["PIPELINE"],
    "run": ["[PIPELINE]", "--set", "--resume", "--force", "--at-once", "--no-services"],
    "runs": ["[RUN]", "--limit"],
    "services up": ["--with"],
    "services down": [],
    "services status": [],
    "labels renew": ["PROJECT", "--valid-hours", "--all", "--no-services"],
    "labels simulate": [
        *("PROJECT", "--truth", "--annotators", "--error-rate", "--cost", "--limit", "--seed", "--no-services"),
    ],
    "labels status": ["PROJECT", "--model", "--metric", "--plot", "--no-services"],
    "labels quality": ["--containers", "--level", "--include-reviewed", "--no-services"],
    "data load": ["SOURCE", "[PATH]", "--name", "--limit", "--labelled", "--test", "--seed", "--no-services"],
    "labels sync": [
        *("PROJECT", "--containers", "--export", "--users", "--taxonomy", "--unknown-labels", "--annotators"),
        *("--reviewers", "--agreeing", "--keep-deleted", "--max-cleared", "--dry-run", "--no-services"),
    ],
    "labels listen": [
        *("PROJECT", "--containers", "--taxonomy", "--unknown-labels", "--annotators", "--reviewers", "--agreeing"),
        *("--max-cleared", "--every", "--port", "--url", "--no-services"),
    ],
    "labels taxonomy check": ["FILE", "--containers", "--no-services"],
    "labels taxonomy derive": ["--containers", "--out", "--no-services"],
    "labels taxonomy config": ["FILE", "--language"],
    "submit": ["PIPELINE", "--set", "--compute", "--experiment", "--force", "--wait", "--dry-run", *WORKSPACE],
    "jobs": ["[JOB]", "--limit", "--wait", "--cancel", *WORKSPACE],
    "fetch": ["JOB", "[STEP]", "--into", *WORKSPACE],
    "schedule": ["[NAME]", "--set", "--compute", "--off", "--dry-run", *WORKSPACE],
    "tune": ["[IMAGES]", "--interactive", "--no-services"],
    "compress": ["SOURCES", "--model", "--out", "--bpp", "--jobs", "--no-services"],
    "decompress": ["SOURCES", "--model", "--out", "--jobs", "--no-services"],
    "models list": ["[NAME]", "--no-services", *WORKSPACE],
    "models show": ["MODEL", "--no-services", *WORKSPACE],
    "models promote": ["MODEL", "--metric", "--by", "--images", "--force", "--no-services", *WORKSPACE],
    "models download": ["MODEL", "--into", "--no-services", *WORKSPACE],
    "models export": ["MODEL", "--onnx", "--no-services", *WORKSPACE],
    "index build": ["FOLDER", "--embeddings", "--dataset", "--code", "--bits", "--structure", "--seed"],
    "index add": ["FOLDER", "--embeddings", "--dataset"],
    "index remove": ["FOLDER", "[IDS]", "--file"],
    "index search": [
        *("FOLDER", "IMAGE", "--count", "--label", "--where", "--where-parameters", "--rerank", "--model", "--json"),
        "--no-services",
    ],
    "index serve": ["FOLDER", "--port", "--where", "--where-parameters", "--rerank", "--model", "--no-services"],
}
HEAVY = {"azure", "torch", "mlflow", "pandas", "numpy", "rich.table", "psutil"}


@pytest.fixture
def project(tmp_path, capsys):
    return Project(tmp_path, capsys)


def surface(command, prefix: str = "") -> dict[str, list[str]]:
    if hasattr(command, "commands"):
        return {
            key: value
            for name, each in command.commands.items()
            for key, value in surface(each, f"{prefix} {name}".strip()).items()
        }
    shown = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            shown.append(parameter.name.upper() if parameter.required else f"[{parameter.name.upper()}]")
        elif parameter.name != "help":
            shown.append(parameter.opts[0])
    return {prefix: shown}


def test_the_command_line_stays_as_people_know_it():
    assert surface(typer.main.get_command(app)) == SURFACE


def test_list_names_the_pipelines_with_a_line_each(project):
    answer = project("list")
    assert answer.code == 0
    assert answer.out.splitlines() == [
        "nested  A pipeline inside a pipeline, and a step written in place.",
        "two     Two writers, then a join.",
    ]


def test_list_loads_nothing_heavy(project):
    program = (
        "import sys; from pathlib import Path; from sparsight.cli import main\n"
        "try: main(Path(sys.argv[1]), ['list'])\n"
        f"except SystemExit: print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", program, str(project.root)], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"


def test_show_tells_inputs_and_graph(project):
    answer = project("show", "two")
    assert answer.code == 0
    for text in ("Two writers, then a join.", "integer", "1 to 10", "yes | no", "How many times.", "greet the world"):
        assert text in answer.out
    assert "  1  hello [write]\n  1  world [write]\n  2  both [join]  after hello, world\n" in answer.out


def test_an_unknown_pipeline_is_told_with_the_nearest_name(project):
    answer = project("run", "tow")
    assert answer.code == 2
    assert answer.err.startswith("error: There is no pipeline 'tow'; did you mean 'two'?")


def test_a_pipeline_can_be_given_by_path(project):
    assert project("run", str(project.path("two.yml"))).code == 0


def test_the_end_shows_outputs_pages_and_summaries(project):
    project.edit("code/join.py", "print(", "(arguments.out / 'index.html').write_text('<p>')\nprint(")
    out = project("run", "two").out
    run = project.latest().path
    assert f"both: {run}/both/outputs/words\n" in out
    assert f"both: open {run}/both/outputs/words/index.html\n" in out
    assert "\n5 words\n" in out
    assert out.endswith(f"Done: {run}\n")


def test_runs_lists_and_shows_runs(project):
    assert "There are no runs yet." in project("runs").out
    project("run", "two")
    project("run", "two", "--set", "fail=yes")
    run = project.latest()
    listing = project("runs").out
    assert run.id in listing
    assert "failed" in listing
    assert "done" in listing
    assert "1 more" in project("runs", "--limit", "1").out
    shown = project("runs", "latest").out
    assert shown.startswith(f"{run.id}: two, failed, code ")
    assert "hello: reused (same as in" in shown
    assert "both: failed after 0 s (input fail changed)" in shown
    assert f"log     {run.path}/both/log.txt" in shown
    assert f"python execute.py run --resume {run.id}" in shown


def test_an_unknown_run_is_told_with_the_newest(project):
    project("run", "two")
    answer = project("runs", "20000101-000000-two")
    assert answer.code == 2
    assert f"The newest is {project.latest().id}." in answer.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "word=other"], "was started with word=hello; --set word=other contradicts that."),
        (["nested"], "is a run of pipelines/two.yml, not of nested."),
        (["--force"], "--force and --resume exclude each other."),
    ],
)
def test_a_resume_that_contradicts_its_run_is_refused(project, arguments, message):
    project("run", "two")
    answer = project("run", "--resume", "latest", *arguments)
    assert answer.code == 2
    assert message in answer.err


def test_a_resume_keeps_what_was_finished(project):
    project("run", "two", "--set", "fail=yes", "--set", "word=hey")
    answer = project("run", "--resume", "latest")
    assert answer.code == 1
    assert "hello: reused (finished before, kept)\nworld: reused (finished before, kept)\n" in answer.out


def test_a_resume_runs_what_failed_or_changed(project):
    project("run", "two", "--set", "fail=yes", "--set", "word=hey")
    run = project.latest()
    project.edit("code/join.py", 'if arguments.fail == "yes"', 'if arguments.fail == "never"')
    answer = project("run", "--resume", run.id)
    assert answer.code == 0
    assert project.latest().id == run.id
    assert run.read().status == "done"
    assert run.read().settings["word"] == "hey"


def test_run_without_a_name_says_what_to_do(project):
    answer = project("run")
    assert answer.code == 2
    assert "Say which pipeline to run." in answer.err


def test_a_place_that_can_not_stand_in_a_command_is_refused(tmp_path, capsys):
    project = Project(tmp_path / "my project", capsys)
    answer = project("run", "two")
    assert answer.code == 2
    assert "Move the repository to a path without such characters" in answer.err
    assert not (project.root / "runs").exists()


@pytest.mark.parametrize("source", ["folder", "idx"])
def test_loading_a_folder_needs_its_path(project, source):
    answer = project("data", "load", source)
    assert answer.code == 2
    assert "Say which folder to load." in answer.err


def test_a_sample_collection_takes_no_folder(project):
    answer = project("data", "load", "digits", "photos")
    assert answer.code == 2
    assert "digits takes no folder." in answer.err
