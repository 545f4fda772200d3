"""What a step or a command ends with that is meant for a person: what is wrong, and what to do next."""


class SparsightError(Exception):
    """A mistake in the input or the surroundings, told in one message without a stack trace.

    Args:
        problem: what is wrong and where, naming the value found and the value expected.
        hint: the next thing to do, best as a command that can be typed.
    """

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.problem}\n{self.hint}" if self.hint else self.problem


NOTHING_TO_DO = 77
"""Exit status of a step that found that the rest of its pipeline has nothing to do; test runners skip by it, too."""


NOTHING_TO_DO_WORDS = "Nothing to do: "
"""How the log of such a step says so."""


class NothingToDo(Exception):  # noqa: N818 -- it is no error
    """The rest of a pipeline has nothing to do; the message says why."""
