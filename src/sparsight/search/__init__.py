"""Finds photos that look alike: embeddings as short binary codes, in an index that photos come to and go from.

from sparsight.search import Index, find_code
index = Index(folder)
index.search(index.code.encode(embeddings)[0], count=10)
"""

from sparsight.search.code import BinaryCode
from sparsight.search.codes import CODES, find_code
from sparsight.search.index import Index
from sparsight.search.structures import STRUCTURES
from sparsight.search.writing import IndexOptions, add_photos, build_index, remove_photos

__all__ = [
    "CODES",
    "STRUCTURES",
    "BinaryCode",
    "Index",
    "IndexOptions",
    "add_photos",
    "build_index",
    "find_code",
    "remove_photos",
]
