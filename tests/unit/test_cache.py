import json
import os
import shutil

import pytest
from toy_project import Project

from sparsight.local.cache import difference
from sparsight.local.digests import code_digests, content_digest, is_whole, stamps


@pytest.fixture
def project(tmp_path, capsys):
    return Project(tmp_path, capsys)


def reasons(project: Project) -> dict[str, str]:
    run = project.latest()
    return {name: run.read_step(name).reason for name in run.read().steps}


def test_a_second_run_reuses_everything_and_says_so(project):
    project("run", "two")
    first = project.latest()
    answer = project("run", "two")
    assert answer.code == 0
    assert project.latest().id != first.id
    assert project.statuses() == dict.fromkeys(("hello", "world", "both"), "reused")
    assert f"hello: reused (same as in {first.id})" in answer.out
    assert (project.latest().path / "both/outputs/words/words.txt").read_text().split() == [
        *["hello"] * 3,
        "WORLD",
        "WORLD",
    ]


@pytest.mark.parametrize(
    ("pairs", "edits", "expected"),
    [
        (["word=bye"], [], {"hello": "input word changed", "world": "same", "both": "input first changed"}),
        (["note=other"], [], {"hello": "input note changed", "world": "same", "both": "same"}),
        (
            [],
            [("code/join.py", "joined", "joint")],
            {"hello": "code changed: join.py", "both": "code changed: join.py"},
        ),
        (
            [],
            [("components/join/component.yml", "python join.py", "python  join.py")],
            {"hello": "same", "both": "command changed"},
        ),
        ([], [("two.yml", "GREETING: hi", "GREETING: ho")], {"both": "environment variable GREETING changed"}),
        (
            [],
            [("components/join/component.yml", "ubuntu22.04-py39", "ubuntu22.04-py310")],
            {"hello": "same", "both": "environment changed"},
        ),
        (["--force"], [], {"hello": "forced", "world": "forced", "both": "forced"}),
    ],
)
def test_a_step_that_runs_again_says_why(project, pairs, edits, expected):
    project("run", "two")
    for file, old, new in edits:
        project.edit(file, old, new)
    arguments = [each for pair in pairs for each in (["--set", pair] if "=" in pair else [pair])]
    assert project("run", "two", *arguments).code == 0
    found = reasons(project)
    for step, reason in expected.items():
        assert found[step].startswith(reason), (step, found)


def test_the_lock_file_counts(project):
    project("run", "two")
    (project.root / "requirements.lock").write_text("numpy==3\n")
    project("run", "two")
    assert set(reasons(project).values()) == {"requirements.lock changed"}


def test_outputs_that_are_gone_or_changed_are_made_again(project):
    project("run", "two")
    first = project.latest()
    (first.path / "hello/outputs/words/words.txt").write_text("tampered\n")
    project("run", "two")
    assert reasons(project)["hello"] == f"outputs of {first.id} are gone or changed"
    assert project.statuses() == {"hello": "done", "world": "reused", "both": "reused"}
    for run in (first, project.latest()):
        shutil.rmtree(run.path)
    project("run", "two")
    assert "are gone" in reasons(project)["hello"]


def test_a_file_that_was_only_touched_is_still_whole(tmp_path):
    (tmp_path / "x").write_text("1")
    before, digest = stamps(tmp_path), content_digest(tmp_path)
    (tmp_path / "x").touch()
    os.utime(tmp_path / "x", ns=(1, 1))
    assert stamps(tmp_path) != before
    assert is_whole(tmp_path, before, digest)
    (tmp_path / "x").write_text("2")
    assert not is_whole(tmp_path, before, digest)


def test_a_step_that_always_runs_but_makes_the_same_lets_the_rest_be_reused(project):
    watched = project.root / "watched.txt"
    watched.write_text("one two\n")
    text = project.path("two.yml").read_text()
    head, world = text.split("  world:\n")
    clock = f"component: ./components/clock/component.yml\n    inputs:\n      watched: {watched}\n"
    clock = f"  world:\n    type: command\n    {clock}"
    project.path("clocked.yml").write_text(head + clock + "  both:" + world.split("  both:")[1])
    assert project("run", "clocked").code == 0
    assert project("run", "clocked").code == 0
    assert project.statuses() == {"hello": "reused", "world": "done", "both": "reused"}
    assert reasons(project)["world"] == "runs every time: is_deterministic is false"
    watched.write_text("three\n")
    project("run", "clocked")
    assert reasons(project)["both"] == "input second changed"


def test_the_users_data_counts_by_content(project):
    project("run", "nested")
    project("run", "nested")
    assert set(project.statuses().values()) == {"reused"}
    (project.path("data") / "words.txt").write_text("changed\n")
    project("run", "nested")
    assert reasons(project) | {"count": ""} == {
        "shout.loud": reasons(project)["shout.loud"],
        "shout.joined": "input second changed",
        "count": "",
    }
    assert project.statuses()["shout.loud"] == "reused"


def test_code_that_azure_ml_would_not_upload_does_not_count(tmp_path):
    (tmp_path / "kept.py").write_text("1")
    (tmp_path / "dropped").mkdir()
    (tmp_path / "dropped" / "x.py").write_text("1")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "kept.pyc").write_text("1")
    (tmp_path / ".amlignore").write_text("dropped/\n")
    assert set(code_digests(tmp_path)) == {"kept.py", ".amlignore"}


def test_no_record_names_a_secret(project, monkeypatch):
    monkeypatch.setenv("SPARSIGHT_BLOB_KEY", "s3cr3t-k3y")
    project("run", "two")
    for file in project.latest().path.rglob("*.json"):
        assert "s3cr3t-k3y" not in file.read_text()
        json.loads(file.read_text())


def test_a_step_that_names_a_model_by_an_alias_always_runs(project):
    for word in ("cells@latest", "cells/3"):
        project("run", "two", "--set", f"word={word}")
        project("run", "two", "--set", f"word={word}")
        statuses = project.statuses()
        assert statuses["hello"] == ("reused" if word == "cells/3" else "done")
        assert statuses["world"] == "reused"


def test_a_step_that_names_a_folder_by_a_text_always_runs(project):
    for _ in range(2):
        project("run", "two", "--set", f"word={project.root}")
        assert project.statuses()["hello"] == "done"


def test_records_of_another_version_are_passed_over(project):
    project("run", "two")
    first = project.latest()
    (first.path / "hello" / "step.json").write_text('{"nothing": "known"}')
    path = first.path / "world" / "step.json"
    record = json.loads(path.read_text())
    del record["parts"]["lock"]
    path.write_text(json.dumps(record | {"key": "another"}))
    assert project("run", "two").code == 0
    assert reasons(project) == {
        "hello": f"outputs of {first.id} are gone",
        "world": f"outputs of {first.id} are gone",
        "both": f"same as in {first.id}",
    }
    (first.path / "run.json").write_text("{}")
    answer = project("runs")
    assert answer.code == 0
    assert f"{first.id}" in answer.out
    assert "unreadable" in answer.out


def test_what_another_version_looked_at_is_no_reason_to_fail():
    assert difference({"command": "x"}, {"command": "x", "lock": ""}) == "another version of Sparsight ran it last"
