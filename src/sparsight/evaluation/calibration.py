"""How far scores are from how often they are right."""

import numpy as np
from numpy.typing import NDArray

CALIBRATION_BINS = 15


def calibration_error(scores: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """Expected calibration error of top-label scores (Guo et al. 2017, arXiv 1706.04599): 15 bins of equal width.

    Args:
        scores: float, N, 0 to 1.
        right: bool, N.

    Returns:
        The error; 0 of no scores.
    """
    bins = np.clip((scores * CALIBRATION_BINS).astype(int), 0, CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=scores, minlength=CALIBRATION_BINS) - np.bincount(
        bins, weights=right, minlength=CALIBRATION_BINS
    )
    return float(np.abs(gaps).sum() / max(len(scores), 1))
