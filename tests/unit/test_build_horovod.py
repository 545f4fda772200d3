"""The script that builds Horovod: what it changes, what it keeps apart, and what it says when something is missing."""

import dataclasses
import hashlib
import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "environments" / "build_horovod.py"
CMAKE = "set(CMAKE_CXX_STANDARD 14)\nif(CMAKE_CUDA_COMPILER)\n    enable_language(CUDA)\nendif()\n"
TORCH = "if(TRUE)\n    set(CMAKE_CXX_STANDARD 14)\nendif()\n"
FIND = 'string(TOUPPER "${Pytorch_CUDA}" Pytorch_CUDA)\nstring(TOUPPER "${Pytorch_ROCM}" Pytorch_ROCM)\n'
KERNELS = "set(CMAKE_CUDA_STANDARD 11)\n"


def load() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("build_horovod", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


build = load()
GLOO = build.Options(gloo=True)
MPI_NCCL = build.Options(mpi=True, nccl=True)
TARGET = build.Target(python=Path(sys.executable), torch="2.15.0+cu132", cuda="13.2", tag="cp311", site=Path("/site"))


@pytest.fixture
def source(tmp_path):
    """A small tree with the texts that the archive has."""
    for name, text in {
        "CMakeLists.txt": CMAKE,
        "horovod/torch/CMakeLists.txt": TORCH,
        "cmake/Modules/FindPytorch.cmake": FIND,
        "horovod/common/ops/cuda/CMakeLists.txt": KERNELS,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = build.cache_folder()
    folder.mkdir(parents=True)
    return folder


def read(source: Path, name: str) -> str:
    return (source / name).read_text()


@pytest.mark.parametrize(("torch", "standard"), [("2.15.0+cu132", 20), ("2.16.1", 20), ("2.9.1+cpu", 17)])
def test_the_standard_follows_torch(source, torch, standard):
    build.apply(build.patches(GLOO, torch), source)
    for name in ("CMakeLists.txt", "horovod/torch/CMakeLists.txt"):
        assert f"set(CMAKE_CXX_STANDARD {standard})" in read(source, name)
        assert "STANDARD 14" not in read(source, name)


def test_without_gpus_no_cuda_is_looked_for(source):
    build.apply(build.patches(GLOO, "2.15.0+cu132"), source)
    assert "enable_language(CUDA)" not in read(source, "CMakeLists.txt")
    assert "set(Pytorch_CUDA FALSE)" in read(source, "cmake/Modules/FindPytorch.cmake")
    assert read(source, "horovod/common/ops/cuda/CMakeLists.txt") == KERNELS


def test_with_nccl_cuda_stays(source):
    build.apply(build.patches(MPI_NCCL, "2.15.0+cu132"), source)
    assert "enable_language(CUDA)" in read(source, "CMakeLists.txt")
    assert read(source, "cmake/Modules/FindPytorch.cmake") == FIND
    assert "set(CMAKE_CUDA_STANDARD 17)" in read(source, "horovod/common/ops/cuda/CMakeLists.txt")


def test_the_build_folder_is_never_searched_for_libraries(source):
    build.apply(build.patches(GLOO, "2.15.0"), source)
    assert "set(CMAKE_SKIP_RPATH ON)" in read(source, "CMakeLists.txt")


@pytest.mark.parametrize("text", ["", CMAKE + CMAKE])
def test_another_source_is_refused(source, text):
    (source / "CMakeLists.txt").write_text(text)
    with pytest.raises(build.BuildError, match=r"CMakeLists.txt holds .* times, expected once"):
        build.apply(build.patches(GLOO, "2.15.0"), source)


def test_the_key_is_the_same_for_the_same():
    assert build.key_of(GLOO, TARGET) == build.key_of(build.Options(gloo=True), dataclasses.replace(TARGET))
    # Another environment with the same torch takes the same wheel.
    assert build.key_of(GLOO, TARGET) == build.key_of(GLOO, dataclasses.replace(TARGET, site=Path("/other")))


@pytest.mark.parametrize("change", [{"torch": "2.15.1+cu132"}, {"torch": "2.15.0+cpu"}, {"tag": "cp312"}], ids=str)
def test_another_torch_or_python_is_another_key(change):
    assert build.key_of(GLOO, TARGET) != build.key_of(GLOO, dataclasses.replace(TARGET, **change))


def test_other_options_or_patches_are_another_key(monkeypatch):
    before = build.key_of(GLOO, TARGET)
    assert before != build.key_of(MPI_NCCL, TARGET)
    assert before.startswith("0.28.1-torch2.15.0+cu132-cp311-gloo-")
    patch = build.Patch(file="CMakeLists.txt", old="a", new="b")
    monkeypatch.setattr(build, "patches", lambda *_: (patch,))
    assert before != build.key_of(GLOO, TARGET)


def test_the_options_are_told_to_the_build():
    assert GLOO.variables().items() >= {"HOROVOD_WITH_GLOO": "1", "HOROVOD_WITHOUT_MPI": "1"}.items()
    assert "HOROVOD_GPU_OPERATIONS" not in GLOO.variables()
    wanted = {"HOROVOD_WITH_MPI": "1", "HOROVOD_GPU_OPERATIONS": "NCCL", "HOROVOD_WITH_PYTORCH": "1"}
    assert MPI_NCCL.variables().items() >= wanted.items()


def test_a_wheel_in_the_cache_is_taken_without_building(cache, monkeypatch):
    wheel = cache / build.key_of(GLOO, TARGET) / "horovod-0.28.1-cp311-cp311-linux_x86_64.whl"
    wheel.parent.mkdir()
    wheel.touch()
    monkeypatch.setattr(build, "_build", lambda *_: pytest.fail("it was built"))
    assert build.build(GLOO, TARGET, cache) == wheel


def test_a_changed_archive_is_refused_and_removed(cache):
    archive = cache / build.ARCHIVE
    archive.write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(build.BuildError, match=rf"(?s){found}, expected {build.SHA256}.*Try again"):
        build.download(["pip"], cache)
    assert not archive.exists()


def pip_that(cache: Path, says: str) -> list[str]:
    """A pip that fails with these words."""
    return [sys.executable, "-c", f"import sys; print({says!r}); sys.exit(1)"]


def test_pip_found_another_checksum(cache):
    says = f"ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\n  Expected {build.SHA256}\n       Got        {'ab' * 32}"
    with pytest.raises(build.BuildError, match=rf"{'ab' * 32}, expected {build.SHA256}.*wasn't kept"):
        build.download(pip_that(cache, says), cache)


def test_without_a_network_it_says_what_is_needed(cache):
    pip = ["env", "PIP_INDEX_URL=http://127.0.0.1:9/simple", "PIP_NO_CACHE_DIR=1", "PIP_RETRIES=0", sys.executable]
    has_pip = subprocess.run([*pip, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
    command = [*pip, "-m", "pip"] if has_pip else pip_that(cache, "ERROR: No matching distribution found for horovod")
    with pytest.raises(build.BuildError) as told:
        build.download(command, cache)
    text = str(told.value)
    assert "can't be downloaded: ERROR" in text
    assert "connect this machine to its package index" in text
    assert f"put {build.ARCHIVE} into {cache}" in text
    assert list(cache.iterdir()) == []


def test_what_is_missing_is_said_before_anything_is_built(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(build.BuildError, match=r"no C\+\+ compiler"):
        build.check_machine(GLOO, TARGET)
    for name in ("c++", "make"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    build.check_machine(GLOO, TARGET)
    with pytest.raises(build.BuildError, match="mpicxx"):
        build.check_machine(MPI_NCCL, TARGET)
    with pytest.raises(build.BuildError, match="needs a torch with CUDA"):
        build.check_machine(build.Options(gloo=True, nccl=True), dataclasses.replace(TARGET, cuda=None))


def test_a_python_without_torch_is_refused(tmp_path, capsys):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "empty")], check=True)
    assert build.main(["--gloo", "--python", str(tmp_path / "empty" / "bin" / "python")]) == 1
    assert "has no torch to build Horovod for" in capsys.readouterr().err


def test_it_wants_to_know_how_processes_speak(capsys):
    with pytest.raises(SystemExit):
        build.parse([])
    assert "--gloo, or --mpi" in capsys.readouterr().err


def test_a_toolkit_is_laid_out_of_torchs_packages(tmp_path):
    site, tools = tmp_path / "site", tmp_path / "tools" / "lib" / "python3.11" / "site-packages"
    for name in (
        "site/nvidia/cu13/include/cuda_runtime.h",
        "site/nvidia/cu13/include/crt/theirs.h",
        "site/nvidia/cu13/lib/libcudart.so.13",
        "site/nvidia/nccl/include/nccl.h",
        "site/nvidia/nccl/lib/libnccl.so.2",
        f"{tools.relative_to(tmp_path)}/nvidia/cu13/bin/nvcc",
        f"{tools.relative_to(tmp_path)}/nvidia/cu13/nvvm/bin/cicc",
        f"{tools.relative_to(tmp_path)}/nvidia/cu13/include/crt/ours.h",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    folder = tmp_path / "cuda"
    variables = build.make_toolkit(folder, dataclasses.replace(TARGET, site=site), tools)
    assert variables["HOROVOD_CUDA_HOME"] == variables["CUDA_HOME"] == str(folder)
    for name in ("bin/nvcc", "nvvm/bin/cicc", "include/crt/ours.h", "include/crt/theirs.h", "include/nccl.h"):
        assert (folder / name).is_file(), name
    for name in ("libcudart.so", "libnccl.so"):
        assert (folder / "lib64" / name).is_file(), name
    with pytest.raises(build.BuildError, match=r"There is no .*cu12"):
        build.make_toolkit(tmp_path / "none", dataclasses.replace(TARGET, site=site, cuda="12.6"), tools)
