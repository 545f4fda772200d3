import subprocess
import sys
from pathlib import Path

import pytest

import sparsight
from sparsight.local.imports import ImportGraph

FILES = {
    "pack/__init__.py": "",
    "pack/steps/__init__.py": "",
    "pack/steps/one.py": "from pack.lib import tools\nfrom ..lib.more import thing\nimport numpy\n",
    "pack/steps/two.py": "def later():\n    import pack.lib.late\n",
    "pack/steps/three.py": "loader = 'pack.lib.late'\n",
    "pack/steps/four.py": "import importlib\nimportlib.import_module('pack')\nmodel.eval()\n",
    "pack/steps/sly.py": "import importlib\nimportlib.import_module('pack.' + 'lib')\n",
    "pack/lib/__init__.py": "",
    "pack/lib/tools.py": "from . import deep\n",
    "pack/lib/deep.py": "",
    "pack/lib/more.py": "thing = 1\n",
    "pack/lib/late.py": "",
}
PACKAGES = {"pack/__init__.py", "pack/steps/__init__.py", "pack/lib/__init__.py"}


@pytest.fixture
def graph(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return ImportGraph(tmp_path)


@pytest.mark.parametrize(
    ("command", "modules"),
    [
        ("python -m pack.steps.one --x '${{inputs.x}}'", {"steps/one", "lib/tools", "lib/deep", "lib/more"}),
        ("python -m pack.steps.two", {"steps/two", "lib/late"}),
        ("python -m pack.steps.four", {"steps/four"}),
        ("python3 -m pack.steps.three", {"steps/three", "lib/late"}),
    ],
)
def test_a_step_reaches_what_it_imports_and_no_more(graph, command, modules):
    assert graph.reachable(command) | PACKAGES == PACKAGES | {f"pack/{name}.py" for name in modules}


@pytest.mark.parametrize(
    "command",
    [
        "python -m pack.steps.sly",
        "python -m pack.steps.one && python -m pack.steps.two",
        "python pack/steps/one.py",
        "python -m elsewhere",
        "bash run.sh",
    ],
)
def test_where_it_can_not_be_told_all_files_count(graph, command):
    assert graph.reachable(command) is None


def test_what_a_real_step_imports_is_found():
    """What Python loads for a step, in a process of its own, is no more than what was found."""
    source = Path(sparsight.__file__).parents[1]
    found = ImportGraph(source).reachable("python -m sparsight.steps.arguments")
    program = "import sys, sparsight.steps.arguments; print(*(m for m in sys.modules if m.startswith('sparsight')))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    files = {
        path.relative_to(source).as_posix()
        for name in loaded
        for path in (source / f"{name.replace('.', '/')}.py", source / name.replace(".", "/") / "__init__.py")
        if path.is_file()
    }
    assert found is not None
    assert files <= found
