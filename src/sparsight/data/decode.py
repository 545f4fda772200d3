"""Untrusted image bytes to small RGB arrays: every pixel format in, uint8 out, with limits checked before decoding."""

import contextlib
import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from sparsight.errors import SparsightError

RESIZES = ("fit", "crop", "squash")
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")
MAX_PIXELS = 89_478_485
"""Pillow's own limit, a quarter of a gibibyte of RGB: about 9,400 x 9,400 pixels."""

_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class DecodeError(SparsightError):
    """Bytes that give no image.

    Attributes:
        reason: why, in a few words that are the same for every file with the same trouble.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"The image can't be used: {reason}.")
        self.reason = reason


def decode_image(content: bytes, size: int, resize: str = "fit", *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG, WebP or TIFF file and scale it, antialiased, to a square.

    Turned upright by its EXIF orientation; 16-bit greyscale is scaled by its full range, not clipped; CMYK goes through
    its embedded profile where there is one; what is transparent becomes white; of several frames the first is taken.

    Args:
        content: the whole file.
        size: edge of the result in pixels.
        resize: `fit` scales the whole image into the square and fills the rest with black; `crop` scales the shorter
            edge to the square and cuts the longer one at both ends alike; `squash` ignores the aspect ratio.
        max_pixels: refuse an image whose header announces more, before any pixel is decoded.

    Returns:
        RGB, uint8, size x size x 3.

    Raises:
        DecodeError: the file is empty, truncated, damaged, too large or of another format.
        SparsightError: `resize` is none of the three.
    """
    if resize not in RESIZES:
        raise SparsightError(f"resize is {resize!r}; expected one of {', '.join(RESIZES)}.")
    with _opened(content, max_pixels) as image:
        return _decode(image, size, resize)


def decode_whole(content: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG, WebP or TIFF file in its own size, as `decode_image` does otherwise.

    Args:
        content: the whole file.
        max_pixels: refuse an image whose header announces more, before any pixel is decoded.

    Returns:
        RGB, uint8, H x W x 3.

    Raises:
        DecodeError: the file is empty, truncated, damaged, too large or of another format.
    """
    with _opened(content, max_pixels) as image:
        image.load()
        turn, plain = _turn(image), _plain(image)
        return np.array((plain if turn is None else plain.transpose(turn)).convert("RGB"))


@contextlib.contextmanager
def _opened(content: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """Open a file for the length of a block, whose errors are told as what is wrong with the file."""
    if not content:
        raise DecodeError("empty")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise DecodeError("too large (pixels)")
            yield image
    except (DecodeError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DecodeError("too large (pixels)") from error
    except Exception as error:  # decoders of untrusted bytes raise nearly everything
        raise DecodeError(_damage(content, error)) from error


def _decode(image: Image.Image, size: int, resize: str) -> NDArray[np.uint8]:
    width, height = _scaled(image.width, image.height, size, resize)
    # The JPEG decoder can leave out detail by itself; twice the edge asked for keeps what antialiasing needs.
    image.draft(None, (2 * width, 2 * height))
    image.load()
    turn = _turn(image)
    small = _shrunk(_plain(image), width, height)
    upright = small if turn is None else small.transpose(turn)
    return np.array(_square(upright, size).convert("RGB"))


def _scaled(width: int, height: int, size: int, resize: str) -> tuple[int, int]:
    """Width and height of the whole image once scaled, before padding or cropping."""
    if resize == "squash":
        return size, size
    edge = max(width, height) if resize == "fit" else min(width, height)
    return max(1, round(width * size / edge)), max(1, round(height * size / edge))


def _shrunk(image: Image.Image, width: int, height: int) -> Image.Image:
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)


def _square(image: Image.Image, size: int) -> Image.Image:
    """Cut at both ends, or pad with black, to size x size."""
    if image.size == (size, size):
        return image
    left, top = int((image.width - size) / 2), int((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # an EXIF block that can't be read turns nothing
        return None


def _plain(image: Image.Image) -> Image.Image:
    """Bring an image to 8 bits a channel without transparency: mode L or RGB."""
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode in {"I", "F", "LAB", "HSV"}:
        raise DecodeError(f"unsupported pixels ({image.mode})")
    if image.mode == "CMYK":
        return _from_cmyk(image)
    if image.has_transparency_data:
        return _on_white(image)
    if image.mode == "L":
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    opaque = Image.new("RGB", image.size, "white")
    layers = image.convert("RGBA")
    opaque.paste(layers, mask=layers.getchannel("A"))
    return opaque


def _from_cmyk(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            converted = None
        if converted is not None:
            return converted
    return image.convert("RGB")


def _damage(content: bytes, error: Exception) -> str:
    """Tell a file cut short from one that is damaged otherwise, and both from what never was an image."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "truncated" if int.from_bytes(content[4:8], "little") + 8 > len(content) else "damaged"
    if not content.startswith((b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*")):
        return "not a JPEG, PNG, WebP or TIFF image"
    if isinstance(error, EOFError) or "truncated" in str(error).lower():
        return "truncated"
    if isinstance(error, UnidentifiedImageError) and len(content) < 64:
        return "truncated"
    return "damaged"
