"""Farthest points of what two processes hold are, to the last place, those of one process that holds it all."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from sparsight.selection.farthest_point import farthest_point
from sparsight.selection.points import Points

LABELS = 5


@pytest.mark.parametrize("dimension", [8, 24])
def test_two_processes_choose_what_one_would(horovod, tmp_path: Path, dimension: int):
    points = np.random.default_rng(0).standard_normal((3000, dimension), dtype=np.float32)
    points[100:200] = points[2000:2100]  # ties over the border between the processes
    np.save(tmp_path / "points.npy", points)
    program = Path(__file__).with_name("choosing.py")
    output = horovod.run(program, tmp_path / "points.npy", 150, LABELS, static=True)
    told = sorted((json.loads(line) for line in re.findall(r"told (\{.*\})", output)), key=lambda each: each["rank"])
    labelled, rest = points[:LABELS].astype(np.float64), points[LABELS:]
    for name, known in (("warm", labelled), ("cold", None)):
        alone = farthest_point(Points(rest), 150, labelled=known, start=len(rest) // 2)
        for each in told:
            assert each[name]["order"] == alone.order.tolist()
            assert each[name]["distances"] == alone.distances.tolist()
        for key in ("nearest", "nearest_distances"):
            assert told[0][name][key] + told[1][name][key] == getattr(alone, key).tolist()
