"""Wanted frames of a video out of the decoder, which passes over the others where nothing is decoded from them."""

from collections.abc import Iterator, Set
from dataclasses import dataclass

from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

_CAN_SKIP = frozenset({"h264", "mpeg4", "mpeg2video", "mpeg1video"})
"""Where a frame that counts as no reference is never decoded from. HEVC's may be, by frames of higher layers."""


@dataclass
class Decoder:
    """Decodes a stream from where its container stands.

    Args:
        container: of an open file.
        stream: its video.
        threads: to decode with.
    """

    container: InputContainer
    stream: VideoStream
    threads: int

    def __post_init__(self) -> None:
        context = self.stream.codec_context
        context.thread_type, context.thread_count = ThreadType.AUTO, self.threads

    def frames(self, wanted: Set[int]) -> Iterator[VideoFrame]:
        """Give the frames with these time stamps, in the order in which they are shown.

        What can't be decoded, or only in part, is left out; where the file breaks off, the frames end.
        """
        context = self.stream.codec_context
        can_skip = context.name in _CAN_SKIP
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, FFmpegError):
                return
            if can_skip:
                context.skip_frame = "DEFAULT" if packet.pts is None or packet.pts in wanted else "NONREF"
            try:
                decoded = packet.decode()
            except FFmpegError:
                continue
            yield from (frame for frame in decoded if frame.pts in wanted and not frame.is_corrupt)
