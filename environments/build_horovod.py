#!/usr/bin/env python3
"""Builds Horovod for the torch of a Python environment, once, and keeps the wheel in the user's cache.

Horovod's last release is older than any torch that Sparsight takes, and is published as source only. This script takes
that archive, checks and mends it, and builds it against the torch that is there:

    python build_horovod.py --gloo          for processors: laptops, tests
    python build_horovod.py --mpi --nccl    for GPUs: gpu/Dockerfile, and without --nccl cpu/Dockerfile

It needs nothing but Python with pip, a C++ compiler, and for --mpi Open MPI's `mpicxx`. The CUDA compiler that --nccl
needs comes as a package, of the same version as the CUDA that torch was built with. The last line printed is the
wheel's path.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

VERSION = "0.28.1"
SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"
ARCHIVE = f"horovod-{VERSION}.tar.gz"
BUILD_TOOLS = ("cmake==3.31.10", "setuptools==79.0.1")
"""What Horovod's build asks for: cmake 4 refuses its oldest parts, setuptools 80 its way to build."""

_ASK = """\
import importlib.util, json, pathlib, runpy, sysconfig
spec = importlib.util.find_spec("torch")
told = runpy.run_path(str(pathlib.Path(spec.origin).with_name("version.py"))) if spec and spec.origin else {}
print(json.dumps({"torch": told.get("__version__"), "cuda": told.get("cuda"), "site": sysconfig.get_path("purelib"),
                  "tag": "cp" + sysconfig.get_config_var("py_version_nodot")}, default=str))
"""


class BuildError(Exception):
    """What went wrong, told to whoever called: what, where, and what to do next."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which parts of Horovod are built.

    Args:
        gloo: the controller and the operations that need nothing but sockets.
        mpi: the controller and the operations of Open MPI, which Azure ML starts jobs with.
        nccl: the operations between GPUs.
    """

    gloo: bool = False
    mpi: bool = False
    nccl: bool = False

    def names(self) -> list[str]:
        """The parts asked for, in a fixed order."""
        return [name for name in ("gloo", "mpi", "nccl") if getattr(self, name)]

    def variables(self) -> dict[str, str]:
        """The environment variables by which Horovod's build is told."""
        return {
            "HOROVOD_WITH_PYTORCH": "1",
            "HOROVOD_WITHOUT_TENSORFLOW": "1",
            "HOROVOD_WITHOUT_MXNET": "1",
            **_switch("GLOO", self.gloo),
            **_switch("MPI", self.mpi),
            **({"HOROVOD_GPU_OPERATIONS": "NCCL", "HOROVOD_NCCL_LINK": "SHARED"} if self.nccl else {}),
        }


@dataclass(frozen=True, kw_only=True)
class Target:
    """The Python environment that Horovod is built for.

    Args:
        python: its interpreter.
        torch: the version of its torch, with what follows the +.
        cuda: the version of CUDA that its torch was built with; None for a torch without.
        tag: of the Python version, such as cp311.
        site: the folder of its packages.
    """

    python: Path
    torch: str
    cuda: str | None
    tag: str
    site: Path


@dataclass(frozen=True, kw_only=True)
class Patch:
    """A text in a file of the archive, and what stands there instead. It must be there exactly once."""

    file: str
    old: str
    new: str


def cache_folder() -> Path:
    """Where wheels and the archive are kept: the user's cache, shared by all checkouts."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "sparsight" / "horovod"


def target_of(python: Path) -> Target:
    """Ask a Python environment for its torch, without importing it.

    Raises:
        BuildError: it has none.
    """
    answer = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise BuildError(f"{python} doesn't run: {answer.stderr.strip()[-500:]}. Name another with --python.")
    told = json.loads(answer.stdout)
    if not told["torch"]:
        raise BuildError(f"{python} has no torch to build Horovod for. Install the project's packages first.")
    site = Path(told["site"])
    return Target(python=python, torch=told["torch"], cuda=told["cuda"], tag=told["tag"], site=site)


def patches(options: Options, torch: str) -> tuple[Patch, ...]:
    """What has to change in the archive.

    Args:
        options: the parts to be built.
        torch: version of torch; its headers are C++17, from 2.15 on C++20.
    """
    standard = 20 if _numbers(torch) >= (2, 15) else 17
    old, new = "set(CMAKE_CXX_STANDARD 14)", f"set(CMAKE_CXX_STANDARD {standard})"
    # Libraries are found because torch has loaded them before, or by the system. The build's own folders, which are
    # gone afterwards, mustn't be searched: somebody else could put a library there.
    found = [
        Patch(file="CMakeLists.txt", old=old, new=f"{new}\nset(CMAKE_SKIP_RPATH ON)"),
        Patch(file="horovod/torch/CMakeLists.txt", old=old, new=new),
    ]
    if options.nccl:
        kernels = "horovod/common/ops/cuda/CMakeLists.txt"
        found.append(Patch(file=kernels, old="set(CMAKE_CUDA_STANDARD 11)", new="set(CMAKE_CUDA_STANDARD 17)"))
    else:
        upper = 'string(TOUPPER "${Pytorch_CUDA}" Pytorch_CUDA)'
        found += [
            # A torch that could use CUDA is no reason to ask for a CUDA toolkit, nor is half a toolkit to try it.
            Patch(file="cmake/Modules/FindPytorch.cmake", old=upper, new="set(Pytorch_CUDA FALSE)"),
            Patch(file="CMakeLists.txt", old="    enable_language(CUDA)\n", new=""),
        ]
    return tuple(found)


def apply(changes: Sequence[Patch], folder: Path) -> None:
    """Change the unpacked archive.

    Raises:
        BuildError: a text isn't there exactly once, so this is another source than the one that was looked at.
    """
    for change in changes:
        file = folder / change.file
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        if text.count(change.old) != 1:
            raise BuildError(
                f"{file} holds {change.old.strip()!r} {text.count(change.old)} times, expected once: this isn't the "
                f"source of Horovod {VERSION} as published. Remove {cache_folder() / ARCHIVE} and try again."
            )
        file.write_text(text.replace(change.old, change.new), encoding="utf-8")


def key_of(options: Options, target: Target) -> str:
    """Name what a wheel depends on: another torch, Python, processor, set of parts or patch makes another wheel."""
    told = [VERSION, SHA256, target.torch, target.tag, platform.machine(), repr(options), *BUILD_TOOLS]
    told += [repr(change) for change in patches(options, target.torch)]
    digest = hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]
    return f"{VERSION}-torch{target.torch}-{target.tag}-{'-'.join(options.names())}-{digest}"


def check(archive: Path) -> Path:
    """Refuse an archive that isn't the published one, and remove it.

    Raises:
        BuildError: its checksum is another.
    """
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        archive.unlink()
        raise BuildError(
            f"The checksum of {archive} is {found}, expected {SHA256}: what was downloaded isn't Horovod {VERSION} as "
            "published. It was removed. Try again; if that happens again, ask whoever runs your package index."
        )
    return archive


def download(pip: Sequence[str], cache: Path) -> Path:
    """Get the source archive from wherever pip is told to look, once.

    Args:
        pip: the command that runs pip.
        cache: the folder to keep it in.

    Raises:
        BuildError: it can't be had, or isn't the published one.
    """
    archive = cache / ARCHIVE
    if archive.is_file():
        return check(archive)
    say(f"Downloading the source of Horovod {VERSION}")
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        wanted = Path(folder, "wanted.txt")
        wanted.write_text(f"horovod=={VERSION} --hash=sha256:{SHA256}\n", encoding="utf-8")
        command = [*pip, "download", "--no-deps", "--no-binary", "horovod", "--no-build-isolation", "--dest", folder]
        done = _run([*command, "--require-hashes", "--requirement", str(wanted)])
        if done.returncode:
            raise BuildError(_download_trouble(done.stdout, archive))
        check(Path(folder, ARCHIVE)).replace(archive)
    return archive


def build(options: Options, target: Target, cache: Path) -> Path:
    """Build the wheel, or take it from the cache.

    Args:
        options: the parts to be built.
        target: what it is built for.
        cache: where wheels are kept.

    Returns:
        The wheel's path.

    Raises:
        BuildError: something that is needed isn't there, or the build fails.
    """
    folder = cache / key_of(options, target)
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache / f"{folder.name}.lock"):
        if wheel := next(iter(folder.glob("*.whl")), None):
            return wheel
        check_machine(options, target)
        with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as work:
            wheel = _build(options, target, cache, Path(work))
            folder.mkdir(exist_ok=True)
            return wheel.replace(folder / wheel.name)


def check_machine(options: Options, target: Target) -> None:
    """Say before minutes are spent what will be missing.

    Raises:
        BuildError: there is no compiler, no Open MPI, or no torch with CUDA.
    """
    compiler = os.environ.get("CXX", "c++")
    if not shutil.which(compiler):
        raise BuildError(f"Horovod is compiled, and there is no C++ compiler ({compiler}). Install g++, 12 or newer.")
    if not shutil.which("make"):
        raise BuildError("Horovod is compiled, and there is no make. Install it.")
    if options.mpi and not shutil.which("mpicxx"):
        raise BuildError("--mpi needs Open MPI's mpicxx on the PATH. Install Open MPI, or build with --gloo.")
    if options.nccl and not target.cuda:
        raise BuildError(f"--nccl needs a torch with CUDA, and {target.python} has torch {target.torch}.")


def _build(options: Options, target: Target, cache: Path, work: Path) -> Path:
    started = time.monotonic()
    builder = make_builder(work / "builder", target, options)
    archive = download([str(builder), "-m", "pip"], cache)
    with tarfile.open(archive) as opened:
        opened.extractall(work, filter="data")
    source = work / f"horovod-{VERSION}"
    apply(patches(options, target.torch), source)
    variables = {**os.environ, **options.variables(), **_flags(builder.parent)}
    if options.nccl:
        variables |= make_toolkit(work / "cuda", target, Path(_site_of(builder)))
    say(f"Compiling Horovod for torch {target.torch}: some minutes of processor time")
    compile_wheel(builder, source, variables, cache / "build.log")
    say(f"Built in {time.monotonic() - started:.0f} s")
    return next((source / "dist").glob("*.whl"))


def make_builder(folder: Path, target: Target, options: Options) -> Path:
    """Make an environment with the old build tools, which sees the packages of the target behind its own.

    Returns:
        Its interpreter.

    Raises:
        BuildError: it can't be made.
    """
    say("Preparing the build tools")
    made = _run([str(target.python), "-m", "venv", str(folder)])
    if made.returncode:
        raise BuildError(f"{target.python} can't make a virtual environment: {made.stdout[-500:]}")
    python = folder / "bin" / "python"
    wanted = list(BUILD_TOOLS)
    if options.nccl:
        version = ".".join(map(str, _numbers(str(target.cuda))[:2]))
        wanted += [f"nvidia-cuda-nvcc=={version}.*", f"nvidia-nvvm=={version}.*", f"nvidia-cuda-crt=={version}.*"]
    done = _run([str(python), "-m", "pip", "install", "--quiet", *wanted])
    if done.returncode:
        raise BuildError(
            f"The build tools of Horovod can't be installed: {_last_line(done.stdout)}\n"
            "They are needed once: connect this machine to its package index, and call this again."
        )
    Path(_site_of(python), "target.pth").write_text(f"{target.site}\n", encoding="utf-8")
    return python


def make_toolkit(folder: Path, target: Target, tools: Path) -> dict[str, str]:
    """Lay out a CUDA toolkit: the compiler's own packages, and headers and libraries that torch's packages bring.

    So NCCL and CUDA are those that torch loads, whatever the machine's own toolkit is.

    Args:
        folder: takes it.
        target: has torch's packages.
        tools: the folder of packages that has the compiler.

    Returns:
        The variables by which the build finds it.

    Raises:
        BuildError: a part isn't there.
    """
    major = f"cu{_numbers(str(target.cuda))[0]}"
    theirs, ours = target.site / "nvidia", tools / "nvidia" / major
    for place in (theirs / major / "include", theirs / "nccl" / "include", ours / "bin", ours / "nvvm"):
        if not place.is_dir():
            raise BuildError(f"There is no {place}: torch {target.torch} was expected to bring it.")
    for name in ("bin", "nvvm"):
        shutil.copytree(ours / name, folder / name)
    for place in (ours / "include", theirs / major / "include", theirs / "nccl" / "include"):
        _link_all(place, folder / "include")
    for place in (ours / "lib", theirs / major / "lib", theirs / "nccl" / "lib"):
        _link_all(place, folder / "lib")
    for library in list((folder / "lib").glob("*.so.*")):
        plain = library.with_name(library.name.partition(".so")[0] + ".so")
        if not plain.exists():
            plain.symlink_to(library.name)
    (folder / "lib64").symlink_to("lib")
    return {
        "CUDA_HOME": str(folder),
        "HOROVOD_CUDA_HOME": str(folder),
        "HOROVOD_NCCL_HOME": str(folder),
        "HOROVOD_NCCL_INCLUDE": str(folder / "include"),
        "HOROVOD_NCCL_LIB": str(folder / "lib"),
        "CPATH": str(folder / "include"),
        "PATH": f"{folder / 'bin'}:{tools.parents[2] / 'bin'}:{os.environ.get('PATH', '')}",
    }


def compile_wheel(python: Path, source: Path, variables: dict[str, str], log: Path) -> None:
    """Compile, telling how far it is; everything that is written goes into the log.

    Raises:
        BuildError: it fails; with the first errors.
    """
    command = [str(python), "setup.py", "bdist_wheel"]
    told = 0
    with (
        log.open("w", encoding="utf-8") as written,
        subprocess.Popen(
            command, cwd=source, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        for line in process.stdout:
            written.write(line)
            percent = re.match(r"\[ *(\d+)%\]", line)
            if percent and int(percent[1]) >= told + 10:
                told = int(percent[1]) // 10 * 10
                say(f"  {told} %")
    if process.returncode:
        text = log.read_text(encoding="utf-8")
        errors = re.findall(r"^.*(?:CMake Error|error:).*$", text, re.M)[:5] or text.splitlines()[-5:]
        raise BuildError("Horovod doesn't compile:\n  " + "\n  ".join(errors) + f"\nAll of it is in {log}")


def install(wheel: Path, target: Target) -> None:
    """Install the wheel into the environment that it was built for.

    Raises:
        BuildError: pip refuses.
    """
    wanted = ["install", "--quiet", "--no-deps", "--force-reinstall", str(wheel)]
    with _pip_for(target) as pip:
        done = _run([*pip, *wanted])
    if done.returncode:
        raise BuildError(f"{wheel} can't be installed into {target.python}: {_last_line(done.stdout)}")
    say(f"Installed Horovod {VERSION} into {target.site}")


def say(text: str) -> None:
    """Tell how it goes, apart from the answer on standard output."""
    print(text, file=sys.stderr, flush=True)


def _switch(name: str, wanted: bool) -> dict[str, str]:
    return {f"HOROVOD_{'WITH' if wanted else 'WITHOUT'}_{name}": "1"}


def _flags(tools: Path) -> dict[str, str]:
    """Set the build up: our cmake first, as many jobs as cores, and a header that GCC 13 no longer includes unasked."""
    cores = len(os.sched_getaffinity(0))
    return {
        "PATH": f"{tools}:{os.environ.get('PATH', '')}",
        "MAKEFLAGS": os.environ.get("MAKEFLAGS") or f"-j{cores}",
        "CXXFLAGS": f"{os.environ.get('CXXFLAGS', '')} -include cstdint".strip(),
    }


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Let one process build at a time; the next finds the wheel there."""
    with lock.open("w") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _pip_for(target: Target) -> Iterator[list[str]]:
    """Run a pip on the target: its own, or where it has none, that of an environment made for the moment."""
    if _run([str(target.python), "-m", "pip", "--version"]).returncode == 0:
        yield [str(target.python), "-m", "pip"]
        return
    with tempfile.TemporaryDirectory() as folder:
        made = _run([sys.executable, "-m", "venv", folder])
        if made.returncode:
            raise BuildError(f"{target.python} has no pip, and none can be made: {_last_line(made.stdout)}")
        yield [f"{folder}/bin/python", "-m", "pip", "--python", str(target.python)]


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def _site_of(python: Path) -> str:
    version = sysconfig.get_python_version()
    found = next(iter(python.parents[1].glob("lib/python*/site-packages")), None)
    return str(found or python.parents[1] / "lib" / f"python{version}" / "site-packages")


def _link_all(source: Path, into: Path) -> None:
    """Link what is in a folder; a folder that is there already takes the content of its namesake."""
    into.mkdir(parents=True, exist_ok=True)
    for each in sorted(source.iterdir()) if source.is_dir() else []:
        place = into / each.name
        if each.is_dir():
            _link_all(each, place)
        elif not place.exists():
            place.symlink_to(each)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no answer")


def _download_trouble(output: str, archive: Path) -> str:
    if "DO NOT MATCH THE HASHES" in output:
        found = re.search(r"Got\s+([0-9a-f]{64})", output)
        return (
            f"The checksum of the downloaded {ARCHIVE} is {found[1] if found else 'another'}, expected {SHA256}: it "
            f"isn't Horovod {VERSION} as published, and wasn't kept. Ask whoever runs your package index."
        )
    return (
        f"The source of Horovod {VERSION} can't be downloaded: {_last_line(output)}\n"
        f"It is needed once: connect this machine to its package index and call this again, or put {ARCHIVE} into "
        f"{archive.parent}"
    )


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Take the command line apart."""
    parser = argparse.ArgumentParser(description="Build Horovod for the torch that is installed, once.")
    parser.add_argument("--gloo", action="store_true", help="with Gloo: processors, no MPI needed")
    parser.add_argument("--mpi", action="store_true", help="with Open MPI, as Azure ML starts jobs")
    parser.add_argument("--nccl", action="store_true", help="with operations between GPUs")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="build for this Python's torch")
    parser.add_argument("--install", action="store_true", help="install the wheel there, too")
    parsed = parser.parse_args(words)
    if not parsed.gloo and not parsed.mpi:
        parser.error("say how processes speak to each other: --gloo, or --mpi (with --nccl for GPUs)")
    return parsed


def main(words: Sequence[str] | None = None) -> int:
    """Build, install where asked, and print the wheel's path."""
    asked = parse(words)
    try:
        # Not resolved: a virtual environment's interpreter is a link, and is known by the link's place.
        target = target_of(asked.python.absolute())
        wheel = build(Options(gloo=asked.gloo, mpi=asked.mpi, nccl=asked.nccl), target, cache_folder())
        if asked.install:
            install(wheel, target)
    except BuildError as error:
        say(str(error))
        return 1
    print(wheel)
    return 0


if __name__ == "__main__":
    sys.exit(main())
