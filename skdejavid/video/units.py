"""The units that files consist of, each of which declares its size.

Boxes of MP4, elements of Matroska, chunks of AVI and PNG, objects of ASF, tags of Flash video,
pages of Ogg, blocks of GIF, frames of IVF. A file that ends inside of one has been cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from skdejavid.video.boxes import read_element_header

__all__ = ["is_cut"]

_HEADER = 300  # bytes, of which the header of a unit has less

# After as many, a file is taken as whole: it may have been made to keep its reader busy.
_MOST_UNITS = 2**22

_BOXES = {
    *(b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid"),
    *(b"sidx", b"mfra"),
}
_EBML, _SEGMENT, _CLUSTER = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_FLV_TAGS = (8, 9, 18)
_PNG = b"\x89PNG\r\n\x1a\n"
_GIF_EXTENSION, _GIF_IMAGE = b"\x21", b"\x2c"


def is_cut(file: BinaryIO, n_bytes: int) -> bool:
    """Return whether a file ends inside of a unit with frames, whose size it declares.

    Parameters
    ----------
    file : binary file
        At any position.
    n_bytes : int
        Its size.

    Returns
    -------
    bool
        False if the format is none of those above, nor bare JPEG frames, which have an end of their
        own.
    """
    start = _read(file, 0)
    if start.startswith(b"GIF8"):
        return _is_gif_cut(file, n_bytes, start)
    if start.startswith(b"\xff\xd8\xff"):
        end = _read(file, max(n_bytes - _HEADER, 0))
        return not end.rstrip(b"\0\r\n").endswith(b"\xff\xd9")
    for kind in _KINDS:
        if kind.is_start(start):
            return _ends_inside(file, n_bytes, kind.first(start), kind.read)
    return False


class _Unit(NamedTuple):
    size: int
    has_frames: bool = True


_Reader = Callable[[bytes], _Unit | None]


class _Kind(NamedTuple):
    """A format whose units follow each other."""

    is_start: Callable[[bytes], bool]  # of the first bytes of a file
    first: Callable[[bytes], int]  # where the first unit begins
    read: _Reader  # the unit that begins with some bytes, or None if it does not say where it ends


def _ends_inside(file: BinaryIO, n_bytes: int, at: int, read: _Reader) -> bool:
    for _ in range(_MOST_UNITS):
        unit = read(_read(file, at))
        if unit is None:
            break
        at += unit.size
        if at > n_bytes:
            return unit.has_frames
    return False


def _read_box(head: bytes) -> _Unit | None:
    size, kind = int.from_bytes(head[:4], "big"), head[4:8]
    if size == 1:
        size = int.from_bytes(head[8:16], "big")
    return _Unit(size, kind in (b"mdat", b"moof")) if kind in _BOXES and size >= 8 else None


def _read_element(head: bytes) -> _Unit | None:
    """Return an element of Matroska; a segment is but its header, and other elements follow."""
    header = read_element_header(head)
    if header is None or header.size is None:
        return None
    size = 0 if header.name == _SEGMENT else header.size
    return _Unit(header.n_bytes + size, header.name == _CLUSTER)


def _read_riff(head: bytes) -> _Unit | None:
    """Return a chunk of AVI; the outermost is but its header, and other chunks follow."""
    if head.startswith(b"RIFF"):
        return _Unit(12, False)
    size = int.from_bytes(head[4:8], "little")
    is_known = head[:4] in (b"LIST", b"JUNK", b"idx1") and 0 < size < 2**32 - 1
    return _Unit(8 + size + size % 2, head[8:12] == b"movi") if is_known else None


def _read_asf_object(head: bytes) -> _Unit | None:
    size = int.from_bytes(head[16:24], "little")
    return _Unit(size) if head.startswith((_ASF_HEADER, _ASF_DATA)) and size >= 24 else None


def _read_flv_tag(head: bytes) -> _Unit | None:
    """Return a tag, and the number before it."""
    is_tag = any(head[4:5]) and head[4] & 0x1F in _FLV_TAGS
    return _Unit(15 + int.from_bytes(head[5:8], "big")) if is_tag else None


def _read_page(head: bytes) -> _Unit | None:
    is_page = head.startswith(b"OggS") and len(head) >= 27
    return _Unit(27 + head[26] + sum(head[27 : 27 + head[26]])) if is_page else None


def _read_ivf_frame(head: bytes) -> _Unit | None:
    return _Unit(12 + int.from_bytes(head[:4], "little")) if head else None


def _read_chunk(head: bytes) -> _Unit | None:
    """Return a chunk of PNG, also if nothing is there: the last one has a name of its own."""
    return _Unit(12 + int.from_bytes(head[:4], "big")) if head[4:8] != b"IEND" else None


_KINDS = (
    _Kind(lambda start: start[4:8] in _BOXES, lambda _: 0, _read_box),
    _Kind(lambda start: start.startswith(_EBML), lambda _: 0, _read_element),
    _Kind(lambda start: start.startswith(b"RIFF"), lambda _: 0, _read_riff),
    _Kind(lambda start: start.startswith(_ASF_HEADER), lambda _: 0, _read_asf_object),
    _Kind(
        lambda start: start.startswith(b"FLV"),
        lambda start: int.from_bytes(start[5:9], "big"),
        _read_flv_tag,
    ),
    _Kind(lambda start: start.startswith(b"OggS"), lambda _: 0, _read_page),
    _Kind(
        lambda start: start.startswith(b"DKIF"),
        lambda start: int.from_bytes(start[6:8], "little"),
        _read_ivf_frame,
    ),
    _Kind(lambda start: start.startswith(_PNG), lambda _: len(_PNG), _read_chunk),
)


def _is_gif_cut(file: BinaryIO, n_bytes: int, start: bytes) -> bool:
    """Return whether a GIF ends inside of one of its blocks, or of the parts that these have."""
    at = 13 + _size_of_colors(start[10:11])
    is_inside = False
    for _ in range(_MOST_UNITS):
        if at >= n_bytes:
            return is_inside or at > n_bytes
        head = _read(file, at)[:10]
        if is_inside:
            at += 1 + head[0]
            is_inside = head[0] > 0
        elif head.startswith((_GIF_EXTENSION, _GIF_IMAGE)):
            is_image = head.startswith(_GIF_IMAGE)
            at += 11 + _size_of_colors(head[9:10]) if is_image else 2
            is_inside = True
        else:
            break  # the end, or something else
    return False


def _size_of_colors(flags: bytes) -> int:
    """Return the size of a table of colors that the flags of an image or a file announce."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _read(file: BinaryIO, at: int) -> bytes:
    file.seek(at)
    return file.read(_HEADER)
