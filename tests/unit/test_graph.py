import graphlib
import socket

import pytest
from toy_project import Project

from sparsight.errors import SparsightError
from sparsight.local.graph import Data, Literal, Made, Setting


@pytest.fixture
def project(tmp_path, capsys):
    return Project(tmp_path, capsys)


def test_steps_wait_for_those_whose_outputs_they_read(project):
    pipeline, problems = project.load("two")
    assert not problems
    assert pipeline.levels() == [["hello", "world"], ["both"]]
    assert pipeline.order() == ["hello", "world", "both"]
    assert pipeline.outputs == {"words": Made("both", "words")}
    assert pipeline.description == "Two writers, then a join."


def test_nested_pipelines_become_steps_with_two_names(project):
    pipeline, problems = project.load("nested")
    assert not problems
    assert pipeline.levels() == [["shout.loud"], ["shout.joined"], ["count"]]
    loud, joined, count = pipeline.steps.values()
    assert loud.sources["word"] == Setting("word")
    assert joined.sources == {"first": Made("shout.loud", "words"), "second": Setting("data")}
    assert count.sources == {"words": Made("shout.joined", "words")}


def test_components_of_other_folders_bring_their_code_along(project):
    pipeline, _ = project.load("nested")
    assert pipeline.steps["shout.loud"].code == project.path("code")
    assert pipeline.steps["count"].code is None


def test_a_value_comes_from_the_pipeline_the_node_or_the_components_default(project):
    pipeline, _ = project.load("two")
    hello, world = pipeline.steps["hello"], pipeline.steps["world"]
    assert pipeline.source(hello, "count") == Literal(3, f"{project.path('two.yml')}: inputs.count")
    assert pipeline.source(world, "word").value == "world"
    assert pipeline.source(world, "count").value == 2
    assert pipeline.source(world, "note") is None


def test_data_of_the_user_is_found_from_the_pipelines_folder(project):
    pipeline, _ = project.load("nested")
    assert pipeline.settings["data"] == Data(
        project.path("data"), "uri_folder", f"{project.path('nested.yml')}: inputs.data"
    )


def test_an_input_of_a_nested_pipeline_falls_back_to_its_own_default(project):
    project.edit("nested.yml", "      word: ${{parent.inputs.word}}\n", "")
    project.edit("elsewhere/shout.yml", "    type: string\n", "    type: string\n    default: fallback\n")
    pipeline, problems = project.load("nested")
    assert not problems
    assert pipeline.source(pipeline.steps["shout.loud"], "word").value == "fallback"


def test_a_cycle_is_an_error_of_the_order(project):
    project.edit("two.yml", "word: ${{parent.inputs.word}}", "word: ${{parent.jobs.both.outputs.words}}")
    pipeline, _ = project.load("two")
    with pytest.raises(graphlib.CycleError):
        pipeline.order()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jobs: [", "can't be read as YAML"),
        ("- a list", "expected a mapping"),
        ("type: command", "is not a pipeline"),
    ],
)
def test_what_is_no_pipeline_is_refused(project, text, message):
    project.path("two.yml").write_text(text)
    with pytest.raises(SparsightError, match=message):
        project.load("two")


def test_loading_asks_nobody_on_the_network(project, monkeypatch):
    def refuse(*arguments):
        raise AssertionError(f"connected to {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert project.load("nested")[1] == []
