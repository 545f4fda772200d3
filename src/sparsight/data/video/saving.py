"""Chosen frames once more, at full size, as pictures in a folder with a table of them."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from sparsight.data.artefact import is_finished, new_artefact, write_text
from sparsight.data.fetching import cores
from sparsight.data.video.decoding import Decoder
from sparsight.data.video.opening import VideoError, open_video
from sparsight.data.video.picture import Scaler, pixel_aspect_of, shown_size
from sparsight.data.video.sampling import Sampling
from sparsight.data.video.schedule import Packets, read_packets
from sparsight.data.video.sources import Video
from sparsight.errors import SparsightError
from sparsight.progress import Progress, duration

FRAMES = "frames.csv"
SUFFIX_OF = {"jpeg": "jpg", "png": "png"}
_NEAR = 0.001
"""Seconds within which a time names a frame."""


def save_frames(
    videos: Sequence[Video],
    chosen: pd.DataFrame,
    target: Path,
    *,
    kind: str = "jpeg",
    quality: int = 95,
    max_failures: float = 0.01,
) -> None:
    """Write chosen frames as pictures of the videos' full size, and frames.csv, into a frames artefact.

    Only the parts of the videos that the frames need are decoded, without any short cut.

    Args:
        videos: where they are from.
        chosen: columns rank, id, video, time.
        target: the artefact's folder; left as it is where it is finished and made of the very same.
        kind: `jpeg` or `png`.
        quality: of a JPEG, 1 to 100.
        max_failures: share of the frames that may fail.

    Raises:
        SparsightError: a video isn't there, or too many frames can't be decoded.
    """
    if kind not in SUFFIX_OF:
        raise SparsightError(f"The format is {kind!r}; expected one of {', '.join(SUFFIX_OF)}.")
    by_name = {video.name: video for video in videos}
    missing = sorted(set(chosen["video"]) - set(by_name))
    if missing:
        raise SparsightError(
            f"{len(missing)} videos of the chosen frames aren't there; the first is {missing[0]}.",
            hint="Give the videos that the frames were chosen from.",
        )
    table = chosen[["rank", "id", "video", "time"]].sort_values("rank").reset_index(drop=True)
    digests = {name: by_name[name].digest() for name in sorted(set(table["video"]))}
    parameters = {"format": kind, "quality": quality, "videos": digests, "frames": table["id"].tolist()}
    if is_finished(target, "frames", parameters):
        return
    names = zip(table["rank"], table["video"], table["time"], strict=True)
    table["file"] = [file_name(*each, SUFFIX_OF[kind]) for each in names]
    with new_artefact(target, "frames", parameters) as draft:
        sizes, failures = _save(by_name, table, draft.folder, quality)
        _check(failures, len(table), max_failures)
        found = table.join(sizes, how="inner")
        found.to_csv(draft.folder / FRAMES, index=False, lineterminator="\n", encoding="utf-8", float_format="%.6f")
        write_text(draft.folder / "failures.csv", failures.to_csv(index=False, lineterminator="\n"))
        draft.counts.update(frames=len(found), failures=len(failures))


def file_name(rank: int, video: str, time: float, suffix: str) -> str:
    """Name a picture by rank, video and time: `00012_cameras-gate_00h01m23.400s.jpg`."""
    stem = re.sub(r"[^\w.-]+", "-", str(PurePosixPath(video).with_suffix("")))[:100]
    minutes, seconds = divmod(round(time, 3), 60)
    return f"{rank:05d}_{stem}_{int(minutes) // 60:02d}h{int(minutes) % 60:02d}m{seconds:06.3f}s.{suffix}"


def _save(
    videos: dict[str, Video], table: pd.DataFrame, folder: Path, quality: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write all pictures; returns width and height by row, and those that failed: id, reason."""
    progress = Progress("Saving", len(table), "frames")
    sizes: dict[int, tuple[int, int]] = {}
    reasons: dict[str, str] = {}
    for name, rows in table.groupby("video", sort=True):
        try:
            with videos[str(name)].opened() as path:
                for place, pixels in full_frames(path, rows["time"].to_numpy()):
                    row = rows.iloc[place]
                    Image.fromarray(pixels).save(folder / row["file"], quality=quality)
                    sizes[int(rows.index[place])] = pixels.shape[1], pixels.shape[0]
                    progress.advance()
        except VideoError as error:
            reasons[str(name)] = error.reason
    progress.finish()
    failed = table[~table.index.isin(list(sizes))]
    failures = pd.DataFrame(
        {"id": failed["id"], "reason": [reasons.get(each, "can't be decoded") for each in failed["video"]]}
    )
    return pd.DataFrame.from_dict(sizes, orient="index", columns=["width", "height"]), failures


def full_frames(path: Path, times: NDArray[np.float64]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decode the frames of a video at some times, each from the last key frame before it.

    Args:
        path: of the video.
        times: seconds from its first frame.

    Yields:
        The place in `times`, and uint8 H x W x 3; in the order of the video. Nothing of what can't be decoded.

    Raises:
        VideoError: the video can't be read, or has no frame at one of the times.
    """
    limits = Sampling()
    packets = read_packets(path, limits)
    stamps = stamps_at(packets, times)
    places: dict[int, list[int]] = {}
    for place, stamp in enumerate(stamps.tolist()):
        places.setdefault(stamp, []).append(place)
    scale = Scaler()
    for start, group in _by_key_frame(packets, sorted(places)):
        left = set(group)
        # Not every file leads to the very key frame; then from the beginning.
        for key in dict.fromkeys((start, int(packets.pts[0]))):
            if not left:
                break
            # Opened anew: a decoder that is taken to another place may hold on to frames of the old one.
            with open_video(path, limits.max_pixels) as (container, stream):
                if key != packets.pts[0]:
                    container.seek(key, stream=stream, backward=True)
                for frame in Decoder(container, stream, cores()).frames(left):
                    pixels = scale(frame, *shown_size(frame, pixel_aspect_of(stream)))
                    stamp = int(frame.pts or 0)
                    yield from ((place, pixels) for place in places[stamp])
                    left.discard(stamp)
                    if not left:
                        break


def stamps_at(packets: Packets, times: NDArray[np.float64]) -> NDArray[np.int64]:
    """Find the time stamps of the frames at some times.

    Raises:
        VideoError: there is no frame within a millisecond of one.
    """
    there = packets.times
    after = np.clip(np.searchsorted(there, times), 1, max(1, len(there) - 1))
    after = np.minimum(after, len(there) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(np.abs(there[before] - times) <= np.abs(there[after] - times), before, after)
    off = np.abs(there[nearest] - times) > _NEAR
    if off.any():
        raise VideoError(f"no frame at {duration(float(times[off][0]))}: it isn't the video that was chosen from")
    found: NDArray[np.int64] = packets.pts[nearest]
    return found


def _by_key_frame(packets: Packets, stamps: list[int]) -> Iterator[tuple[int, list[int]]]:
    """Put time stamps that are decoded from the same key frame together, under its time stamp."""
    keys = packets.pts[packets.is_key]
    keys = keys if len(keys) else packets.pts[:1]
    start = keys[np.maximum(np.searchsorted(keys, stamps, "right") - 1, 0)]
    for key in np.unique(start).tolist():
        yield key, [stamp for stamp, own in zip(stamps, start.tolist(), strict=True) if own == key]


def _check(failures: pd.DataFrame, total: int, max_failures: float) -> None:
    if len(failures) < total and len(failures) <= max_failures * total + 1e-9:
        return
    first = failures.iloc[0]
    raise SparsightError(
        f"{len(failures)} of {total} frames failed, the first being {first['id']}: {first['reason']}; max_failures "
        f"{max_failures:g} allows {max_failures * total:g}.",
        hint="Give the very videos that the frames were chosen from, or raise max_failures to do without these.",
    )
