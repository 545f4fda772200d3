"""What the documentation tells people to type, open and read is there: commands, pipelines, inputs, files, links."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main
import yaml

from sparsight.cli import app, main
from sparsight.local.checks import parse, value_problem
from sparsight.local.graph import Port

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CHEAP = (["list"], ["services", "status"], ["runs"], ["runs", "--limit", "5"])
INPUT = re.compile(r"\$\{\{parent\.inputs\.(\w+)\}\}")
FOLDERS = "benchmarks|components|docs|environments|infra|pipelines|scripts|src|tests"


class Fence(NamedTuple):
    """A block of code in a page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def text_of(page: Path) -> str:
    """Read a page, its comments blanked."""
    return re.sub(
        r"<!--.*?-->", lambda found: "\n" * found[0].count("\n"), page.read_text(encoding="utf-8"), flags=re.S
    )


def fences() -> list[Fence]:
    return [
        Fence(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])
        for page in PAGES
        for text in [text_of(page)]
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    ]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.M | re.S)


def typed() -> list[tuple[str, list[str]]]:
    """Commands in shell fences of any kind and in code within sentences, with their place, split into words."""
    found = []
    for fence in fences():
        for line in fence.text.splitlines():
            command = line.removeprefix("$ ").strip()
            if command.startswith(("python execute.py ", "make ")) and "<" not in command and "..." not in command:
                found.append((f"{fence.place}: {command}", shlex.split(command, comments=True)))
    for page in PAGES:
        for command in re.findall(r"`((?:python execute\.py|make) [^`]+)`", prose(page)):
            if not re.search(r"\b[A-Z]{3,}\b", command):  # PIPELINE stands for one
                found.append((f"{page.name}: {command}", shlex.split(command)))
    return found


def executed() -> list[tuple[str, list[str]]]:
    return [(place, words[2:]) for place, words in typed() if words[0] == "python"]


def parsed(words: list[str]) -> dict[str, Any]:
    """Have the real command line take a command apart; anything wrong with it raises."""
    name, command, context = "execute.py", typer.main.get_command(app), None
    while True:
        context = command.make_context(name, list(words), parent=context)
        if not hasattr(command, "commands"):
            return context.params
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def pipelines() -> dict[str, dict[str, Any]]:
    return {file.stem: load(file) for file in (ROOT / "pipelines").glob("*.yml")}


def component_of(file: Path, node: dict[str, Any]) -> dict[str, Any]:
    return load(file.parent / node["component"])


def port(declared: dict[str, Any]) -> Port:
    return Port(
        type=declared["type"],
        minimum=declared.get("min"),
        maximum=declared.get("max"),
        choices=tuple(map(str, declared.get("enum", ()))),
    )


def readers(file: Path) -> dict[str, list[Port]]:
    """The components' inputs that take each input of a pipeline."""
    content = load(file)
    found: dict[str, list[Port]] = {name: [] for name in content["inputs"]}
    for node in content["jobs"].values():
        declared = component_of(file, node)["inputs"]
        for name, value in node["inputs"].items():
            if match := INPUT.fullmatch(str(value)):
                found[match[1]].append(port(declared[name]))
    return found


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


def slug(heading: str) -> str:
    """Name a heading as GitHub and mkdocs do."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def test_there_is_something_to_check():
    assert len(PAGES) > 5
    assert len(executed()) > 20
    assert {"run", "show", "list", "runs", "data", "services"} <= {words[0] for _, words in executed()}


@pytest.mark.parametrize(("place", "words"), [pytest.param(*each, id=each[0]) for each in executed()])
def test_the_command_line_takes_what_is_written(place, words):
    params = parsed(words)
    name = params.get("pipeline") or ""
    if name and "/" not in name:
        assert name in pipelines(), f"{place}: no such pipeline"
        inputs = readers(ROOT / "pipelines" / f"{name}.yml")
        for pair in params.get("settings") or ():
            key, equals, value = pair.partition("=")
            assert equals, f"{place}: --set {pair}"
            assert key in inputs, f"{place}: {name} has no input {key}"
            for each in inputs[key]:
                assert value_problem(parse(value, each.type), each) is None, f"{place}: --set {pair}"


@pytest.mark.parametrize(
    "command",
    [
        "runn recognise",
        "run recognize",
        "run recognise --sett seed=1",
        "run recognise --set sed=1",
        "run recognise --set resize=fill",
        "run recognise --set image_size=big",
        "data load cats",
        "runs --limit 0",
    ],
)
def test_a_mistake_on_a_page_would_be_found(command):
    with pytest.raises((typer.BadParameter.__bases__[0], AssertionError)):  # the first is any error of usage
        test_the_command_line_takes_what_is_written("a page", command.split())


@pytest.mark.parametrize("words", CHEAP, ids=" ".join)
def test_commands_that_cost_nothing_work(words, tmp_path, capsys):
    assert words[0] in {each[0] for _, each in executed()}
    with pytest.raises(SystemExit) as ended:
        main(ROOT if words == ["list"] else tmp_path, words)
    assert not ended.value.code
    out = capsys.readouterr().out
    expected = {
        "list": pipelines(),
        "services": ("azurite", "cosmos", "mlflow", "label-studio", "optuna-dashboard"),
        "runs": ("no runs yet",),
    }
    assert all(text in out for text in expected[words[0]])


def test_the_pages_name_every_pipeline():
    for page in (ROOT / "README.md", ROOT / "docs" / "pipelines.md"):
        assert all(f"| `{name}` |" in page.read_text() for name in pipelines())


@pytest.mark.parametrize(("place", "words"), [each for each in typed() if each[1][0] == "make"], ids=str)
def test_make_targets_are_in_the_makefile(place, words):
    wanted = [word for word in words[1:] if "=" not in word]
    assert set(wanted) <= targets(), place


def test_values_named_in_sentences_are_allowed_ones():
    components = [load(file) for file in (ROOT / "components").glob("*/component.yml")]
    declared: dict[str, list[Port]] = {}
    for file in (ROOT / "pipelines").glob("*.yml"):
        for name, ports in readers(file).items():
            declared.setdefault(name, []).extend(ports)
    for component in components:
        for name, each in component["inputs"].items():
            declared.setdefault(name, []).append(port(each))
    named = {
        (page.name, *pair) for page in PAGES for pair in re.findall(r"`([a-z_]+)(?:=|: )([\w.@/-]+)`", prose(page))
    }
    assert len(named) > 10
    for page, name, value in named - {("pipelines.md", "force_rerun", "true"), ("pipelines.md", "services", "cosmos")}:
        if name == "is_deterministic":
            continue
        assert name in declared, f"{page}: {name}"
        allowed = [value_problem(parse(value, each.type), each) for each in declared[name]]
        assert None in allowed, f"{page}: {name}={value}: {allowed[0]}"


@pytest.mark.parametrize(
    ("page", "name", "least"),
    [
        ("pretraining.md", "train_moco", 25),
        ("swav.md", "train_swav", 17),
        ("classification.md", "train_classifier", 8),
        ("compression.md", "train_autoencoder", 18),
    ],
)
def test_defaults_in_tables_are_the_components(page, name, least):
    """Rows such as `| `epochs`, `batch_size` | 100, 128 | ... |`; those that leave the defaults out are passed over."""
    inputs = load(ROOT / "components" / name / "component.yml")["inputs"]
    tables = re.findall(r"^\| input \| default \|.*?\n\n", prose(ROOT / "docs" / page), re.M | re.S)
    checked = 0
    for names, values in re.findall(r"^\|( `[^|]+)\|([^|]*)\|", "".join(tables), re.M):
        keys, defaults = re.findall(r"`(\w+)`", names), re.findall(r"[\w.]+", values)
        assert len(defaults) in {0, len(keys)}, names
        for key, value in zip(keys, defaults, strict=False):
            checked += 1
            assert str(inputs[key]["default"]).lower() in {value, f"{value}.0"}, key
    assert checked >= least


def test_the_tutorial_names_inputs_of_recognise():
    table = re.search(r"^\| input \| when \|.*?\n\n", prose(ROOT / "docs" / "tutorial.md"), re.M | re.S)
    named = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\|([^|]+)\|", table[0], re.M))))
    assert named
    assert named <= set(pipelines()["recognise"]["inputs"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_files_named_are_there(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        aim = (page.parent / file).resolve() if file else page
        assert aim.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", aim.read_text(), flags=re.M | re.S), re.M)
            assert anchor in map(slug, headings), target
    for name in re.findall(rf"`((?:{FOLDERS})/[^`\s]*)`", prose(page)):
        assert list(ROOT.glob(name.rstrip("/"))), name


@pytest.mark.parametrize("fence", [each for each in fences() if each.language == "python"], ids=lambda each: each.place)
def test_python_compiles(fence):
    compile(fence.text, fence.place, "exec")


@pytest.mark.parametrize("fence", [each for each in fences() if each.language == "yaml"], ids=lambda each: each.place)
def test_yaml_names_inputs_that_are_there(fence):
    node = yaml.safe_load(fence.text)
    inputs = component_of(ROOT / "pipelines" / "any.yml", node)["inputs"]
    for name, value in node["inputs"].items():
        assert value_problem(value, port(inputs[name])) is None


def test_every_fence_says_its_language():
    assert {fence.language for fence in fences()} <= {"bash", "text", "python", "yaml"}


def test_no_file_names_a_package_registry():
    """Packages come from wherever their clients are told to look; a lock file that names a host would decide that."""
    # Put together here, so that this file doesn't name them either.
    forbidden = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"))]
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git here to say which files are the project's")
    found = [
        name
        for name in listed.stdout.split("\0")
        if (file := ROOT / name).is_file() and any(host.encode() in file.read_bytes() for host in forbidden)
    ]
    assert found == []
