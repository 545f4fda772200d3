"""Wanted frames of a video out of the decoder, which passes over the others where nothing is decoded from them."""

from collections.abc import Iterator, Set
from dataclasses import dataclass, field

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

    Attributes:
        errors: packets that couldn't be decoded, and frames that came out damaged, so far.
    """

    container: InputContainer
    stream: VideoStream
    threads: int
    errors: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        context = self.stream.codec_context
        context.thread_type, context.thread_count = ThreadType.AUTO, self.threads

    def frames(self, wanted: Set[int]) -> Iterator[VideoFrame]:
        """Give the frames with these time stamps, in the order in which they are shown.

        A packet that can't be decoded is counted; where the file breaks off, the frames end.
        """
        context = self.stream.codec_context
        can_skip = context.name in _CAN_SKIP
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except FFmpegError:
                self.errors += 1
                return
            if can_skip:
                context.skip_frame = "DEFAULT" if packet.pts is None or packet.pts in wanted else "NONREF"
            try:
                decoded = packet.decode()
            except FFmpegError:
                self.errors += 1
                continue
            for frame in decoded:
                if frame.pts in wanted and not frame.is_corrupt:
                    yield frame
                elif frame.is_corrupt:
                    self.errors += 1
