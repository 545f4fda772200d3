"""Frames of videos: found, decoded as a stream at a few pictures a second and a small size, and saved at full size.

for frame in read_frames(find_videos(Path("cameras")), Sampling(fps=10, width=100)):
    frame.video, frame.time, frame.pixels
"""

from sparsight.data.video.reading import Frame, FrameReader, read_frames
from sparsight.data.video.sampling import Sampling
from sparsight.data.video.saving import save_frames
from sparsight.data.video.sources import Video, find_videos

__all__ = ["Frame", "FrameReader", "Sampling", "Video", "find_videos", "read_frames", "save_frames"]
