"""The step build_index: turns embeddings into binary codes, and makes an index of them to search for similar photos."""

from dataclasses import dataclass
from pathlib import Path

from sparsight.steps.arguments import run_step


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inputs and outputs of the component build_index."""

    embeddings: Path
    dataset: Path
    code: str = "learned"
    bits: int = 64
    structure: str = "auto"
    seed: int = 0
    index: Path


def main(arguments: Arguments) -> None:
    """Find the code, and write the index."""
    from sparsight.data.embeddings import Embeddings
    from sparsight.search import IndexOptions, build_index

    options = IndexOptions(code=arguments.code, bits=arguments.bits, structure=arguments.structure, seed=arguments.seed)
    build_index(Embeddings(arguments.embeddings), arguments.dataset, arguments.index, options)


if __name__ == "__main__":
    run_step(Arguments, main)
