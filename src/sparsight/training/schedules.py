"""Learning-rate schedules as plain functions of the step."""

import math


def cosine_with_warmup(step: int, steps: int, warmup_steps: int) -> float:
    """Factor of the peak learning rate at a step: a straight rise, then half a cosine down to 0.

    Args:
        step: 0 to `steps` - 1.
        steps: of the whole training.
        warmup_steps: steps of the rise; the first one has 1 / `warmup_steps` of the peak, never 0.

    Returns:
        0 to 1. The descent is SGDR's without restarts (Loshchilov and Hutter 2017, arXiv 1608.03983).
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))
