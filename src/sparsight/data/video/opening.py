"""Untrusted video files, opened: plain containers only, nothing that leads to other files, limits before decoding."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from sparsight.errors import SparsightError

CONTAINERS = ("mov", "mp4", "matroska", "webm", "avi", "mpegts", "mpeg", "ogg", "asf", "flv", "mxf", "nut")
"""FFmpeg's names. Playlists and the like aren't among them: they make FFmpeg open what they name."""


class VideoError(SparsightError):
    """A file that gives no frames.

    Attributes:
        reason: why, in a few words that are the same for every file with the same trouble.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"The video can't be used: {reason}.")
        self.reason = reason


@contextmanager
def open_video(path: Path, max_pixels: int) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its video stream; cover pictures of music are none.

    Args:
        path: of a file on this machine.
        max_pixels: refuse a stream that announces larger frames, and have the decoder refuse them.

    Raises:
        VideoError: it is empty, no video, damaged, or too large.
    """
    if path.stat().st_size == 0:
        raise VideoError("empty")
    try:
        container = av.open(
            str(path.absolute()),
            options={"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file", "fflags": "+genpts"},
            metadata_errors="replace",
        )
    except (FFmpegError, ValueError) as error:
        raise VideoError(_damage(path)) from error
    with container:
        yield container, _video_stream(container, max_pixels)


def _video_stream(container: InputContainer, max_pixels: int) -> VideoStream:
    streams = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    if not streams:
        raise VideoError("no video stream")
    stream = streams[0]
    if stream.codec_context is None:
        raise VideoError("unknown codec")
    if stream.codec_context.width * stream.codec_context.height > max_pixels:
        raise VideoError("too large (pixels)")
    # Should frames grow in the midst of the file. Twice as many, for the decoder counts them filled up to whole blocks.
    stream.codec_context.options = {"max_pixels": str(2 * max_pixels)}
    return stream


def _damage(path: Path) -> str:
    """Tell a damaged video from what never was one."""
    with path.open("rb") as file:
        start = file.read(12)
    known = start[4:8] in {b"ftyp", b"moov", b"mdat"} or start[:4] in {b"\x1aE\xdf\xa3", b"RIFF", b"OggS"}
    return "truncated or damaged" if known else "not a video of a known kind"
