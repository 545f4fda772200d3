"""Who said it: what documents call a person of Label Studio, and who of them reviews."""

import difflib
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path as FilePath
from typing import Literal, get_args

from sparsight.data.sync.export import Person
from sparsight.errors import SparsightError

AnnotatorNames = Literal["hashed", "email", "id"]
ANNOTATOR_NAMES: tuple[str, ...] = get_args(AnnotatorNames)
DELETED = "deleted-annotator"
"""What people are called whose account Label Studio has deleted: it doesn't say who they were."""


@dataclass(frozen=True, kw_only=True)
class Annotators:
    """Names people for documents.

    Attributes:
        names: `hashed` is made from the e-mail address and stays the same when Label Studio is set up anew, but doesn't
            tell the address to who doesn't know it; `email` is the address; `id` is Label Studio's number.
        emails: addresses by Label Studio's id, where they are known; those in the export itself come first.
        reviewers: addresses or ids of the people whose annotations count as reviewed.
    """

    names: AnnotatorNames = "hashed"
    emails: Mapping[int, str] = field(default_factory=dict)
    reviewers: Collection[str] = frozenset()

    def name(self, person: Person | None) -> str:
        """Name a person for documents.

        Raises:
            SparsightError: that takes an address, and it isn't known.
        """
        if person is None:
            return DELETED
        if self.names == "id":
            return str(person.id)
        email = self._email(person)
        if not email:
            raise SparsightError(
                f"The e-mail address of Label Studio's user {person.id} isn't known; annotators={self.names} takes it.",
                hint="Sync from the running server, give a list of its users, or set annotators to 'id'.",
            )
        return email if self.names == "email" else f"annotator-{hashlib.sha256(email.encode()).hexdigest()[:12]}"

    def is_reviewer(self, person: Person | None) -> bool:
        """Whether a person's annotations count as reviewed."""
        return person is not None and not self._reviewers.isdisjoint((str(person.id), self._email(person)))

    def _email(self, person: Person) -> str:
        return (person.email or self.emails.get(person.id, "")).strip().lower()

    @cached_property
    def _reviewers(self) -> set[str]:
        return {reviewer.strip().lower() for reviewer in self.reviewers} - {""}

    def check_reviewers(self) -> None:
        """Look each reviewer up among the people known; without a list of people there is nothing to look in.

        Raises:
            SparsightError: one isn't there.
        """
        known = {str(number) for number in self.emails} | {email.strip().lower() for email in self.emails.values()}
        for reviewer in sorted(self._reviewers - known) if known else ():
            near = difflib.get_close_matches(reviewer, known, n=1)
            raise SparsightError(
                f"Label Studio has no user {reviewer!r} to review.", hint=f"Did you mean {near[0]!r}?" if near else ""
            )


def read_emails(file: FilePath) -> dict[int, str]:
    """Read Label Studio's users: what GET /api/users/ answers, or a JSON object of addresses by id.

    Raises:
        SparsightError: the file can't be read, or holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, list):
            content = {user["id"]: user["email"] for user in content}
        return {int(number): str(email) for number, email in content.items()}
    except OSError as error:
        raise SparsightError(f"{file} can't be read: {error.strerror or error}.") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SparsightError(
            f"{file} holds no users of Label Studio; expected what GET /api/users/ answers, or e-mail addresses by id."
        ) from error
