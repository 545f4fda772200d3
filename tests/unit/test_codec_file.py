"""Code bits to files and back: any shape comes back, what is known is saved, and nothing damaged passes."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsight.models.codec.container import OVERHEAD, CompressedError, CompressedImage
from sparsight.models.codec.contexts import Board, Contexts, learn_contexts
from sparsight.models.codec.packing import affordable, cost, pack, unpack
from sparsight.models.codec.tiles import tiles

PLANES = 4


def related_bits(count, side, seed=0):
    """Planes: one of patches, one that nearly repeats it, one that is 1 where both are, one of noise."""
    rng = np.random.default_rng(seed)
    smooth = np.kron(rng.random((count, side // 4, side // 4)) < 0.5, np.ones((1, 4, 4))).astype(np.uint8)
    nearly = smooth ^ (rng.random(smooth.shape) < 0.05)
    return np.stack([smooth, nearly, smooth & nearly, rng.integers(0, 2, smooth.shape)], axis=1).astype(np.uint8)


@pytest.fixture(scope="module")
def contexts():
    return learn_contexts(related_bits(40, 16))


@settings(max_examples=60)
@given(planes=st.integers(1, PLANES), height=st.integers(1, 19), width=st.integers(1, 19), data=st.data())
def test_any_bits_of_any_shape_come_back(contexts, planes, height, width, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    bits = (rng.random((planes, height, width)) < data.draw(st.floats(0, 1))).astype(np.uint8)
    packed = pack(bits, contexts)
    np.testing.assert_array_equal(unpack(packed, bits.shape, contexts), bits)
    assert 8 * len(packed) <= cost(bits, contexts)[-1] + 64


def test_what_follows_from_other_bits_is_saved(contexts):
    bits = related_bits(1, 32, seed=1)[0]
    each = np.diff(cost(bits, contexts), prepend=0) / 32**2
    smooth, nearly, both, random = each
    assert smooth < 0.85
    assert nearly < 0.45
    assert both < 0.1
    assert 0.97 < random < 1.05


def test_as_many_planes_are_affordable_as_their_costs_say(contexts):
    bits = related_bits(1, 16, seed=2)[0]
    costs = cost(bits, contexts)
    for budget in (0.0, *(costs - 0.01), *(costs + 0.01)):
        assert affordable(bits, contexts, budget) == int((costs <= budget).sum())


def test_a_context_model_comes_back_from_weights(contexts):
    again = Contexts.of_state(contexts.state())
    np.testing.assert_array_equal(again.places, contexts.places)
    np.testing.assert_array_equal(again.chances, contexts.chances)


def test_a_decoder_never_looks_at_what_it_does_not_know_yet(contexts):
    rng = np.random.default_rng(0)
    board = Board(6, 7)
    planes = board.lay(rng.integers(0, 2, (PLANES, 6, 7), np.uint8))
    for plane in range(PLANES):
        for number in range(2):
            known = contexts.chances_of(board, planes, plane, number)
            unknown = planes.copy()
            unknown[plane, board.cells[number]] ^= 1
            unknown[plane + 1 :, board.cells[0]] ^= 1
            unknown[plane, board.cells[1]] ^= 1
            np.testing.assert_array_equal(contexts.chances_of(board, unknown, plane, number), known)


IMAGE = CompressedImage(width=130, height=7, grey=True, channels=16, model=b"8 bytes!", packed=b"\x01\x02\x03\x04" * 3)


@given(
    width=st.integers(1, 65536),
    height=st.integers(1, 65536),
    grey=st.booleans(),
    channels=st.integers(1, 1024),
    model=st.binary(min_size=8, max_size=8),
    words=st.lists(st.binary(min_size=4, max_size=4), max_size=20),
)
def test_any_header_comes_back(width, height, grey, channels, model, words):
    image = CompressedImage(
        width=width, height=height, grey=grey, channels=channels, model=model, packed=b"".join(words)
    )
    content = image.to_bytes()
    assert len(content) == OVERHEAD + len(image.packed)
    assert CompressedImage.of_bytes(content, max_pixels=2**32) == image


def test_every_change_of_a_byte_is_detected():
    content = IMAGE.to_bytes()
    for place in range(len(content)):
        for value in {0, 1, 127, 128, 255, content[place] ^ 1} - {content[place]}:
            changed = content[:place] + bytes([value]) + content[place + 1 :]
            with pytest.raises(CompressedError):
                CompressedImage.of_bytes(changed, max_pixels=10**6)


@pytest.mark.parametrize("kept", range(len(IMAGE.to_bytes())))
def test_every_file_cut_short_is_refused(kept):
    with pytest.raises(CompressedError, match=r"cut short|doesn't begin with SPSZ"):
        CompressedImage.of_bytes(IMAGE.to_bytes()[:kept], max_pixels=10**6)


def with_checksum(content):
    return content + struct.pack("<I", zlib.crc32(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "doesn't begin with SPSZ"),
        (b"SPSZ\x02" + bytes(30), "of version 2; this code reads version 1"),
        (with_checksum(b"SPSZ\x01\x02" + bytes(12) + b"\x08\x00"), "makes no sense: flags 2"),
        (with_checksum(b"SPSZ\x01\x00" + bytes(14)), "makes no sense: flags 0, 0 channels"),
        (
            with_checksum(b"SPSZ\x01\x00" + bytes(8) + b"\xff\xff\xff\xff\x08\x00"),
            "declares 65,536 x 65,536 pixels; at most 1,000,000",
        ),
    ],
)
def test_what_a_header_may_not_say_is_refused_before_anything_is_made(content, message):
    with pytest.raises(CompressedError, match=message):
        CompressedImage.of_bytes(content, max_pixels=10**6)


def test_more_bytes_than_bits_are_refused(contexts):
    bits = related_bits(1, 16)[0]
    with pytest.raises(CompressedError, match="more bits than"):
        unpack(pack(bits, contexts) + bytes(range(64)), bits.shape, contexts)


@given(height=st.integers(1, 40), width=st.integers(1, 40), reach=st.integers(0, 5), side=st.integers(1, 16))
def test_tiles_cover_each_cell_once_and_see_what_they_need(height, width, reach, side):
    seen = np.zeros((height, width), int)
    numbers = np.arange(height * width).reshape(height, width)
    for tile in tiles(height, width, reach, side):
        seen[tile.inner] += 1
        np.testing.assert_array_equal(numbers[tile.outer][tile.of_outer()], numbers[tile.inner])
        for inner, outer, size in zip(tile.inner, tile.outer, (height, width), strict=True):
            assert outer.start <= max(0, inner.start - reach)
            assert outer.stop >= min(size, inner.stop + reach)
    assert (seen == 1).all()
