"""What processes that fetch images together know of each other's part."""

import pytest

from sparsight.data import tally
from sparsight.data.share import Message, Share
from sparsight.data.tally import Tally


def test_progress_counts_the_images_of_all_and_lasts_until_nobody_has_any_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    others = iter([(6, 0), (5, 0), (2, 1), (0, 2)])
    told: list[Message] = []

    def exchange(message: Message) -> list[Message]:
        told.append(message)
        left, failures = next(others)
        return [{"left": left, "failures": failures}, message]

    counted = Tally(Share(rank=1, size=2, exchange=exchange), 12, 2)
    assert counted.left == 8
    counted.count(failed=True)
    counted.meet_when_due()
    assert len(told) == 1, "they met a moment ago"
    monkeypatch.setattr(tally, "_MEET_SECONDS", 0.0)
    counted.meet_when_due()
    assert counted.left == 6
    counted.count(failed=False)
    counted.finish()
    assert told == [
        {"left": 2, "failures": 0}, {"left": 1, "failures": 1}, {"left": 0, "failures": 1}, {"left": 0, "failures": 1},
    ]  # fmt: skip
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("Packing images in 2 processes 12/12 images")
    assert last.endswith("3 failed")
