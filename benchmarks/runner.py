"""How fast the command line answers: `list`, and a run of recognise in which everything is reused.

Needs one finished run of recognise in runs/, as `make run` leaves it. The peer of `list` is the import of the Azure ML
SDK alone, which every command of that SDK starts with.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from sparsight.local.records import all_runs

ROOT = Path(__file__).resolve().parents[1]
EXECUTE = [sys.executable, str(ROOT / "execute.py")]


def seconds(command: list[str]) -> float:
    """Time one whole process."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - began


def cached_run() -> list[str]:
    """Find the command line that repeats the newest finished run of recognise."""
    for run in all_runs(ROOT / "runs"):
        record = run.read()
        if record.pipeline == "recognise" and record.status == "done":
            pairs = [f"{name}={value}" for name, value in record.settings.items()]
            return [*EXECUTE, "run", "recognise", *(word for pair in pairs for word in ("--set", pair))]
    sys.exit("There is no finished run of recognise to repeat. Make one: make run")


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="`list` only")
    quick = parser.parse_args().quick
    listing = statistics.median(seconds([*EXECUTE, "list"]) for _ in range(7))
    peer = statistics.median(seconds([sys.executable, "-c", "import azure.ai.ml"]) for _ in range(3))
    print(f"execute.py list            {listing:6.2f} s   median of 7")
    print(f"import azure.ai.ml alone   {peer:6.2f} s   median of 3")
    result = {"name": "runner", "peer": "import azure.ai.ml", "ratio": peer / listing, "list_seconds": listing}
    if not quick:
        command = cached_run()
        result["cached_run_seconds"] = statistics.median(seconds(command) for _ in range(3))
        print(f"run recognise, all reused  {result['cached_run_seconds']:6.2f} s   median of 3")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
