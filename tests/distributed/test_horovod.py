"""Two processes that Horovod connects through Gloo compute what one would."""

import json
import re
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def told(horovod):
    """What each process saw, by rank."""
    output = horovod.run(Path(__file__).with_name("two_processes.py"), static=True)
    return sorted((json.loads(line) for line in re.findall(r"told (\{.*\})", output)), key=lambda each: each["rank"])


def test_there_are_two_processes(told):
    assert [(each["rank"], each["size"]) for each in told] == [(0, 2), (1, 2)]


def test_both_get_the_sum_and_what_each_other_has(told):
    for each in told:
        assert each["sum"] == [3.0, 20.0]
        assert each["gathered"] == [[0, 0], [1, 1]]


def test_training_in_two_processes_is_training_on_all_the_data(told):
    first, second = told
    assert first["trained"] == second["trained"]
    assert first["trained"] == pytest.approx(first["alone"], abs=1e-5)


def test_a_loss_over_the_statistics_of_all_has_the_gradient_that_one_process_would_find(told):
    mean = [sum(values) / 2 for values in zip(*(each["correlated"] for each in told), strict=True)]
    assert mean == pytest.approx(told[0]["correlated_alone"], abs=1e-4)
    assert max(map(abs, mean)) > 0.01
