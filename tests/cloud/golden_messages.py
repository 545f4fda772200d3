"""Golden messages: what was sent, with names where it holds hashes, times and addresses of one test."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from workspace_server import WORKSPACE, Message, WorkspaceServer

GOLDEN = Path(__file__).parent / "golden"
Golden = Callable[[str, Any], None]


def golden_messages(request: pytest.FixtureRequest) -> Golden:
    """Give what compares a message with a golden one, or makes it that."""

    def compare(name: str, message: Any) -> None:
        file = GOLDEN / f"{name}.json"
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(message, indent=2, sort_keys=True) + "\n")
        assert file.is_file(), f"{file} isn't there; make it with --update-golden"
        assert message == json.loads(file.read_text())

    return compare


def version(message: Message) -> str:
    return message.path.rpartition("/")[2]


class Normaliser:
    """Puts names where a message holds hashes, times and addresses of this test.

    Attributes:
        names: version of a component or environment -> the component's step, the environment's folder.
    """

    def __init__(self, server: WorkspaceServer) -> None:
        self.names: dict[str, str] = {}
        for message in server.sent("PUT", "/components/"):
            step = re.search(r"-m sparsight\.steps\.(\w+)", message.body["properties"]["componentSpec"]["command"])
            assert step
            self.names[version(message)] = step[1]
        for message in server.sent("PUT", "/environments/"):
            self.names[version(message)] = Path(message.body["properties"]["build"]["dockerfilePath"]).parent.name
        words = {WORKSPACE: "<workspace>", **{key: f"<{name}>" for key, name in self.names.items()}}
        words |= {value: f"<{name}>" for name, value in server.variables.items() if name.endswith("_ENDPOINT")}
        words |= dict.fromkeys(server.jobs, "<job>")
        self._words = sorted(words.items(), key=lambda pair: -len(pair[0]))

    def __call__(self, value: Any) -> Any:
        if isinstance(value, dict):
            fixed = {"SPARSIGHT_CODE_VERSION": "<version>"}
            return {key: fixed.get(key) or self(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self(each) for each in value]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        for known, word in self._words:
            text = text.replace(known, word)
        text = re.sub(r"/codes/[0-9a-f-]{36}/", "/codes/<code>/", text)
        text = re.sub(r"http://127\.0\.0\.1:\d+", "<storage>", text)
        text = re.sub(r"/azureml-blobstore-\w+/", "/<container>/", text)
        return re.sub(r"LocalUpload/[0-9a-f]{64}", "LocalUpload/<hash>", text)
