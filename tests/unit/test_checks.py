from pathlib import Path

import pytest
from toy_project import Project

from sparsight.errors import SparsightError
from sparsight.local.checks import apply_settings, check


@pytest.fixture
def project(tmp_path, capsys):
    return Project(tmp_path, capsys)


def problems_of(project: Project, name: str = "two", *pairs: str) -> list[str]:
    """All that is said about a pipeline, whichever check finds it."""
    try:
        pipeline, problems = project.load(name)
    except SparsightError as error:
        return str(error).splitlines()[1:]
    pipeline, wrong = apply_settings(pipeline, pairs, project.root)
    return [str(problem) for problem in [*problems, *wrong, *check(pipeline)]]


@pytest.mark.parametrize("name", ["two", "nested"])
def test_the_toys_have_no_problems(project, name):
    assert problems_of(project, name) == []


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("count=many", "--set count: expected an integer, found 'many' (for hello's count)."),
        ("count=1.5", "--set count: expected an integer, found '1.5' (for hello's count)."),
        ("count=0", "--set count: expected at least 1, found 0 (for hello's count)."),
        ("count=11", "--set count: expected at most 10, found 11 (for hello's count)."),
        ("seconds=nan", "--set seconds: expected a number, found nan (for hello's seconds)."),
        ("fail=yess", "--set fail: expected one of yes, no, found 'yess'; did you mean 'yes'? (for both's fail)."),
        ("cuont=3", "--set cuont: the pipeline has no input 'cuont'; did you mean 'count'?"),
        ("count", "--set count: expected name=value."),
        ("word=it's", "holds a single quote, which would end the quote around it in the command line"),
        ("word=two\nlines", "holds a line break or control character"),
    ],
)
def test_a_wrong_value_is_told_with_what_was_expected(project, pair, message):
    found = problems_of(project, "two", pair)
    assert found
    assert all("--set" in problem for problem in found)
    assert any(message in problem for problem in found)


@pytest.mark.parametrize(
    "pair", ['word=$(touch /tmp/x) `x` "q" & ; | \\', "word=", "count=10", "seconds=1e-3", "word=naïve=yes"]
)
def test_a_value_that_the_shell_can_not_harm_is_taken(project, pair):
    assert problems_of(project, "two", pair) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "two.yml",
            "word: world",
            "words: world",
            "jobs.world.inputs.words: unknown input 'words'; did you mean 'word'?",
        ),
        ("two.yml", "word: world\n", "\n", "jobs.world: required input 'word' (string) is missing."),
        ("two.yml", "word: world", "word: 3", "expected a string, found 3; quote it in the YAML."),
        ("two.yml", "loud: true", "loud: 1", "jobs.world.inputs.loud: expected a boolean, found 1."),
        ("two.yml", "loud: true", "loud: true\n      count: 99", "expected at most 10, found 99."),
        ("two.yml", "jobs.hello.outputs", "jobs.helo.outputs", "there is no step 'helo'; did you mean 'hello'?"),
        (
            "two.yml",
            "hello.outputs.words",
            "hello.outputs.wrds",
            "step 'hello' has no output 'wrds'; did you mean 'words'?",
        ),
        (
            "two.yml",
            "parent.inputs.count",
            "parent.inputs.cnt",
            "the pipeline has no input 'cnt'; did you mean 'count'?",
        ),
        ("two.yml", "${{parent.inputs.fail}}", "${{inputs.fail}}", "'${{inputs.fail}}' is no binding"),
        ("two.yml", "words: ${{parent.outputs.words}}", "wordz: ${{parent.outputs.words}}", "unknown output 'wordz'"),
        ("two.yml", "${{parent.outputs.words}}", "${{parent.outputs.wordz}}", "the pipeline has no output 'wordz'"),
        (
            "two.yml",
            "word: ${{parent.inputs.word}}",
            "word: ${{parent.jobs.both.outputs.words}}",
            "steps wait for each other",
        ),
        (
            "two.yml",
            "word: ${{parent.inputs.word}}",
            "word: ${{parent.jobs.world.outputs.words}}",
            "expected a string for hello's word",
        ),
        ("two.yml", "first: ${{parent.jobs.hello.outputs.words}}", "first: words", "words is not there"),
        ("two.yml", "environment_variables", "enviroment_variables", "did you mean 'environment_variables'?"),
        ("two.yml", "default_compute", "defult_compute", "did you mean 'default_compute'?"),
        ("two.yml", "components/join/", "components/joins/", "did you mean"),
        ("two.yml", "./components/join/component.yml", "azureml:join:1", "lives in a workspace"),
        ("two.yml", "word: hello\n", "word:\n", "inputs.word: Field may not be null."),
        ("two.yml", "word: hello\n", "word: {type: string, default: x}\n", "a pipeline's input is a plain value"),
        ("components/join/component.yml", 'default: "no"', "default: nope", "expected one of yes, no, found 'nope'"),
        (
            "components/write/component.yml",
            "default: 2",
            "default: two",
            "inputs.count.default: expected an integer, found 'two'.",
        ),
        ("components/write/component.yml", "max: 10", "maximum: 10", "unknown key 'maximum'"),
        (
            "components/write/component.yml",
            "$[[--note '${{inputs.note}}']]",
            "--note '${{inputs.note}}'",
            "must stand in $[[ ]]",
        ),
        (
            "components/write/component.yml",
            "${{inputs.count}}",
            "${{inputs.cuont}}",
            "unknown input 'cuont'; did you mean 'count'?",
        ),
        ("components/write/component.yml", "'${{inputs.word}}'", "${{inputs.word}}", None),
        ("components/write/component.yml", "code: ../../code", "code: ../../cod", "code"),
        ("components/write/component.yml", "inputs:\n", "tags: {cores: few}\ninputs:\n", "expected a whole number"),
        (
            "components/write/component.yml",
            "inputs:\n",
            "tags: {services: cosmo}\ninputs:\n",
            "unknown service 'cosmo'; did you mean 'cosmos'?",
        ),
        ("components/write/component.yml", "inputs:\n", "tags: {services: cosmos, cores: 1}\ninputs:\n", None),
    ],
)
def test_a_mistake_in_a_file_is_found_before_anything_starts(project, file, old, new, message):
    project.edit(file, old, new)
    found = problems_of(project)
    if message is None:
        assert found == []
    else:
        assert any(message in problem for problem in found), found


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("./dta", "is not there; did you mean"),
        ("./data/words.txt", "is a file; expected a folder (uri_folder)."),
        ("azureml://datastores/words/paths/x", "is not on this machine"),
    ],
)
def test_data_must_be_there_and_of_its_kind(project, path, message):
    project.edit("nested.yml", "path: ./data", f"path: {path}")
    assert any(message in problem for problem in problems_of(project, "nested"))


def test_data_in_the_cloud_can_be_replaced_by_a_local_copy(project):
    project.edit("nested.yml", "path: ./data", "path: https://words.example/data")
    assert problems_of(project, "nested", "data=pipelines/data") == []


def test_data_given_on_the_command_line_must_be_there_too(project):
    assert any("is not there" in problem for problem in problems_of(project, "nested", "data=nowhere"))
    assert problems_of(project, "nested", "data=pipelines/data") == []


def test_a_file_is_no_folder_between_steps(project):
    project.edit(
        "components/join/component.yml",
        "type: uri_folder\n    description: The first",
        "type: uri_file\n    description: The first",
    )
    assert any("expected a uri_file for both's first, found a uri_folder" in each for each in problems_of(project))


def test_an_unquoted_text_may_hold_only_what_the_shell_leaves_alone(project):
    project.edit("components/write/component.yml", "'${{inputs.word}}'", "${{inputs.word}}")
    assert problems_of(project, "two", "word=a/b-c_d.e") == []
    assert any("goes unquoted into the command line" in each for each in problems_of(project, "two", "word=a b"))


def test_all_problems_are_listed_at_once(project):
    answer = project("run", "two", "--set", "count=99", "--set", "wrod=x", "--set", "fail=perhaps")
    assert answer.code == 2
    assert "3 problems, nothing was started." in answer.err
    assert answer.err.count("  - ") == 3
    assert not Path(project.root, "runs").exists()


def test_a_text_that_is_pasted_twice_must_suit_both_places(project):
    project.inline("twice", {"a": ("echo ${{inputs.x}} > '${{outputs.out}}/${{inputs.x}}'", {"x": "a; rm b"})})
    assert any("goes unquoted into the command line" in each for each in problems_of(project, "twice"))


@pytest.mark.parametrize(("name", "problem"), [("my words.txt", None), ("it's.txt", "holds a single quote")])
def test_a_path_may_hold_what_the_quotes_around_it_can_hold(project, name, problem):
    watched = project.root / name
    watched.write_text("one\n")
    pipeline = (
        "$schema: x\ntype: pipeline\nsettings: {default_compute: azureml:cpu}\njobs:\n  clock:\n    type: command\n"
    )
    pipeline += f'    component: ./components/clock/component.yml\n    inputs:\n      watched: "{watched}"\n'
    project.path("clocked.yml").write_text(pipeline)
    found = problems_of(project, "clocked")
    assert found == [] if problem is None else any(problem in each for each in found)
