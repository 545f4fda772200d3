"""Chooses the photos that are worth labelling, from their embeddings.

from sparsight.selection import select
chosen = select(embeddings, budget=100)
chosen.rows  # of the embeddings, in the order in which to label them
"""

from sparsight.selection.reduction import Reduction
from sparsight.selection.selecting import Selection, select
from sparsight.selection.strategies import RULES, STRATEGIES

__all__ = ["RULES", "STRATEGIES", "Reduction", "Selection", "select"]
