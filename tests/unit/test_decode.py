"""Every format and pixel layout decodes to the same small picture; everything else says why it doesn't."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sparsight.data.decode import DecodeError, decode_image
from sparsight.errors import SparsightError

# Decoders warn about broken files, which is what this module feeds them.
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")

RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(RNG.integers(40, 216, (6, 8, 3), np.uint8)).resize((320, 240), Image.Resampling.BICUBIC)
GREY = PHOTO.convert("L")
WIDE = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def transparent(mode: str = "RGBA") -> Image.Image:
    """Opaque on the left, fully transparent (over black) on the right."""
    image = Image.new("RGBA", (320, 240), (0, 0, 0, 0))
    image.paste(PHOTO.crop((0, 0, 160, 240)), (0, 0))
    return image.convert(mode)


def turned(orientation: int) -> bytes:
    """The photo as a camera stores it that was held in one of the eight ways."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    image = PHOTO if orientation == 1 else PHOTO.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, "JPEG", quality=95, exif=exif)


def rgb48_png() -> bytes:
    """A PNG of 16 bits a channel, which Pillow reads but can't write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    pixels = (np.asarray(PHOTO).astype(">u2") * 257).reshape(240, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", 320, 240, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


IN_COLOUR = {
    "jpeg": encoded(PHOTO, "JPEG", quality=95),
    "progressive jpeg": encoded(PHOTO, "JPEG", quality=95, progressive=True),
    "png": encoded(PHOTO, "PNG"),
    "16-bit colour png": rgb48_png(),
    "webp": encoded(PHOTO, "WEBP", quality=95),
    "lossless webp": encoded(PHOTO, "WEBP", lossless=True),
    "tiff": encoded(PHOTO, "TIFF"),
    "lzw tiff": encoded(PHOTO, "TIFF", compression="tiff_lzw"),
    "jpeg in tiff": encoded(PHOTO, "TIFF", compression="jpeg", quality=95),
    "cmyk jpeg": encoded(PHOTO.convert("CMYK"), "JPEG", quality=95),
    "cmyk tiff": encoded(PHOTO.convert("CMYK"), "TIFF"),
    "palette png": encoded(PHOTO.quantize(256), "PNG"),
    "opaque rgba png": encoded(PHOTO.convert("RGBA"), "PNG"),
    "first of two webp frames": encoded(
        PHOTO, "WEBP", lossless=True, save_all=True, append_images=[GREY.convert("RGB")]
    ),
    "first of two tiff pages": encoded(PHOTO, "TIFF", save_all=True, append_images=[GREY]),
    **{f"orientation {number}": turned(number) for number in range(1, 9)},
}
IN_GREY = {
    "grey jpeg": encoded(GREY, "JPEG", quality=95),
    "grey png": encoded(GREY, "PNG"),
    "16-bit grey png": encoded(WIDE, "PNG"),
    "16-bit grey tiff": encoded(WIDE, "TIFF"),
    "grey with alpha png": encoded(GREY.convert("LA"), "PNG"),
}


def expected(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((60, 45), Image.Resampling.BICUBIC)).astype(int)


def difference(content: bytes, image: Image.Image) -> float:
    """Mean difference from Pillow's plain resize, in grey levels, the black edges left out."""
    pixels = decode_image(content, 60)
    assert pixels.shape == (60, 60, 3)
    assert pixels.dtype == np.uint8
    assert not pixels[:7].any()
    assert not pixels[-7:].any()
    return float(np.abs(pixels[7:52].astype(int) - expected(image)).mean())


@pytest.mark.parametrize("name", IN_COLOUR)
def test_every_format_gives_the_same_picture(name: str) -> None:
    assert difference(IN_COLOUR[name], PHOTO) < 5  # a palette of 256 colours costs 4


@pytest.mark.parametrize("name", IN_GREY)
def test_grey_is_scaled_not_clipped_and_has_three_equal_channels(name: str) -> None:
    assert difference(IN_GREY[name], GREY) < 1.5
    pixels = decode_image(IN_GREY[name], 60)
    assert (pixels[..., :1] == pixels).all()


@pytest.mark.parametrize("content", [encoded(transparent(), "PNG"), encoded(transparent(), "WEBP", lossless=True)])
def test_what_is_transparent_becomes_white(content: bytes) -> None:
    assert (decode_image(content, 60, "squash")[:, 35:] == 255).all()


def test_a_transparent_palette_colour_becomes_white() -> None:
    image = Image.new("P", (40, 40), 1)
    image.putpalette([10, 20, 30, 200, 0, 0])
    assert (decode_image(encoded(image, "PNG", transparency=1), 20) == 255).all()


def test_bilevel_images_are_black_and_white() -> None:
    image = Image.new("1", (40, 40), 1)
    assert (decode_image(encoded(image, "TIFF", compression="group4"), 20) == 255).all()


def test_an_embedded_cmyk_profile_that_is_damaged_is_done_without() -> None:
    content = encoded(PHOTO.convert("CMYK"), "TIFF", icc_profile=b"no profile")
    assert difference(content, PHOTO) < 3


def test_a_profile_of_other_colours_is_done_without() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert difference(encoded(PHOTO.convert("CMYK"), "TIFF", icc_profile=profile), PHOTO) < 3


def marked() -> bytes:
    """A wide image with a red left edge, a blue right edge and green between."""
    image = Image.new("RGB", (300, 100), (0, 255, 0))
    image.paste((255, 0, 0), (0, 0, 60, 100))
    image.paste((0, 0, 255), (240, 0, 300, 100))
    return encoded(image, "PNG")


def test_fit_keeps_the_whole_image_between_black_edges() -> None:
    pixels = decode_image(marked(), 30, "fit")
    assert pixels[15, 1].tolist() == [255, 0, 0]
    assert pixels[15, 28].tolist() == [0, 0, 255]
    assert not pixels[:10].any()
    assert not pixels[20:].any()


def test_crop_keeps_the_middle() -> None:
    assert (decode_image(marked(), 30, "crop") == [0, 255, 0]).all()


def test_squash_fills_the_square() -> None:
    pixels = decode_image(marked(), 30, "squash")
    assert pixels[0, 1].tolist() == pixels[29, 1].tolist() == [255, 0, 0]
    assert pixels[0, 28].tolist() == pixels[29, 28].tolist() == [0, 0, 255]


def test_an_unknown_way_to_resize_is_refused() -> None:
    with pytest.raises(SparsightError, match="fit, crop, squash"):
        decode_image(marked(), 30, "stretch")


def test_fine_stripes_average_out_instead_of_making_patterns() -> None:
    stripes = np.zeros((600, 600), np.uint8)
    stripes[:, ::2] = 255
    for content in (encoded(Image.fromarray(stripes), "PNG"), encoded(Image.fromarray(stripes), "JPEG", quality=95)):
        pixels = decode_image(content, 50)
        assert abs(pixels.astype(int) - 128).max() <= 4


def png_header(width: int, height: int) -> bytes:
    """The first bytes of the photo's PNG, announcing another size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def with_payload(content: bytes) -> bytes:
    return content + IN_COLOUR["png"][33:]


def tiff_of_floats() -> bytes:
    return encoded(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF")


def huge_tiff() -> bytes:
    directory = ImageFileDirectory_v2()
    directory[256], directory[257], directory[258], directory[259] = 40_000, 40_000, 8, 1
    directory[262], directory[273], directory[277], directory[278], directory[279] = 1, 8, 1, 40_000, 4
    buffer = io.BytesIO()
    directory.save(buffer)
    return buffer.getvalue()


BROKEN = {
    "zero bytes": (b"", "empty"),
    "text": (b"<html>not found</html>", "not a JPEG, PNG, WebP or TIFF image"),
    "gif": (encoded(GREY, "GIF"), "not a JPEG, PNG, WebP or TIFF image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a JPEG, PNG, WebP or TIFF image"),
    "half a jpeg": (IN_COLOUR["jpeg"][: len(IN_COLOUR["jpeg"]) // 2], "truncated"),
    "jpeg without its last bytes": (IN_COLOUR["jpeg"][:-10], "truncated"),
    "half a png": (IN_COLOUR["png"][: len(IN_COLOUR["png"]) // 2], "truncated"),
    "half a webp": (IN_COLOUR["webp"][: len(IN_COLOUR["webp"]) // 2], "truncated"),
    "half a tiff": (IN_COLOUR["tiff"][: len(IN_COLOUR["tiff"]) // 2], "truncated"),
    "start of a jpeg": (IN_COLOUR["jpeg"][:20], "truncated"),
    "overwritten png": (IN_COLOUR["png"][:41] + bytes(200) + IN_COLOUR["png"][241:], "damaged"),
    "overwritten webp": (IN_COLOUR["webp"][:12] + bytes(100) + IN_COLOUR["webp"][112:], "damaged"),
    "png bomb": (with_payload(png_header(50_000, 50_000)), "too large (pixels)"),
    "png just over": (with_payload(png_header(9_460, 9_460)), "too large (pixels)"),
    "tiff bomb": (huge_tiff(), "too large (pixels)"),
    "floats": (tiff_of_floats(), "unsupported pixels (F)"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_no_usable_image_says_why(name: str) -> None:
    content, reason = BROKEN[name]
    with pytest.raises(DecodeError) as caught:
        decode_image(content, 60)
    assert caught.value.reason == reason


def test_the_limit_on_pixels_counts_those_of_the_file() -> None:
    assert decode_image(IN_COLOUR["jpeg"], 8, max_pixels=320 * 240).shape == (8, 8, 3)
    with pytest.raises(DecodeError, match="too large"):
        decode_image(IN_COLOUR["jpeg"], 8, max_pixels=320 * 240 - 1)


def test_a_limit_can_lie_above_pillows_own_warning() -> None:
    with pytest.raises(DecodeError, match=r"truncated|damaged"), pytest.warns(Image.DecompressionBombWarning):
        decode_image(with_payload(png_header(9_460, 9_460)), 60, max_pixels=10**8)


@settings(deadline=None)
@given(
    name=st.sampled_from(sorted(IN_COLOUR | IN_GREY)),
    seed=st.integers(0, 2**32 - 1),
    cut=st.floats(0, 1),
)
def test_no_damage_escapes_as_another_error(name: str, seed: int, cut: float) -> None:
    content = np.frombuffer((IN_COLOUR | IN_GREY)[name], np.uint8).copy()
    generator = np.random.default_rng(seed)
    content[generator.integers(0, len(content), 8)] = generator.integers(0, 256, 8)
    try:
        pixels = decode_image(content[: int(len(content) * cut)].tobytes(), 16)
    except DecodeError:
        return
    assert pixels.shape == (16, 16, 3)


@settings(deadline=None)
@given(width=st.integers(1, 90), height=st.integers(1, 90), size=st.integers(1, 40))
@pytest.mark.parametrize("resize", ["fit", "crop", "squash"])
def test_any_shape_comes_out_square(resize: str, width: int, height: int, size: int) -> None:
    content = encoded(Image.new("RGB", (width, height), (9, 99, 199)), "PNG")
    pixels = decode_image(content, size, resize)
    assert pixels.shape == (size, size, 3)
    if resize != "fit":
        assert (pixels == [9, 99, 199]).all()


def cmyk_profile() -> bytes:
    """A tiny ICC profile: the more cyan the darker, whatever the other inks (16 corners in the Lab colour space)."""
    corners = bytes(value for corner in range(16) for value in (64 if corner & 8 else 255, 128, 128))
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + corners + ramp * 3
    tags = struct.pack(">I4sII", 1, b"A2B0", 144, len(table))
    header = struct.pack(">I4sI4s4s4s12x4s", 144 + len(table), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp")
    return header.ljust(128, b"\0") + tags + table


def test_an_embedded_cmyk_profile_decides_the_colours() -> None:
    image = Image.new("CMYK", (40, 40), (255, 0, 0, 0))
    assert decode_image(encoded(image, "TIFF"), 8)[0, 0].tolist() == [0, 255, 255]
    red, green, blue = decode_image(encoded(image, "TIFF", icc_profile=cmyk_profile()), 8)[0, 0].tolist()
    assert max(red, green, blue) < 80
    assert max(red, green, blue) - min(red, green, blue) < 12
