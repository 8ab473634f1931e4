"""Numbers of samples that an MP4 file claims.

FFmpeg allocates a table with an entry for each sample before it reads any of them: a file of one
kilobyte may claim enough of them for gigabytes. This module reads the headers of the boxes in which
FFmpeg looks for such tables, and nothing else: neither frames, nor titles, nor what a camera has
appended.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from skdejavid.video.boxes import iterate_boxes, read_range

__all__ = ["bytes_of_samples"]

_BYTES_PER_SAMPLE = 64  # of FFmpeg's tables, and their copies for edit lists

# FFmpeg itself refuses as many samples in one table, without allocating them. The smallest number
# whose bytes are text is as large.
_TOO_MANY_SAMPLES = 2**29

# Boxes that contain boxes. FFmpeg takes each of them, and each table, in any other.
_PARENTS = {
    *(b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"tref", b"gmhd"),
    *(b"moof", b"traf", b"mvex", b"sinf", b"schi", b"wave", b"ilst", b"iprp", b"ipco"),
}
_MOVED = (b"free", b"hoov")  # an old header, which FFmpeg takes if there is no other

# Where the number of samples is, after the header of a box.
_PLACES = {b"stsz": 8, b"stz2": 8, b"trun": 4}

_NAME_OF_CODEC = 50  # where the name of the encoder is: its length, and 31 bytes

_DEEPEST = 12  # FFmpeg stops at 10
_BYTES_PER_READ = 2**16

# A header that is compressed may be as large as this: of two hours.
_MOST_DECOMPRESSED = 2**25


def bytes_of_samples(file: BinaryIO, n_bytes: int) -> int:
    """Return how many bytes FFmpeg would allocate for the samples that a file claims.

    Parameters
    ----------
    file : binary file
        At any position; it is at the beginning afterwards.
    n_bytes : int
        Its size.

    Returns
    -------
    int
        0 if the file is no MP4 or QuickTime file.
    """
    n_samples = sum(_claims(file, 0, n_bytes, n_bytes))
    file.seek(0)
    return n_samples * _BYTES_PER_SAMPLE


def _claims(file: BinaryIO, start: int, stop: int, n_bytes: int, depth: int = 0) -> Iterator[int]:
    """Yield the number of samples of each table between two positions."""
    for kind, begin, end in iterate_boxes(file, start, stop):
        if kind in _PLACES:
            yield _samples(read_range(file, begin, min(begin + 12, end)), kind, n_bytes)
        elif kind == b"stsd":
            yield from _claims_of_codec(file, begin, end, n_bytes)
        elif depth < _DEEPEST and kind == b"cmov":
            content = _decompressed(read_range(file, begin, end))
            if len(content) > _MOST_DECOMPRESSED:
                yield _TOO_MANY_SAMPLES
            yield from _claims(io.BytesIO(content), 0, len(content), n_bytes, depth + 1)
        elif depth < _DEEPEST and (first := _first_child(file, kind, begin, end)) is not None:
            yield from _claims(file, first, end, n_bytes, depth + 1)


def _first_child(file: BinaryIO, kind: bytes, begin: int, end: int) -> int | None:
    """Return where the first box in a box begins, or None if there is none."""
    if kind in _MOVED:
        is_header = read_range(file, begin + 4, min(begin + 8, end)) in (b"mvhd", b"cmov")
        return begin if is_header else None
    if kind == b"meta":
        # Its fields differ, so that FFmpeg looks for a box that is always there.
        for at in range(begin, end, _BYTES_PER_READ):
            content = read_range(file, at, min(at + _BYTES_PER_READ, end))
            words = range(0, len(content), 4)
            found = next((word for word in words if content[word : word + 4] == b"hdlr"), None)
            if found is not None:
                return at + found - 4
        return None
    return begin if kind in _PARENTS else None


def _claims_of_codec(file: BinaryIO, begin: int, end: int, n_bytes: int) -> Iterator[int]:
    """Yield the number of samples of tables in the description of a codec.

    How many fields are before the boxes depends on the codec, so that their names are searched.
    """
    starts = list(_starts_of_codecs(file, begin))
    # FFmpeg relies on the size of each description, even if it is beyond the box.
    content = bytearray(read_range(file, begin, max(starts[-1], end)))
    for start in starts:
        _erase_name(content, start - begin + _NAME_OF_CODEC)
    for kind in _PLACES:
        at = content.find(kind)
        while at >= 0:
            yield _samples(content[at + 4 : at + 16], kind, n_bytes)
            at = content.find(kind, at + 4)


def _starts_of_codecs(file: BinaryIO, begin: int) -> Iterator[int]:
    """Yield where the description of each codec begins, and where the last one ends."""
    start = begin + 8
    yield start
    for _ in range(int.from_bytes(read_range(file, begin + 4, begin + 8), "big")):
        size = int.from_bytes(read_range(file, start, start + 4), "big")
        if size < 8:
            return
        start += size
        yield start


def _erase_name(content: bytearray, at: int) -> None:
    """Erase the name of an encoder, which may be any text, if there is one."""
    name = content[at : at + 32]
    if name and name[0] < 32:
        text, rest = name[1 : 1 + name[0]], name[1 + name[0] :]
        if not any(rest) and min(text, default=0) >= ord(" "):
            content[at : at + len(name)] = bytes(len(name))


def _samples(content: bytes | bytearray, kind: bytes, n_bytes: int) -> int:
    """Return the number of samples that a table in a file of `n_bytes` bytes needs memory for."""
    place = _PLACES[kind]
    n_samples = int.from_bytes(content[place : place + 4].ljust(4, b"\0"), "big")
    size = int.from_bytes(content[4:8], "big")
    # Samples of one size, as of uncompressed sound, need no entries if they are there.
    is_there = kind == b"stsz" and 0 < size * n_samples <= n_bytes
    return 0 if is_there or n_samples >= _TOO_MANY_SAMPLES else n_samples


def _decompressed(content: bytes) -> bytes:
    """Return the header in a box "cmov", as QuickTime files of the nineties have it."""
    decompressor = zlib.decompressobj()
    try:  # in two boxes: the method, and the header, preceded by its size
        header = decompressor.decompress(content[24:], _MOST_DECOMPRESSED + 1)
    except zlib.error:
        return b""
    return header if decompressor.eof or len(header) > _MOST_DECOMPRESSED else b""
