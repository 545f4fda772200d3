"""Toy step: join the words of two folders."""

import argparse
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--first", type=Path)
parser.add_argument("--second", type=Path)
parser.add_argument("--fail", default="no")
parser.add_argument("--out", type=Path)
arguments = parser.parse_args()
if arguments.fail == "yes":
    raise SystemExit("told to fail")
text = "".join((folder / "words.txt").read_text() for folder in (arguments.first, arguments.second) if folder)
arguments.out.mkdir(exist_ok=True)
(arguments.out / "words.txt").write_text(text)
(arguments.out / "summary.txt").write_text(f"{len(text.split())} words\n")
print(f"joined {len(text.split())} words")
