"""The images that steps run in: pinned, small in context, resolving together; their packages are installed here."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sparsight.cloud.snapshot import snapshot_of
from sparsight.stores.azureml import quiet

ROOT = Path(__file__).parents[2]
NAMES = ("cpu", "gpu")
TOYS = ROOT / "tests" / "toy_pipelines"


def folder(name: str) -> Path:
    return ROOT / "environments" / name


REQUIREMENTS = ROOT / "environments" / "requirements.txt"


def dockerfile(name: str) -> str:
    return (folder(name) / "Dockerfile").read_text()


def pinned(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^ ;\\]+)", file.read_text(), re.M))


def uv() -> str:
    """Return the uv that `make` has put into the user's cache."""
    version = re.search(r"^UV_VERSION := (\S+)", (ROOT / "Makefile").read_text(), re.M)
    assert version
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = cache / "sparsight" / f"uv-{version[1]}" / "bin" / "uv"
    if not found.is_file():
        pytest.skip(f"needs uv at {found}; make install puts it there")
    return str(found)


def sync(python: str | Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Install the images' requirements, or with --dry-run only ask the package index what that would take."""
    command = [uv(), "pip", "sync", "--require-hashes", "--python", str(python), *options, str(REQUIREMENTS)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A virtual environment with nothing in it."""
    place = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    return place / "bin" / "python"


@pytest.mark.parametrize("name", NAMES)
def test_the_description_names_the_image(name):
    content = yaml.safe_load((folder(name) / "environment.yml").read_text())
    assert content["name"] == f"sparsight-{name}"
    assert content["build"] == {"path": "..", "dockerfile_path": f"{name}/Dockerfile"}


def test_what_the_images_copy_is_their_whole_context():
    with quiet():
        sent = snapshot_of(ROOT / "environments").files
    copied = {file for name in NAMES for file in re.findall(r"^COPY (\S+) ", dockerfile(name), re.M)}
    assert set(sent) == {*(f"{name}/Dockerfile" for name in NAMES), *copied}


def test_other_files_make_no_new_version_of_an_environment_or_of_the_code(tmp_path):
    with quiet():
        from azure.ai.ml._utils._asset_utils import get_ignore_file, get_object_hash

    for source, stray in ((ROOT / "environments", "__pycache__/x.pyc"), (ROOT / "src", "sparsight.egg-info/PKG-INFO")):
        copy = tmp_path / source.name
        for name in ("cpu/Dockerfile", "requirements.txt", ".amlignore", "sparsight/errors.py"):
            if (source / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                (copy / name).write_bytes((source / name).read_bytes())
        before = get_object_hash(copy, get_ignore_file(copy))
        (copy / stray).parent.mkdir()
        assert get_object_hash(copy, get_ignore_file(copy)) == before, "an empty folder counts"
        (copy / stray).write_text("x")
        assert get_object_hash(copy, get_ignore_file(copy)) == before, "its file counts"


def test_images_stand_on_pinned_ones():
    cpu, gpu = (re.findall(r"^FROM (\S+)$", dockerfile(name), re.M) for name in NAMES)
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", cpu[0])
    assert re.fullmatch(r"mcr\.microsoft\.com/azureml/openmpi[\d.]+-cuda[\d.]+\S*:\d{8}\.v\d+", gpu[0])
    assert len(cpu) == len(gpu) == 1


@pytest.mark.parametrize("name", NAMES)
def test_steps_do_not_run_as_root(name):
    users = re.findall(r"^USER (\S+)$", dockerfile(name), re.M)
    assert users[-1] == "1000"
    assert "--uid 1000 sparsight" in dockerfile(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_package_is_pinned_with_hashes(name):
    assert "pip install --no-cache-dir --require-hashes --requirement" in dockerfile(name)
    text = REQUIREMENTS.read_text()
    packages = re.split(r"^(?=[\w.-]+==)", text, flags=re.M)[1:]
    assert len(packages) > 100
    assert all("--hash=sha256:" in package for package in packages)


def test_images_and_laptop_have_the_same_versions():
    # The lock is for every Python: some packages are in it twice.
    locked = set(re.findall(r"^([\w.-]+)==([^ ;\\]+)", (ROOT / "requirements.lock").read_text(), re.M))
    names = {name for name, _ in locked}
    assert {pair for pair in pinned(REQUIREMENTS).items() if pair[0] in names} - locked == set()


def test_mlflow_is_one_that_azureml_mlflow_takes():
    """With a newer mlflow, pip would fall back on an older azureml-mlflow, which can't store artifacts."""
    versions = pinned(REQUIREMENTS)
    assert versions["mlflow"] == versions["mlflow-skinny"]
    assert versions["azureml-mlflow"] >= "1.62"


def test_the_images_have_horovod_and_what_it_imports():
    assert {"torch", "cloudpickle", "psutil", "pyyaml", "packaging", "cffi"} <= set(pinned(REQUIREMENTS))
    assert "build_horovod.py --mpi --nccl --install" in dockerfile("gpu")
    assert "build_horovod.py --mpi --install" in dockerfile("cpu")


def test_the_codecs_image_holds_the_code_and_runs_the_two_commands_alone():
    content = dockerfile("codec")
    assert re.findall(r"^FROM .*$", content, re.M) == re.findall(r"^FROM .*$", dockerfile("cpu"), re.M)
    assert re.findall(r"^USER (\S+)$", content, re.M)[-1] == "1000"
    assert all((ROOT / path).exists() for path in re.findall(r"^COPY (\S+) ", content, re.M))
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", content, re.M)
    assert yaml.safe_load(entry) == ["python", "-m", "sparsight.cli.codec"]
    ended = subprocess.run(
        [sys.executable, *yaml.safe_load(entry)[1:], "--help"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.findall(r"^  (\w+)  ", ended.stdout, re.M) == ["compress", "decompress"]


def test_what_a_gpu_makes_faster_runs_in_its_image_and_the_rest_in_the_other():
    environments = {
        file.parent.name: yaml.safe_load(file.read_text())["environment"].split("/")[-2]
        for file in (ROOT / "components").glob("*/component.yml")
    }
    training = {name for name in environments if name.startswith("train_")}
    assert {"train_moco", "train_classifier"} <= training
    faster = (
        training
        | {name for name in environments if name.startswith("embed")}
        | {"predict", "sample_subset", "evaluate_sampling", "tune"}
    )
    assert {name for name, environment in environments.items() if environment == "gpu"} == faster


def test_requirements_resolve_together(empty):
    """The real resolver asks the index for metadata, and takes nothing; needs a package index, or uv's cache."""
    command = [uv(), "pip", "install", "--dry-run", "--require-hashes", "--python", str(empty)]
    platform = ["--python-platform", "x86_64-manylinux_2_28", "--python-version", "3.11"]
    done = subprocess.run(
        [*command, *platform, "--requirement", str(REQUIREMENTS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if "Could not connect" in done.stderr or "dns error" in done.stderr:
        pytest.skip("needs a package index")
    assert done.returncode == 0, done.stderr[-3000:]
    would = dict(re.findall(r"^ \+ ([\w.-]+)==(\S+)$", done.stderr, re.M))
    assert would == pinned(REQUIREMENTS)


def test_a_pipeline_runs_in_the_cpu_environment(empty, tmp_path):
    """Made as its image makes it, but for the operating system: from the cache of packages, linked, in seconds."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the image has Python 3.11")
    done = sync(empty, "--link-mode", "hardlink")
    if "Could not connect" in done.stderr or "dns error" in done.stderr:
        pytest.skip("needs a package index")
    assert done.returncode == 0, done.stderr[-3000:]
    (tmp_path / "pipelines").symlink_to(TOYS)
    imports = "import sys; from pathlib import Path; from sparsight.cli import main"
    program = f"{imports}; main(Path(sys.argv[1]), sys.argv[2:])"
    ran = subprocess.run(
        [str(empty), "-c", program, str(tmp_path), "run", "two", "--no-services", "--set", "word=hello"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    joined = next((tmp_path / "runs").glob("*-two/both/outputs/words/summary.txt"))
    assert joined.read_text() == "5 words\n"
    checked = "import azureml.mlflow, mlflow; print(mlflow.__version__)"
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    versions = subprocess.run(
        [str(empty), "-c", checked], env=variables, capture_output=True, text=True, check=False, timeout=300
    )
    assert versions.stdout.split()[-1:] == [importlib.metadata.version("mlflow")], versions.stderr[-2000:]
