"""What a labelling interface of Label Studio asks for: read from its XML configuration."""

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from sparsight.data.labels import Path
from sparsight.errors import SparsightError

_DATA_KEY = "$image"


@dataclass(frozen=True, kw_only=True)
class Interface:
    """The one image and the one taxonomy of a labelling interface.

    Args:
        control: name of the taxonomy's tag.
        image: name of the image's tag.
        paths: the labels offered; None where they come with each task.
    """

    control: str
    image: str
    paths: frozenset[Path] | None

    def offers(self, path: Path) -> bool:
        """Whether people can choose this label, so that a prediction of it can be shown."""
        return self.paths is None or path in self.paths

    def result(self, path: Path, score: float) -> dict[str, object]:
        """One label in the shape in which Label Studio keeps results of annotations and predictions."""
        return {
            "from_name": self.control,
            "to_name": self.image,
            "type": "taxonomy",
            "score": score,
            "value": {"taxonomy": [list(path)]},
        }


def read_interface(label_config: str, title: str) -> Interface:
    """Find image and taxonomy in a project's labelling interface.

    Args:
        label_config: XML.
        title: of the project, for messages.

    Raises:
        SparsightError: there isn't exactly one of each, or the image isn't shown from the tasks' field `image`.
    """
    try:
        root = ElementTree.fromstring(label_config)  # noqa: S314 - from the server that we trust with the photos
    except ElementTree.ParseError as error:
        raise SparsightError(f"The labelling interface of project {title!r} can't be read: {error}.") from error
    image, control = _one(root, "Image", title), _one(root, "Taxonomy", title)
    if image.get("value") != _DATA_KEY:
        raise SparsightError(
            f"The labelling interface of project {title!r} shows {image.get('value')!r}; tasks have their photo's "
            f"address in {_DATA_KEY}.",
            hint="Change it in the project's settings, or give a taxonomy, which makes an interface that fits.",
        )
    dynamic = control.get("apiUrl") or str(control.get("value", "")).startswith("$")
    paths = None if dynamic else frozenset(_paths(control, ()))
    return Interface(control=control.get("name", ""), image=image.get("name", ""), paths=paths)


def _one(root: ElementTree.Element, tag: str, title: str) -> ElementTree.Element:
    found = list(root.iter(tag))
    if len(found) != 1:
        raise SparsightError(
            f"The labelling interface of project {title!r} has {len(found)} <{tag}> tags; expected one.",
            hint="Give a taxonomy, which makes an interface that fits, or change it in the project's settings.",
        )
    return found[0]


def _paths(parent: ElementTree.Element, above: Path) -> Iterator[Path]:
    """The labels that are stored: by `alias` where there is one, which then isn't what people see."""
    for choice in parent.findall("Choice"):
        path = (*above, choice.get("alias") or choice.get("value") or "")
        yield path
        yield from _paths(choice, path)
