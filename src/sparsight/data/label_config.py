"""The labelling interface that Label Studio shows people for a taxonomy: its XML configuration.

How Label Studio's Taxonomy tag treats it was read in its source (web/libs/editor, Taxonomy.jsx and its components):
a Choice shows `value` and stores `alias`; of two siblings that show the same, the second vanishes; and a path chosen is
joined and taken apart again at `pathSeparator`, which therefore must not occur in a name.
"""

import difflib
from collections.abc import Iterable
from xml.etree import ElementTree

from sparsight.data.labels import Path
from sparsight.data.taxonomy import Taxonomy
from sparsight.errors import SparsightError

CONTROL = "taxonomy"
IMAGE = "image"
_SEPARATORS = (" / ", " > ", " | ", " :: ", " // ", " >> ", " || ", " ::: ")


def label_config(taxonomy: Taxonomy, language: str | None) -> str:
    """Write the configuration; see `Taxonomy.label_config`."""
    if not taxonomy.nodes:
        raise SparsightError(
            "This taxonomy lists no nodes, so there is nothing to offer to people.",
            hint="List them in its file. Those in use: python execute.py labels taxonomy derive --help",
        )
    _check_language(language, taxonomy.languages())
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}", zoom="true", zoomControl="true")
    attributes = {"name": CONTROL, "toName": IMAGE, "showFullPath": "true", "pathSeparator": _separator(taxonomy)}
    _add_choices(ElementTree.SubElement(view, "Taxonomy", attributes), taxonomy, taxonomy.children(), language)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def _check_language(language: str | None, known: list[str]) -> None:
    if language is None or language in known:
        return
    near = difflib.get_close_matches(language, known, n=1)
    raise SparsightError(
        f"No node has a name in {language!r}; this taxonomy has names in {', '.join(known) or 'no language'}.",
        hint=f"Did you mean {near[0]!r}?" if near else "Leave the language out to show the names that are stored.",
    )


def _add_choices(parent: ElementTree.Element, taxonomy: Taxonomy, paths: Iterable[Path], language: str | None) -> None:
    for path in paths:
        shown = taxonomy.display_name(path, language)
        attributes = {"value": shown} if shown == path[-1] else {"value": shown, "alias": path[-1]}
        choice = ElementTree.SubElement(parent, "Choice", attributes)
        _add_choices(choice, taxonomy, taxonomy.children(path), language)


def _separator(taxonomy: Taxonomy) -> str:
    names = {path[-1] for path in taxonomy.nodes or {}}
    for separator in _SEPARATORS:
        if not any(separator in name for name in names):
            return separator
    raise SparsightError(
        f"Label Studio joins the names of a path with a separator, but of {', '.join(map(repr, _SEPARATORS))} each "
        "occurs in a node's name.",
        hint="Rename a node, so that one of these occurs in none.",
    )
