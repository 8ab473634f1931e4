"""Numbers of samples that an MP4 file claims.

FFmpeg allocates a table with an entry for each sample before it reads any of them: a file of one
kilobyte may claim enough of them for gigabytes. This module finds such claims without a complete
parser: boxes of the relevant types are recognized by their names, outside of the media data.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["bytes_of_samples"]

_BYTES_PER_SAMPLE = 64  # of FFmpeg's tables, and their copies for edit lists

_BYTES_OF_COMPRESSED = 2**31

# At the beginning of such a file.
_FIRST_BOXES = (
    *(b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"styp", b"sidx"),
    b"uuid",
)


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
        0 if the file is no MP4 or QuickTime file. A header that is compressed, as in QuickTime
        files of the nineties, counts with 2 GiB, since what it claims is not visible.
    """
    n_allocated = 0
    for start, stop in _regions(file, n_bytes):
        file.seek(start)
        n_allocated += sum(_claims(file.read(stop - start), n_bytes))
    file.seek(0)
    return n_allocated


def _regions(file: BinaryIO, n_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each box that is no media data."""
    position = 0
    while position + 8 <= n_bytes:
        file.seek(position)
        header = file.read(16)
        size, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if position == 0 and kind not in _FIRST_BOXES:
            return
        if size == 1:
            size = int.from_bytes(header[8:], "big")
        stop = min(position + size, n_bytes) if size >= 8 else n_bytes
        if kind != b"mdat":
            yield position, stop
        position = stop


def _claims(content: bytes, n_bytes: int) -> Iterator[int]:
    """Yield the bytes of each claim in a part of a file of `n_bytes` bytes."""
    for kind in (b"stsz", b"stz2"):
        for at in _places(content, kind, 16):
            size, count = struct.unpack_from(">II", content, at + 8)
            # Samples of one size, as of uncompressed sound, need no entries if they are there.
            is_there = size > 0 and size * count <= n_bytes and kind == b"stsz"
            yield 0 if is_there else count * _BYTES_PER_SAMPLE
    for at in _places(content, b"trun", 12):
        yield struct.unpack_from(">I", content, at + 8)[0] * _BYTES_PER_SAMPLE
    for _ in _places(content, b"cmvd", 8):
        yield _BYTES_OF_COMPRESSED


def _places(content: bytes, kind: bytes, n_needed: int) -> Iterator[int]:
    at = content.find(kind)
    while at >= 0:
        if at + n_needed <= len(content):
            yield at
        at = content.find(kind, at + 4)
