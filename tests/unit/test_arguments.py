from dataclasses import dataclass
from pathlib import Path

import pytest

from sparsight.errors import SparsightError
from sparsight.steps.arguments import run_step


@dataclass(frozen=True, kw_only=True)
class Arguments:
    images: Path
    epochs: int = 3
    rate: float = 0.5
    shuffle: bool = True
    limit: int | None = None


def parsed(*argv: str) -> Arguments:
    seen: list[Arguments] = []
    run_step(Arguments, seen.append, argv)
    return seen[0]


def test_flags_become_typed_fields() -> None:
    found = parsed("--images", "x", "--epochs", "7", "--rate", "1e-3", "--shuffle", "False", "--limit", "9")
    assert found == Arguments(images=Path("x"), epochs=7, rate=1e-3, shuffle=False, limit=9)


def test_defaults_stand_where_a_flag_is_missing() -> None:
    assert parsed("--images", "x") == Arguments(images=Path("x"))


@pytest.mark.parametrize("argv", [["--epochs", "1"], ["--images", "x", "--epochs", "many"], ["--images", "x", "--no"]])
def test_bad_flags_end_with_status_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(*argv)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_persons_mistake_is_told_without_a_stack_trace(capsys: pytest.CaptureFixture[str]) -> None:
    def main(arguments: Arguments) -> None:
        raise SparsightError("No photo matches.", hint="Loosen the query.")

    with pytest.raises(SystemExit) as ended:
        run_step(Arguments, main, ["--images", "x"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: No photo matches.\nLoosen the query.\n"
