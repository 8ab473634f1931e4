"""The units into which MP4, QuickTime and Matroska files are nested, by their headers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

__all__ = [
    "ElementHeader",
    "iterate_boxes",
    "iterate_elements",
    "read_element_header",
    "read_range",
]

_ELEMENT_HEADER = 16  # bytes, of which the header of an element has at most 12


class ElementHeader(NamedTuple):
    """The header of an element of Matroska.

    Attributes
    ----------
    name : bytes
        What the element is.
    n_bytes : int
        Size of the header.
    size : int or None
        Size of the content; None if the file does not know it, as a live recording.
    """

    name: bytes
    n_bytes: int
    size: int | None


def iterate_boxes(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, begin and end of the content of each box of MP4 between two positions."""
    while start + 8 <= stop:
        header = read_range(file, start, min(start + 16, stop))
        size, kind, n_header = int.from_bytes(header[:4], "big"), header[4:8], 8
        if size == 1 and len(header) == 16:
            size, n_header = int.from_bytes(header[8:], "big"), 16
        end = min(start + size, stop) if size else stop
        if len(header) < 8 or end < start + n_header:
            return
        yield kind, start + n_header, end
        start = end


def iterate_elements(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, begin and end of the content of each element between two positions.

    An element of unknown size, which reaches to `stop` or to where no header tells, is the last.
    """
    while start < stop:
        header = read_element_header(read_range(file, start, min(start + _ELEMENT_HEADER, stop)))
        if header is None:
            return
        begin = start + header.n_bytes
        end = stop if header.size is None else min(begin + header.size, stop)
        yield header.name, begin, end
        start = end


def read_element_header(head: bytes) -> ElementHeader | None:
    """Return the header of the element that begins with these bytes, or None if none does."""
    n_name = _length(head[:1])
    n_number = _length(head[n_name : n_name + 1])
    n_header = n_name + n_number
    number = head[n_name:n_header]
    if not n_name or not n_number or len(number) < n_number:
        return None
    highest = 1 << 7 * n_number
    size = int.from_bytes(number, "big") - highest
    return ElementHeader(head[:n_name], n_header, None if size == highest - 1 else size)


def _length(first: bytes) -> int:
    """Return the length of a number of Matroska whose first byte is given."""
    return 9 - first[0].bit_length() if any(first) else 0


def read_range(file: BinaryIO, start: int, stop: int) -> bytes:
    """Return the bytes of a file between two positions, fewer if it ends before."""
    file.seek(start)
    return file.read(max(stop - start, 0))
