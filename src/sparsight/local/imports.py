"""Which files of a code folder a step can import, so that a change elsewhere doesn't make it run again."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

_COMMAND = re.compile(r"^\s*python[\d.]*\s+-m\s+([\w.]+)(?=\s|$)")
_SHELL = re.compile(r"[;|&<>`]|\$\(")
_QUOTED = re.compile(r"'[^']*'")
_MODULE = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")
_DYNAMIC = frozenset({"import_module", "__import__", "runpy", "pkgutil", "spec_from_file_location", "exec", "eval"})


class ImportGraph:
    """The Python files of a code folder and what each can import.

    An import counts wherever it stands, also inside a function or under a condition, and so does a text that names a
    module of the folder, as in `loader_module="package.module"`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, set[str] | None] = {}

    def reachable(self, command: str) -> set[str] | None:
        """Find the files that `python -m MODULE ...` can import, by their paths in the folder.

        Returns:
            None where that can't be told: another kind of command, or code that imports by computed names.
        """
        match = _COMMAND.match(command)
        if match is None or _SHELL.search(_QUOTED.sub("", command)):
            return None
        waiting = set(self._files(match[1])) | set(self._files(f"{match[1]}.__main__"))
        found: set[str] = set()
        while waiting:
            name = waiting.pop()
            found.add(name)
            imported = self._imports(name)
            if imported is None:
                return None
            waiting |= imported - found
        return found or None

    def _imports(self, name: str) -> set[str] | None:
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def _read(self, name: str) -> set[str] | None:
        try:
            tree = ast.parse((self._folder / name).read_bytes())
        except (SyntaxError, ValueError):
            return None
        found: set[str] = set()
        plain = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and _imports_by_name(node)}
        for node in ast.walk(tree):
            if id(node) not in plain and _is_dynamic(node):
                return None
            for module in _named(node, name):
                found.update(self._files(module))
        return found

    def _files(self, module: str) -> Iterator[str]:
        """The files behind a dotted name: its module and the packages around it; nothing for others' packages."""
        parts = module.split(".")
        for count in range(1, len(parts) + 1):
            path = "/".join(parts[:count])
            for candidate in (f"{path}.py", f"{path}/__init__.py"):
                if (self._folder / candidate).is_file():
                    yield candidate


def _is_dynamic(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in _DYNAMIC - {"eval", "exec"}  # `network.eval()` is another thing
    return isinstance(node, ast.Name) and node.id in _DYNAMIC


def _imports_by_name(call: ast.Call) -> bool:
    """Whether a call is `import_module("some.module")`, the name written out."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    written = len(call.args) == 1 and isinstance(call.args[0], ast.Constant)
    return name in {"import_module", "__import__"} and written and not call.keywords


def _named(node: ast.AST, file: str) -> Iterator[str]:
    """The modules that a node of the syntax tree may import."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        package = file.split("/")[: -node.level] if node.level else []
        base = ".".join([*package, *([node.module] if node.module else [])])
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and _imports_by_name(node):
        yield str(node.args[0].value)  # type: ignore[attr-defined]
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE.match(node.value):
        yield node.value
