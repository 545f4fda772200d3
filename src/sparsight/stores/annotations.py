"""Labelling projects in Label Studio: projects, tasks, pre-annotations, exports and users."""

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

from sparsight.errors import SparsightError
from sparsight.stores.annotation_exports import fetch_export
from sparsight.stores.annotation_trouble import explained
from sparsight.stores.settings import LabelStudioSettings
from sparsight.stores.vault import read_secret

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio
    from label_studio_sdk.core.request_options import RequestOptions

PAGE = 500
"""Tasks sent or asked for at once."""
_PATIENCE = 600.0
_TASK_FIELDS = "id,data,is_labeled,total_annotations,predictions_model_versions"
# Sent again after an answer that got lost, what makes something would make it twice.
_ONCE: Final["RequestOptions"] = {"max_retries": 0}


@dataclass(frozen=True, kw_only=True)
class Project:
    """A labelling project.

    Args:
        id: Label Studio's number for it.
        title: its name; Label Studio lets several projects have the same.
        label_config: its labelling interface, XML.
        overlap: how many people should label each task.
    """

    id: int
    title: str
    label_config: str
    overlap: int


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is known of a task besides its annotations.

    Args:
        id: Label Studio's number for it.
        data: what the labelling interface shows.
        is_done: as many people as should have labelled it.
        annotations: that people have given, without those that they cancelled.
        model_versions: whose predictions it has.
    """

    id: int
    data: Mapping[str, Any]
    is_done: bool
    annotations: int
    model_versions: frozenset[str]


class AnnotationStore:
    """The labelling projects of one Label Studio server.

    Nothing here deletes a task, an annotation or a prediction.

    Args:
        client: the SDK's open client.
        url: the server's address, for messages.

    Example:
        >>> with open_annotations() as store:
        ...     for task in store.export(store.project("cells")):
        ...         print(task["data"]["id"], task["annotations"])
    """

    def __init__(self, client: "LabelStudio", url: str) -> None:
        self.url = url
        self._client = client

    def users(self) -> dict[int, str]:
        """Who there is: Label Studio's number for each user -> e-mail address."""
        with explained(self.url, "list its users"):
            return {int(user.id): str(user.email) for user in self._client.users.list()}

    def ensure_user(self, email: str) -> int:
        """Find the user with this address, or make one who can't sign in; returns Label Studio's number for them."""
        for number, known in self.users().items():
            if known.lower() == email.lower():
                return number
        with explained(self.url, f"make user {email}"):
            return int(self._client.users.create(email=email, username=email, request_options=_ONCE).id)

    def annotate(self, task_id: int, user: int, result: Sequence[Mapping[str, Any]]) -> None:
        """Give a task an annotation in somebody's name."""
        with explained(self.url, f"annotate task {task_id}"):
            self._client.annotations.create(
                task_id, result=[dict(each) for each in result], completed_by=user, request_options=_ONCE
            )

    def projects(self) -> list[Project]:
        """All projects that this token's owner sees, oldest first."""
        with explained(self.url, "list its projects"):
            return sorted(map(_project, self._client.projects.list(page_size=PAGE)), key=lambda project: project.id)

    def project(self, title: str) -> Project:
        """Find the project of a title.

        Raises:
            SparsightError: there is none, or there are several; the message lists those that exist.
        """
        projects = self.projects()
        found = _only(projects, title)
        if found is None:
            titles = ", ".join(repr(project.title) for project in projects) or "none"
            raise SparsightError(
                f"Label Studio at {self.url} has no project {title!r}; it has {titles}.",
                hint="Name one of those, or let push_tasks make it: give it a taxonomy.",
            )
        return found

    def ensure_project(self, title: str, label_config: str | None = None, overlap: int | None = None) -> Project:
        """Make a project, or change the one there is so that it has this labelling interface and overlap.

        Labels that the new interface lacks stay in annotations made with the old one.

        Args:
            title: 3 to 50 characters.
            label_config: XML; None leaves what there is.
            overlap: how many people should label each task; None leaves what there is, for a new project 1.

        Raises:
            SparsightError: Label Studio refuses the change, for instance of a control's name that annotations use;
                or there is no such project and no interface to make it with.
        """
        found = _only(self.projects(), title)
        if found is None and label_config is None:
            return self.project(title)
        if found is None:
            with explained(self.url, f"make project {title!r}"):
                made = self._client.projects.create(
                    title=title, label_config=label_config, maximum_annotations=overlap or 1, request_options=_ONCE
                )
            return _project(made)
        changes = _changes(found, label_config, overlap)
        if changes:
            with explained(self.url, f"change project {title!r}"):
                self._client.projects.update(found.id, **changes)
            return self.project(title)
        return found

    def export(self, project: Project) -> Iterator[dict[str, Any]]:
        """Read every task of a project, in the shape of Label Studio's JSON export, one at a time.

        Also tasks that nobody has labelled; predictions and drafts by number only. It is one snapshot, which is fetched
        to a temporary file before the first task is given out: either all tasks are there, or none comes.

        Raises:
            SparsightError: the snapshot fails, or holds another number of tasks than Label Studio says.
        """
        import ijson

        with tempfile.TemporaryFile() as file:
            with explained(self.url, f"export project {project.title!r}"):
                expected = fetch_export(self._client, project.id, file)
            file.seek(0)
            count = 0
            for task in ijson.items(file, "item", use_float=True):
                count += 1
                yield task
        if expected is not None and count != expected:
            raise SparsightError(
                f"The export of {project.title!r} holds {count:,} tasks; Label Studio counts {expected:,}.",
                hint="Try again.",
            )

    def tasks(self, project: Project) -> Iterator[Task]:
        """A project's tasks without their annotations, page by page, oldest first."""
        with explained(self.url, f"list the tasks of project {project.title!r}"):
            # Which models' predictions a task has is told with `all` fields only; `include` leaves the large ones out.
            found: Any = self._client.tasks.list(project=project.id, fields="all", include=_TASK_FIELDS, page_size=PAGE)
            for each in found:
                versions = str(each.predictions_model_versions or "").split(",")
                yield Task(
                    id=int(each.id),
                    data=each.data,
                    is_done=bool(each.is_labeled),
                    annotations=int(each.total_annotations or 0),
                    model_versions=frozenset(version.strip() for version in versions) - {""},
                )

    def add_tasks(self, project: Project, data: Iterable[Mapping[str, Any]]) -> Iterator[int]:
        """Add tasks; they are sent in batches as the numbers that they got are taken, in the same order.

        Predictions are to be added afterwards (add_predictions): a Label Studio whose SQLite database was locked for a
        moment makes the tasks at its second attempt without what they brought along, and says nothing.

        Args:
            project: where to.
            data: what each task shows.

        Raises:
            SparsightError: Label Studio refuses a batch, of which then no task is added.
        """
        for batch in _batches({"data": each} for each in data):
            with explained(self.url, f"add tasks to project {project.title!r}"):
                answer: Any = self._client.projects.import_tasks(
                    project.id, request=batch, return_task_ids=True, request_options=_ONCE
                )
            if answer.task_ids is None or len(answer.task_ids) != len(batch):
                raise SparsightError(
                    f"Label Studio at {self.url} doesn't say which tasks it made of {len(batch):,} sent.",
                    hint="Its paid edition imports in the background, which this version can't follow.",
                )
            yield from map(int, answer.task_ids)

    def add_predictions(self, project: Project, predictions: Iterable[Mapping[str, Any]]) -> int:
        """Add predictions to tasks that are there, in batches; returns how many.

        Args:
            project: the tasks' project.
            predictions: each with `task` (its number), `model_version`, `score` and `result`.
        """
        count = 0
        for batch in _batches(predictions):
            with explained(self.url, f"add predictions to project {project.title!r}"):
                self._client.projects.import_predictions(project.id, request=batch, request_options=_ONCE)
            count += len(batch)
        return count

    def show_predictions(self, project: Project, model_version: str) -> None:
        """Have people shown the predictions of one model version, which some task must have, and of no other."""
        with explained(self.url, f"show predictions of {model_version!r} in project {project.title!r}"):
            self._client.projects.update(project.id, model_version=model_version, show_collab_predictions=True)

    def change_data(self, task_id: int, data: Mapping[str, Any]) -> None:
        """Give a task other data; its annotations and predictions stay."""
        with explained(self.url, f"change task {task_id}"):
            self._client.tasks.update(str(task_id), data=dict(data))

    @contextmanager
    def webhook(self, project: Project, url: str, headers: Mapping[str, str]) -> Iterator[None]:
        """Have the server tell an address of each change in a project, for the length of a block.

        It tells that something happened, and sends none of the project's data. Where an earlier process was killed, its
        webhook to the same address is removed first.

        Args:
            project: whose changes.
            url: where to.
            headers: sent along, such as a secret by which the receiver knows the sender.

        Raises:
            SparsightError: Label Studio refuses the address.
        """
        with explained(self.url, f"tell {url} of changes in project {project.title!r}"):
            for each in self._client.webhooks.list(project=str(project.id)):
                if each.url == url:
                    self._client.webhooks.delete(each.id)
            made = self._client.webhooks.create(
                url=url, project=project.id, headers=dict(headers), send_payload=False, request_options=_ONCE
            )
        try:
            yield
        finally:
            with explained(self.url, f"stop telling {url} of changes"):
                self._client.webhooks.delete(made.id)


@contextmanager
def open_annotations(settings: LabelStudioSettings | None = None) -> Iterator[AnnotationStore]:
    """Open Label Studio, and sign in; the connections are closed with the block.

    Args:
        settings: the server and its token; by default the environment's.

    Raises:
        SparsightError: the settings are no good, the server doesn't answer, or it doesn't take the token.
    """
    chosen = settings or LabelStudioSettings.from_environment()
    token = chosen.token or read_secret(str(chosen.token_secret))
    import httpx
    from label_studio_sdk import LabelStudio

    url = chosen.url.rstrip("/")
    with httpx.Client(timeout=_PATIENCE) as connections:
        with explained(url):
            client = LabelStudio(base_url=url, api_key=token, httpx_client=connections, timeout=_PATIENCE)  # type: ignore[no-untyped-call]
            client.users.whoami()
        yield AnnotationStore(client, url)


def _project(found: Any) -> Project:
    return Project(
        id=int(found.id),
        title=str(found.title),
        label_config=str(found.label_config or ""),
        overlap=int(found.maximum_annotations or 1),
    )


def _only(projects: Sequence[Project], title: str) -> Project | None:
    found = [project for project in projects if project.title == title]
    if len(found) > 1:
        numbers = " and ".join(str(project.id) for project in found)
        raise SparsightError(
            f"Label Studio has {len(found)} projects with the title {title!r}, numbers {numbers}.",
            hint="Give all but one of them another title there.",
        )
    return found[0] if found else None


def _changes(project: Project, label_config: str | None, overlap: int | None) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if label_config is not None and _canonical(label_config) != _canonical(project.label_config):
        changes["label_config"] = label_config
    if overlap is not None and overlap != project.overlap:
        changes["maximum_annotations"] = overlap
    return changes


def _canonical(xml: str) -> str:
    try:
        return ElementTree.canonicalize(xml, strip_text=True)
    except ElementTree.ParseError:
        return xml


def _batches(items: Iterable[Mapping[str, Any]]) -> Iterator[list[Any]]:
    remaining = iter(items)
    while batch := [dict(item) for item in itertools.islice(remaining, PAGE)]:
        yield batch
