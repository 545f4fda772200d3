"""What is wrong with a pipeline, collected so that a person sees all of it at once; used by the checks."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from sparsight.errors import SparsightError


@dataclass(frozen=True)
class Problem:
    """One mistake: the place (`file: jobs.hello.inputs.count`) and what is wrong there."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def nearest(name: str, known: Iterable[str]) -> str:
    """End a message about an unknown name: `; did you mean 'epochs'?`, or the names there are."""
    names = sorted(known)
    if close := difflib.get_close_matches(name, names, n=1):
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}." if names else "; there are none."


def refuse(title: str, problems: Iterable[Problem]) -> None:
    """Raise one error that lists all problems, or return when there are none.

    Raises:
        SparsightError: there is at least one problem.
    """
    lines = list(dict.fromkeys(str(problem) for problem in problems))
    if not lines:
        return
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    raise SparsightError("\n".join([f"{title}: {count}, nothing was started.", *(f"  - {line}" for line in lines)]))
