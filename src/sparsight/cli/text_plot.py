"""A plot for a terminal, of text."""

from collections.abc import Sequence

WIDTH, HEIGHT = 60, 8


def draw(values: Sequence[float], width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """Draw values from left to right as lines of text: the highest on the first line, the lowest on the last.

    Args:
        values: at least one; of more than there are columns, each column shows the one at its place.
        width: columns, at most.
        height: lines.
    """
    columns = min(width, len(values))
    picked = [values[round(place * (len(values) - 1) / max(1, columns - 1))] for place in range(columns)]
    low, high = min(picked), max(picked)
    scale = (height - 1) / (high - low) if high > low else 0.0
    rows = [round((high - value) * scale) for value in picked]
    labels = {0: f"{high:.4g}", height - 1: f"{low:.4g}"}
    return [
        f"{labels.get(line, ''):>9} |{''.join('*' if row == line else ' ' for row in rows)}".rstrip()
        for line in range(height)
    ]
