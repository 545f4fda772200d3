"""Toy step: write a word some times to a folder."""

import argparse
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--word")
parser.add_argument("--count", type=int)
parser.add_argument("--loud")
parser.add_argument("--note")
parser.add_argument("--seconds", type=float, default=0)
parser.add_argument("--out", type=Path)
arguments = parser.parse_args()
print(f"writing {arguments.word} {arguments.count} times, note {arguments.note}", flush=True)
time.sleep(arguments.seconds)
word = arguments.word.upper() if arguments.loud == "True" else arguments.word
partial = arguments.out.with_name(arguments.out.name + ".partial")
partial.mkdir(exist_ok=True)
(partial / "words.txt").write_text(f"{word}\n" * arguments.count)
partial.replace(arguments.out)
