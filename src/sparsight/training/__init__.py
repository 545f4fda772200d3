"""Training loops, schedules, checkpoints and tracking."""
