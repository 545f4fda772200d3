"""Labelling interfaces: which image, which taxonomy, which labels; and those that don't fit are told."""

import pytest

from sparsight.data.labelling.interface import read_interface
from sparsight.data.taxonomy import Node, Taxonomy
from sparsight.errors import SparsightError

TAXONOMY = Taxonomy(nodes={("cell",): Node({"de": "Zelle"}), ("cell", "A & <B>"): Node(), ("nothing",): Node()})
VIEW = '<View><Image name="image" value="$image"/>{}</View>'
CHOICES = '<Taxonomy name="taxonomy" toName="image"{}><Choice value="cell"/></Taxonomy>'


@pytest.mark.parametrize("language", [None, "de"])
def test_the_interface_of_a_taxonomy_offers_its_nodes_in_any_language(language: str | None) -> None:
    interface = read_interface(TAXONOMY.label_config(language), "cells")
    assert interface.paths == set(TAXONOMY.nodes or {})
    assert (interface.control, interface.image) == ("taxonomy", "image")
    assert not interface.offers(("cell", "whole"))
    assert interface.result(("cell", "A & <B>"), 0.5) == {
        "from_name": "taxonomy",
        "to_name": "image",
        "type": "taxonomy",
        "score": 0.5,
        "value": {"taxonomy": [["cell", "A & <B>"]]},
    }


@pytest.mark.parametrize("dynamic", [' apiUrl="https://labels.example/taxonomy"', ' value="$choices"'])
def test_labels_that_come_with_each_task_are_all_offered(dynamic: str) -> None:
    assert read_interface(VIEW.format(CHOICES.format(dynamic)), "cells").offers(("anything", "goes"))


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("", "can't be read"),
        ("<View>", "can't be read"),
        (VIEW.format(""), "has 0 <Taxonomy> tags; expected one"),
        (VIEW.format(CHOICES.format("") * 2), "has 2 <Taxonomy> tags; expected one"),
        (CHOICES.format(""), "has 0 <Image> tags; expected one"),
        (VIEW.format(CHOICES.format("")).replace("$image", "$url"), r"shows '\$url'; tasks have .* in \$image"),
    ],
)
def test_what_does_not_fit_is_told(config: str, problem: str) -> None:
    with pytest.raises(SparsightError, match=problem) as caught:
        read_interface(config, "cells")
    assert "'cells'" in caught.value.problem
