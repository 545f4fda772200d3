"""An autoencoder trained in two processes is one autoencoder, and its leader alone tells of it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.packed_images import write_packed_images

PROGRAM = Path(__file__).with_name("encoding.py")
COUNT = 120


@pytest.mark.parametrize(("design", "cell"), [("residual", 8), ("conv_blocks", 4)])
def test_both_end_with_the_same_weights_and_have_learned(horovod, tmp_path, design, cell):
    pixels = (load_digits().images[:COUNT] * 15.9).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    images = np.repeat(pixels[..., None], 3, axis=3)
    packed = write_packed_images(tmp_path / "images", images, [""] * COUNT, ["train"] * COUNT)
    output = horovod.run(PROGRAM, 2, packed, tmp_path / "model", design, cell, processes=2)
    told = [json.loads(line) for line in re.findall(r"told (\{.*\})", output)]
    first, second = sorted(told, key=lambda each: each["rank"])
    assert first["weights"] == second["weights"]
    assert first["epochs"] == second["epochs"] == first["reported"]
    assert second["reported"] == []
    assert first["epochs"][-1][0] < first["epochs"][0][0]
