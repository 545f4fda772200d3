import io

import pytest

from sparsight.progress import Progress, duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (59.6, "1 min 00 s")]
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_lines_say_how_far_and_what_is_left() -> None:
    stream = io.StringIO()
    progress = Progress("pack", 4, "images", every=0, stream=stream)
    progress.advance(1, note="1 failed")
    progress.advance(3)
    progress.finish()
    first, _, last = stream.getvalue().splitlines()
    assert first.startswith("pack 1/4 images · ")
    assert first.endswith(" left · 1 failed")
    assert "took" in last


def test_lines_are_not_written_more_often_than_asked() -> None:
    stream = io.StringIO()
    progress = Progress("pack", 1000, "images", every=3600, stream=stream)
    for _ in range(1000):
        progress.advance()
    assert stream.getvalue() == ""
