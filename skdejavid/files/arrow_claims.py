"""Sizes that compressed Arrow IPC files claim.

Arrow allocates what each compressed buffer claims to be, and decompresses it, before anything can
be checked. The claims are at places that the descriptions of the batches name. These are
flatbuffers: tables whose fields are found through a list of offsets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

__all__ = ["decompressed_size"]

_FOOTER_END = struct.calcsize("<i6s")  # its length, and "ARROW1"
_BLOCK, _BUFFER = "<qi4xq", "<qq"  # offset, length of description, of body; offset, length

# Numbers of the fields of flatbuffers, from Arrow's Message.fbs and File.fbs.
_DICTIONARIES, _BATCHES = 2, 3  # of Footer
_KIND, _HEADER = 1, 2  # of Message
_IS_DICTIONARY, _IS_BATCH = 2, 3  # values of the kind
_DATA = 1  # of DictionaryBatch
_BUFFERS, _COMPRESSION = 2, 3  # of RecordBatch


def decompressed_size(content: Any) -> int:
    """Return how many bytes the compressed buffers of an Arrow IPC file claim together.

    Parameters
    ----------
    content : buffer of bytes
        The file, which Arrow could open. A memory map is not read as a whole.

    Returns
    -------
    int
        0 if nothing is compressed.

    Raises
    ------
    ValueError
        If the file is damaged.
    """
    view = memoryview(content).cast("B")
    try:
        return sum(_claims(view))
    except (struct.error, IndexError) as error:
        raise ValueError(f"its descriptions of batches are damaged: {error}") from error


def _claims(view: memoryview) -> Iterator[int]:
    """Yield the size that each compressed buffer claims."""
    end = len(view) - _FOOTER_END
    n_left = len(view) // struct.calcsize(_BUFFER)  # each buffer has a description of its own
    (n_bytes,) = _unpacked("<i", view, end)
    footer = _Table.root(view, end - n_bytes)
    for number in (_DICTIONARIES, _BATCHES):
        for begin, n_bytes, _ in footer.structs(number, _BLOCK):
            # Files of old versions have no mark before the length of the description.
            is_marked = _unpacked("<I", view, begin) == (0xFFFFFFFF,)
            batch = _batch(_Table.root(view, begin + (8 if is_marked else 4)))
            if batch is None or batch.place(_COMPRESSION) is None:
                continue
            for offset, n_stored in batch.structs(_BUFFERS, _BUFFER):
                n_left -= 1
                if n_left < 0:
                    raise IndexError("there are more buffers than descriptions")
                if n_stored:
                    yield max(0, *_unpacked("<q", view, begin + n_bytes + offset))


def _batch(message: _Table) -> _Table | None:
    kind = message.place(_KIND)
    if kind is None or message.view[kind] not in (_IS_BATCH, _IS_DICTIONARY):
        return None
    header = message.table(_HEADER)
    if header is None or message.view[kind] == _IS_BATCH:
        return header
    return header.table(_DATA)


class _Table:
    """A table of a flatbuffer."""

    def __init__(self, view: memoryview, begin: int) -> None:
        self.view, self._begin = view, begin

    @classmethod
    def root(cls, view: memoryview, begin: int) -> _Table:
        return cls(view, begin)._at(begin)

    def place(self, number: int) -> int | None:
        """Return where the value of a field is, or None if the table does not have it."""
        fields = self._begin - _unpacked("<i", self.view, self._begin)[0]
        (n_bytes,) = _unpacked("<H", self.view, fields)
        if 4 + 2 * number >= n_bytes:
            return None
        (offset,) = _unpacked("<H", self.view, fields + 4 + 2 * number)
        return self._begin + offset if offset else None

    def table(self, number: int) -> _Table | None:
        place = self.place(number)
        return None if place is None else self._at(place)

    def structs(self, number: int, form: str) -> Iterator[tuple[int, ...]]:
        """Iterate over a field that is an array of structs."""
        place = self.place(number)
        if place is None:
            return
        begin = place + _unpacked("<I", self.view, place)[0]
        (count,) = _unpacked("<I", self.view, begin)
        stop = begin + 4 + count * struct.calcsize(form)
        if stop > len(self.view):
            raise IndexError(f"{count} items are beyond the end")
        yield from struct.iter_unpack(form, self.view[begin + 4 : stop])

    def _at(self, place: int) -> _Table:
        return _Table(self.view, place + _unpacked("<I", self.view, place)[0])


def _unpacked(form: str, view: memoryview, place: int) -> tuple[int, ...]:
    """Read numbers at a place, which counts from the beginning and never from the end."""
    if place < 0:
        raise IndexError(f"a number is said to be at {place}")
    return struct.unpack_from(form, view, place)
