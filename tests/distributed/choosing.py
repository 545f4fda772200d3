"""What test_choosing.py runs in two processes: each chooses from its part, and prints the answers as a line of JSON.

Usage: choosing.py FILE BUDGET LABELLED; the file holds all points, of which the first LABELLED ones are labelled. They
are chosen from with these labels, and once more as if there were none.
"""

import json
import sys

import numpy as np

from sparsight.selection.farthest_point import farthest_point
from sparsight.selection.points import Points
from sparsight.training.distributed import start_processes

points = np.load(sys.argv[1])
budget, labels = int(sys.argv[2]), int(sys.argv[3])
labelled, points = points[:labels].astype(np.float64), points[labels:]
world = start_processes(2, 1)
border = len(points) // 3  # parts of different sizes
part = Points(points[:border] if world.rank == 0 else points[border:])
told = {"rank": world.rank}
for name, known in (("warm", labelled), ("cold", None)):
    found = farthest_point(part, budget, labelled=known, start=len(points) // 2, world=world)
    told[name] = {key: value.tolist() for key, value in vars(found).items()}
print("told " + json.dumps(told), file=sys.stderr, flush=True)
