"""One process's share of work that several do together, and how they tell each other what they found."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Message = dict[Any, Any]
"""Plain values that JSON takes. Keys that were numbers may arrive as strings."""


def _to_itself(message: Message) -> list[Message]:
    return [message]


@dataclass(frozen=True, kw_only=True)
class Share:
    """The place of this process among those that do the same work; by default it is alone.

    Args:
        rank: its number, from 0; the first one leads.
        size: the number of processes.
        exchange: tells the others something and returns what all have told, in the order of ranks. All take part, and
            nobody goes on before everyone has come to the same exchange.
    """

    rank: int = 0
    size: int = 1
    exchange: Callable[[Message], list[Message]] = _to_itself

    @property
    def leads(self) -> bool:
        """Whether this process does what is to be done once."""
        return self.rank == 0

    def meet(self) -> None:
        """Wait until all processes have come here."""
        self.exchange({})

    def leader_says(self, answer: bool) -> bool:
        """Agree on the leader's answer to a question."""
        return bool(self.exchange({"answer": answer})[0]["answer"])
