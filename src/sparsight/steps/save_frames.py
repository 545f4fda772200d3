"""The step save_frames: decodes chosen frames of videos once more, at full size, and saves them as pictures."""

from dataclasses import dataclass
from pathlib import Path

from sparsight.steps.arguments import run_step


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inputs and outputs of the component save_frames."""

    selection: Path
    frames: Path
    videos: Path | None = None
    blob_prefix: str = ""
    format: str = "jpeg"
    quality: int = 95
    max_failures: float = 0.01


def main(arguments: Arguments) -> None:
    """Save the frames of the selection."""
    from sparsight.data.selected import load_selected_frames
    from sparsight.data.video.saving import save_frames
    from sparsight.data.video.sources import find_videos

    save_frames(
        find_videos(None if arguments.blob_prefix else arguments.videos, prefix=arguments.blob_prefix),
        load_selected_frames(arguments.selection),
        arguments.frames,
        kind=arguments.format,
        quality=arguments.quality,
        max_failures=arguments.max_failures,
    )
    print(f"The frames and frames.csv are in {arguments.frames}", flush=True)


if __name__ == "__main__":
    run_step(Arguments, main)
