"""A taxonomy's file, what is refused in it and at which line, what labels mean today, and what Label Studio is told."""

from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsight.data.labels import split_path
from sparsight.data.taxonomy import Node, Taxonomy, derive_taxonomy
from sparsight.data.taxonomy_checks import contradictions, doubts
from sparsight.data.taxonomy_file import taxonomy_text
from sparsight.errors import SparsightError

CELLS = """\
nodes:
  cell:
    names: {de: Zelle}
  cell/defective: {names: {de: defekt, fr: défectueux}}
  cell/functional:
  0:
  No:
  Sort Out: {reject: true}
  Sort Out/blurred:
retired:
  zelle: cell
  cell/broken: zelle/defective
  cell/dirty:
"""

Read = Callable[[str], Taxonomy]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def run(text: str) -> Taxonomy:
        file = tmp_path / "cells.yml"
        file.write_text(text, encoding="utf-8")
        return Taxonomy.read(file)

    return run


@pytest.fixture
def cells(read: Read) -> Taxonomy:
    return read(CELLS)


def test_nodes_keep_their_order_and_their_names_as_they_are_written(cells: Taxonomy) -> None:
    assert list(cells.nodes or ()) == [
        ("cell",),
        ("cell", "defective"),
        ("cell", "functional"),
        ("0",),
        ("No",),
        ("Sort Out",),
        ("Sort Out", "blurred"),
    ]
    assert cells.children() == [("cell",), ("0",), ("No",), ("Sort Out",)]
    assert cells.children(("cell",)) == [("cell", "defective"), ("cell", "functional")]
    assert cells.languages() == ["de", "fr"]
    assert cells.display_name(("cell", "defective"), "de") == "defekt"
    assert cells.display_name(("cell", "functional"), "de") == "functional"
    assert doubts(cells) == []


@pytest.mark.parametrize(
    ("label", "outcome"),
    [
        ("cell/defective", ("cell/defective", "known")),
        ("cell", ("cell", "known")),
        ("zelle", ("cell", "retired")),
        ("zelle/functional", ("cell/functional", "retired")),
        ("cell/broken", ("cell/defective", "retired")),
        ("zelle/broken", ("cell/defective", "retired")),
        ("cell/dirty", (None, "dropped")),
        ("cell/dirty/very", (None, "dropped")),
        ("zelle/other", (None, "unknown")),
        ("cell/Defective", (None, "unknown")),
        ("", (None, "unknown")),
    ],
)
def test_what_a_label_means_today(cells: Taxonomy, label: str, outcome: tuple[str | None, str]) -> None:
    node, standing = outcome
    assert cells.look_up(split_path(label)) == (split_path(node) if node else None, standing)
    assert cells.resolve(list(split_path(label))) == cells.look_up(split_path(label))[0]


def test_reject_nodes_and_what_is_below_them(cells: Taxonomy) -> None:
    assert cells.rejects() == [("Sort Out",)]
    assert cells.is_reject(("Sort Out", "blurred"))
    assert not cells.is_reject(("cell",))
    assert not cells.is_reject(())


def test_without_a_list_every_label_is_known_and_some_are_retired(read: Read) -> None:
    taxonomy = read("nodes: any\nretired: {zelle: cell}")
    assert taxonomy.look_up(("x", "y")) == (("x", "y"), "known")
    assert taxonomy.look_up(("zelle", "y")) == (("cell", "y"), "retired")
    with pytest.raises(SparsightError, match="nothing to offer"):
        taxonomy.label_config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nodes:\n  a: {nmes: {de: x}}", "line 2: unknown key 'nmes'; did you mean 'names'?"),
        ("nodes:\n  a:\nretird: {}", "line 3: unknown key 'retird'; did you mean 'retired'?"),
        ("retired: {}", "line 1: 'nodes' is missing; list the nodes below it, or write `nodes: any`."),
        ("nodes: some", "line 1: nodes is 'some'; expected keys with values."),
        ("- a", "line 1: the file is a list; expected keys with values."),
        ("", "line 1: 'nodes' is missing"),
        ("nodes:\n  a: {reject: perhaps}", "line 2: reject is 'perhaps'; expected true or false."),
        ("nodes:\n  a:\n    names: [x]", "line 3: names is a list; expected keys with values."),
        ("nodes:\n  a:\n  b:\n  a:", "line 4: 'a' is there already, in line 2."),
        ("nodes:\n  a: &x {}\n  b: *x", "line 3: anchors (&, *) aren't taken."),
        ("nodes:\n  a: [", "can't be read as YAML"),
        ("nodes:\n  ? [a]\n  : x", "line 2: a key must be a text."),
        ("nodes:\n  a:\n  a%2fb:\n  a%2Fb:", "line 4: 'a%2Fb' is 'a%2fb' once more."),
        ("nodes:\n  cell:\n  cel/x:", "line 3: its parent 'cel' is no node; did you mean 'cell'?"),
        ("nodes:\n  a/x:\nretired: {a: }", "line 2: its parent 'a' is no node but a retired one."),
        ("nodes:\n  a / b:", "line 2: 'a / b' has blanks around a name; write 'a/b'."),
        ("nodes:\n  a//b:", "line 2: 'a//b' has an empty name in it"),
        ('nodes:\n  "a\\nb":', "has a line break or control character in it."),
        ("nodes:\n  a: {names: {German: b}}", "line 2: 'German' is no language; expected a tag such as de or pt-BR."),
        ("nodes:\n  a: {names: {de: ' '}}", "line 2: ' ' has an empty name in it"),
        ("nodes:\n  a: {names: {de: x}}\n  b: {names: {de: x}}", "line 3: its name in 'de', 'x', is that of 'a', too."),
        ("nodes:\n  a: {names: {de: b}}\n  b:", "line 2: its name in 'de', 'b', is that of 'b', too."),
        ("nodes:\n  a:\nretired:\n  a: ", "line 2: 'a' is among the retired, too."),
        ("nodes:\n  cell:\nretired:\n  b: cel", "line 4: its successor 'cel' is no node; did you mean 'cell'?"),
        ("nodes:\n  a:\nretired:\n  b: c\n  c: b", "line 4: its successors go in a circle: b -> c -> b."),
        ("nodes:\n  a:\nretired:\n  b: b/c", "line 4: its successor 'b/c' is no node"),
    ],
)
def test_mistakes_are_told_with_their_line(read: Read, text: str, message: str) -> None:
    with pytest.raises(SparsightError) as refused:
        read(text)
    assert message in str(refused.value)
    assert "cells.yml" in str(refused.value)


def test_all_mistakes_are_told_at_once(read: Read) -> None:
    with pytest.raises(SparsightError) as refused:
        read("nodes:\n  a/x:\n  b/x:\nretired:\n  c: d")
    assert "cells.yml: 3 problems.\n" in str(refused.value)


def test_a_file_that_is_not_there_or_too_large_is_told(tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match=r"none\.yml can't be read: No such file"):
        Taxonomy.read(tmp_path / "none.yml")
    (tmp_path / "large.yml").write_bytes(b"#" * (2**24 + 1))
    with pytest.raises(SparsightError, match="16,777,217 bytes; expected 16,777,216 or fewer"):
        Taxonomy.read(tmp_path / "large.yml")


def test_what_works_but_may_not_be_meant_is_told(read: Read) -> None:
    taxonomy = read("nodes:\n  Cell:\n  cell:\n  a  b:\n  a b:\nretired:\n  c: d\n  d: cell\n  e: f\n  f:")
    assert doubts(taxonomy) == [
        "'Cell' and 'cell' differ in case or blanks alone.",
        "'a  b' and 'a b' differ in case or blanks alone.",
        "'c' is retired for 'd', retired itself: it is taken as 'cell'.",
        "'e' is retired for 'f', retired itself: it is dropped, as that has no successor.",
    ]


def test_label_studio_shows_names_and_stores_nodes(cells: Taxonomy) -> None:
    assert cells.label_config("de") == (
        "<View>\n"
        '  <Image name="image" value="$image" zoom="true" zoomControl="true" />\n'
        '  <Taxonomy name="taxonomy" toName="image" showFullPath="true" pathSeparator=" / ">\n'
        '    <Choice value="Zelle" alias="cell">\n'
        '      <Choice value="defekt" alias="defective" />\n'
        '      <Choice value="functional" />\n'
        "    </Choice>\n"
        '    <Choice value="0" />\n'
        '    <Choice value="No" />\n'
        '    <Choice value="Sort Out">\n'
        '      <Choice value="blurred" />\n'
        "    </Choice>\n"
        "  </Taxonomy>\n"
        "</View>\n"
    )


def test_an_unknown_language_is_told_with_those_there_are(cells: Taxonomy) -> None:
    with pytest.raises(SparsightError, match=r"'dee'; this taxonomy has names in de, fr.\nDid you mean 'de'"):
        cells.label_config("dee")


def test_the_separator_occurs_in_no_name() -> None:
    """Label Studio takes what was chosen apart at it, so a name that holds it would become two."""
    taxonomy = Taxonomy(nodes={("a / b",): Node(), ("c > d",): Node()})
    assert 'pathSeparator=" | "' in taxonomy.label_config()
    every = " / > | :: // >> || ::: "
    with pytest.raises(SparsightError, match="Rename a node"):
        Taxonomy(nodes={(every.replace(" ", "  "),): Node()}).label_config()


def test_labels_in_use_are_counted_by_how_they_stand(cells: Taxonomy) -> None:
    given = {"cell": 3, "zelle/functional": 2, "cell/dirty": 1, "cell/Defective": 1500, "x": 1}
    review = cells.check({split_path(label): count for label, count in given.items()})
    assert review.sentences() == [
        "'zelle/functional', given 2 times: taken as 'cell/functional'",
        "'cell/dirty', given once: dropped, as it is retired without a successor",
        "'cell/Defective', given 1,500 times: unknown; nearest is 'cell/defective'",
        "'x', given once: unknown",
    ]
    assert review.as_json()["known"] == 3
    with pytest.raises(SparsightError, match=r"doesn't know 2 labels:\n  - 'cell/Defective'.*\n.*\n.* Or else."):
        review.refuse_unknown("Or else.")


NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"),
    min_size=1,
    max_size=5,
).filter(lambda name: name == name.strip())
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(tuple)


@st.composite
def taxonomies(draw: st.DrawFn) -> Taxonomy:
    """Taxonomies without contradictions: languages name each child by its place, retired paths lead to nodes."""
    derived = derive_taxonomy(dict.fromkeys(draw(st.lists(PATHS, min_size=1, max_size=8)), 1))
    nodes = {
        path: Node({"de": f"{place}. {path[-1]}"} if draw(st.booleans()) else {}, draw(st.booleans()))
        for place, path in enumerate(derived.nodes or {})
    }
    targets = st.one_of(st.none(), st.sampled_from(list(nodes)))
    old = [path for path in draw(st.lists(PATHS, max_size=3)) if path not in nodes]
    taxonomy = Taxonomy(nodes=nodes, retired={path: draw(targets) for path in old})
    return taxonomy if not list(contradictions(taxonomy)) else Taxonomy(nodes=derived.nodes)


@given(taxonomies())
def test_a_taxonomy_survives_being_written(tmp_path_factory: pytest.TempPathFactory, taxonomy: Taxonomy) -> None:
    file = tmp_path_factory.mktemp("taxonomy") / "t.yml"
    file.write_text(taxonomy_text(taxonomy), encoding="utf-8")
    again = Taxonomy.read(file)
    assert (again, list(again.nodes or ())) == (taxonomy, list(taxonomy.nodes or ()))


@given(taxonomies(), PATHS)
def test_what_a_label_means_is_a_node_that_means_itself(taxonomy: Taxonomy, label: tuple[str, ...]) -> None:
    for path in (label, *taxonomy.retired, *((*old, *label) for old in taxonomy.retired)):
        node, standing = taxonomy.look_up(path)
        assert (node is None) == (standing in {"dropped", "unknown"})
        assert node is None or (node in (taxonomy.nodes or {}) and taxonomy.look_up(node) == (node, "known"))


def offered(parent: ElementTree.Element, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths that Label Studio stores when each Choice is chosen."""
    for choice in parent:
        path = (*above, choice.get("alias", choice.get("value", "")))
        yield path
        yield from offered(choice, path)


@given(taxonomies(), st.booleans())
def test_exactly_the_nodes_are_offered(taxonomy: Taxonomy, translated: bool) -> None:
    language = "de" if translated and taxonomy.languages() else None
    view = ElementTree.fromstring(taxonomy.label_config(language))
    control = view.find("Taxonomy")
    assert control is not None
    assert sorted(offered(control)) == sorted(taxonomy.nodes or {})


def test_a_derived_taxonomy_holds_each_label_and_what_is_above_it() -> None:
    counts = {("b", "x"): 1200, ("a",): 2}
    taxonomy = derive_taxonomy(counts)
    assert taxonomy_text(taxonomy, counts) == "nodes:\n  a:  # 2\n  b:\n  b/x:  # 1,200\n"
