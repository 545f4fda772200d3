import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsight.local.command import pasting_problem, placeholders, render


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("run --word '${{inputs.word}}' --n ${{inputs.n}}", "run --word 'it is' --n 3"),
        ("run --yes ${{inputs.yes}} --no ${{inputs.no}}", "run --yes True --no False"),
        ("run --rate ${{inputs.rate}} --tiny ${{ inputs.tiny }}", "run --rate 0.06 --tiny 1e-07"),
        ("run $[[--none ${{inputs.none}}]] --out ${{outputs.out}}", "run  --out /o"),
        ("run $[[--n ${{inputs.n}}]] $[[--both ${{inputs.n}} ${{inputs.none}}]]", "run --n 3 "),
        ("run ${{inputs.data}}/x.csv", "run /d/x.csv"),
        ("run ${{inputs.sly}}", "run ${{inputs.n}}"),
    ],
)
def test_a_command_is_filled_as_azure_ml_fills_it(template, expected):
    inputs = {
        "word": "it is",
        "n": 3,
        "yes": True,
        "no": False,
        "rate": 6e-2,
        "tiny": 1e-7,
        "none": None,
        "data": Path("/d"),
        "sly": "${{inputs.n}}",
    }
    assert render(template, inputs, {"out": Path("/o")}) == expected


def test_placeholders_know_their_quote_and_whether_they_may_drop_out():
    template = (
        """a '${{inputs.single}}' "${{inputs.double}}" ${{inputs.bare}} """
        """$[[--x '${{inputs.optional}}']] ${{outputs.o}}"""
    )
    assert list(placeholders(template)) == [
        ("inputs", "single", "'", False),
        ("inputs", "double", '"', False),
        ("inputs", "bare", "", False),
        ("inputs", "optional", "'", True),
        ("outputs", "o", "", False),
    ]


@given(st.text(max_size=40), st.sampled_from(["'", '"', ""]))
def test_what_may_be_pasted_reaches_the_program_as_it_is(text, quote):
    if pasting_problem(text, quote) is None and not (quote == "" and not text):
        assert shlex.split(f"{quote}{text}{quote}") == [text]
