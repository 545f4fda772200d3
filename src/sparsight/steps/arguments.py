"""The command line of a step: one frozen dataclass whose fields are the component's inputs and outputs."""

import argparse
import dataclasses
import json
import os
import sys
import time
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sparsight.data.labels import split_path
from sparsight.errors import NOTHING_TO_DO, NOTHING_TO_DO_WORDS, NothingToDo, SparsightError

CANCELLATION_SECONDS = 300.0
"""How long a step waits for the end of its pipeline."""
ArgumentsT = TypeVar("ArgumentsT")


def _boolean(text: str) -> bool:
    """Read a boolean as Azure ML renders it on a command line: `True` or `False`."""
    if text.lower() not in {"true", "false"}:
        raise argparse.ArgumentTypeError(f"expected True or False, found {text!r}")
    return text.lower() == "true"


def _converter(hint: Any) -> Callable[[str], Any]:
    """Find the function that turns a flag's text into its field's type (`X | None` reads as `X`)."""
    if isinstance(hint, types.UnionType):
        hint = next(member for member in typing.get_args(hint) if member is not type(None))
    if hint is bool:
        return _boolean
    if hint in (int, float, str, Path):
        return typing.cast(Callable[[str], Any], hint)
    raise TypeError(f"a step's argument is an int, float, bool, str or Path, not {hint!r}")


def parser_for(arguments_type: type[Any]) -> argparse.ArgumentParser:
    """Build the parser of a step: one `--name` for each field, required where it has no default."""
    module = sys.modules[arguments_type.__module__]
    parser = argparse.ArgumentParser(
        prog=f"python -m {module.__spec__.name if module.__spec__ else module.__name__}",
        description=module.__doc__,
        allow_abbrev=False,
    )
    hints = typing.get_type_hints(arguments_type)
    for field in dataclasses.fields(arguments_type):
        required = field.default is dataclasses.MISSING
        parser.add_argument(
            f"--{field.name}",
            type=_converter(hints[field.name]),
            required=required,
            default=None if required else field.default,
        )
    return parser


def labels_in(name: str, text: str) -> tuple[tuple[str, ...], ...]:
    """Read an input that lists labels as JSON, such as `["dog", "cat/siamese"]`, into paths.

    Raises:
        SparsightError: it is no such list.
    """
    try:
        labels = json.loads(text)
    except ValueError as error:
        raise SparsightError(f"{name} is not JSON: {text!r}: {error}.") from error
    if not isinstance(labels, list) or not all(isinstance(label, str) and label for label in labels):
        raise SparsightError(f'{name} is {text!r}; expected a JSON list of labels, such as ["dog", "cat/siamese"].')
    return tuple(split_path(label) for label in labels)


def run_step(
    arguments_type: type[ArgumentsT],
    main: Callable[[ArgumentsT], None],
    argv: Sequence[str] | None = None,
) -> None:
    """Parse the command line, run the step, and end the process with its exit status.

    A `SparsightError` is told on standard error and ends with status 2, an interrupt with 130. `NothingToDo` ends with
    77, which the local runner knows; Azure ML has no such status, so there the pipeline's job is cancelled.
    """
    # Threads that spin for long while they wait make torch many times slower wherever another process wants a core;
    # threads that go to sleep at once cost a quarter of the speed where none does.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    arguments = arguments_type(**vars(parser_for(arguments_type).parse_args(argv)))
    try:
        main(arguments)
    except NothingToDo as reason:
        print(f"{NOTHING_TO_DO_WORDS}{reason}", flush=True)
        _cancel_pipeline()
        raise SystemExit(NOTHING_TO_DO) from None
    except SparsightError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _cancel_pipeline() -> None:
    from sparsight.stores.azureml import cancel_pipeline_of_job

    try:
        job = cancel_pipeline_of_job()
    except Exception as error:
        print(f"error: The job couldn't be cancelled, so it ends as failed: {error}", file=sys.stderr, flush=True)
        return
    if job is not None:
        print(f"Asked for the end of {job}.", flush=True)
        time.sleep(CANCELLATION_SECONDS)  # it ends this process, too; ended by itself the step would count as failed
