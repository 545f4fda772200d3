"""Looks for insecure settings in the Bicep files beside it with checkov, and fails on any that nobody has explained.

Parameters have their defaults, so what is judged is what is deployed where nothing else is said. A finding that is
meant to be so is skipped by a comment in its resource: `// checkov:skip=ID:reason`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CHECKOV = HERE.parent / ".tools" / "bin" / "checkov"
NO_REASON = frozenset({"", "No comment provided"})
"""What checkov puts in place of a reason that isn't there."""
Report = Mapping[str, Any]


def scan(folder: Path) -> Report:
    """Run checkov over a folder; without the network, so that the verdict depends on the files and its version alone.

    Raises:
        SystemExit: checkov isn't installed, or ended without a report.
    """
    if not CHECKOV.is_file():
        sys.exit("checkov isn't installed. Install it with: make .tools/.installed")
    command = [str(CHECKOV), "--directory", str(folder), "--framework", "bicep", "--output", "json", "--skip-download"]
    # checkov reads the files in the order of a set, and takes names that two files share for one: without a fixed order
    # of sets one run may find what the next doesn't.
    surroundings = {**os.environ, "LOG_LEVEL": "ERROR", "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=surroundings)
    try:
        report: Report = json.loads(done.stdout)
    except ValueError:
        sys.exit(f"checkov gave no report:\n{done.stdout}{done.stderr}")
    if "results" not in report:
        sys.exit(f"checkov found nothing to judge in {folder}.")
    return report


def problems(report: Report) -> Iterator[str]:
    """Tell everything that isn't as it should be: files unread, findings, and skips without a reason."""
    results = report["results"]
    for file in results["parsing_errors"]:
        yield f"{file}: checkov can't read it, so nothing in it was judged"
    for check in results["failed_checks"]:
        yield f"{_place(check)}: {check['check_id']} {check['check_name']} ({check['resource']})"
    for check in results["skipped_checks"]:
        if check["check_result"].get("suppress_comment", "").strip() in NO_REASON:
            yield f"{_place(check)}: {check['check_id']} is skipped without a reason"


def _place(check: Mapping[str, Any]) -> str:
    return f"{check['file_path'].lstrip('/')}:{check['file_line_range'][0]}"


def main(folder: Path = HERE) -> int:
    """Print what is wrong; gives the exit status."""
    report = scan(folder)
    found = list(problems(report))
    for problem in found:
        print(problem)
    summary = report["summary"]
    print(f"checkov: {summary['passed']} passed, {len(found)} to mend, {summary['skipped']} skipped")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE))
