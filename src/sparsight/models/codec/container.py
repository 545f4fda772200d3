"""The compressed file: a header of 20 bytes, the packed bits, and a checksum over all of it.

| bytes | what |
|---|---|
| 4 | `SPSZ` |
| 1 | version, 1 |
| 1 | flags: 1 for a grey image, whose three colours are equal; others are 0 |
| 8 | model: the first bytes of the SHA-256 of its weights.safetensors |
| 2, 2 | width and height in pixels, less 1 |
| 2 | channels of the code that are kept |
| any | range-coded bits, 32-bit words |
| 4 | CRC-32 of all bytes before |

Numbers are little-endian. Any change of a single byte, or of any run of up to 32 bits, is detected.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Self

from sparsight.errors import SparsightError

MAGIC, VERSION = b"SPSZ", 1
SUFFIX = ".spsz"
LONGEST_SIDE = 2**16
"""Pixels."""
_HEADER = struct.Struct("<4sBB8sHHH")
_CHECKSUM = struct.Struct("<I")
OVERHEAD = _HEADER.size + _CHECKSUM.size
"""Bytes that aren't packed bits."""
_WORD = 4
_GREY = 1


class CompressedError(SparsightError):
    """Bytes that are no compressed image that can be opened."""


@dataclass(frozen=True, kw_only=True)
class CompressedImage:
    """What a compressed file holds.

    Attributes:
        width: in pixels; so is `height`.
        grey: whether its three colours are equal.
        channels: of the code that are kept.
        model: 8 bytes that name the model.
        packed: range-coded bits.
    """

    width: int
    height: int
    grey: bool
    channels: int
    model: bytes
    packed: bytes

    def to_bytes(self) -> bytes:
        """Write the file."""
        flags = _GREY if self.grey else 0
        header = _HEADER.pack(MAGIC, VERSION, flags, self.model, self.width - 1, self.height - 1, self.channels)
        content = header + self.packed
        return content + _CHECKSUM.pack(zlib.crc32(content))

    @classmethod
    def of_bytes(cls, content: bytes, *, max_pixels: int) -> Self:
        """Read a file; what it declares is checked before anything is made of it.

        Raises:
            CompressedError: it isn't one of ours, of another version, damaged, or declares too many pixels.
        """
        if content[: len(MAGIC)] != MAGIC:
            raise CompressedError(f"It is no compressed image of Sparsight: it doesn't begin with {MAGIC.decode()}.")
        if len(content) < OVERHEAD:
            raise CompressedError(f"The file is cut short: {len(content)} bytes; its header alone has {OVERHEAD}.")
        if content[len(MAGIC)] != VERSION:
            raise CompressedError(
                f"The file is of version {content[len(MAGIC)]}; this code reads version {VERSION}.",
                hint="Decompress it with the version of Sparsight that made it, or a newer one.",
            )
        body, (checksum,) = content[: -_CHECKSUM.size], _CHECKSUM.unpack(content[-_CHECKSUM.size :])
        if zlib.crc32(body) != checksum:
            raise CompressedError(
                "The file was cut short or changed: its checksum is another one.", hint="Copy or make it anew."
            )
        _, _, flags, model, width, height, channels = _HEADER.unpack(body[: _HEADER.size])
        width, height, packed = width + 1, height + 1, body[_HEADER.size :]
        if flags not in (0, _GREY) or len(packed) % _WORD or not channels:
            raise CompressedError(f"The file's header makes no sense: flags {flags}, {channels} channels.")
        if width * height > max_pixels:
            raise CompressedError(
                f"The file declares {width:,} x {height:,} pixels; at most {max_pixels:,} are decompressed."
            )
        return cls(width=width, height=height, grey=flags == _GREY, channels=channels, model=model, packed=packed)
