"""The part of its frames that a file shows.

Codecs crop frames themselves. MP4 and QuickTime files (in a box "clap") and Matroska files can
name a part as well, which players and the ffmpeg command show, and which decoders do not know of.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from math import floor
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from skdejavid.compat.optional import import_optional
from skdejavid.video.boxes import iterate_boxes, iterate_elements, read_range

if TYPE_CHECKING:
    import av

__all__ = ["Cropper", "Cropping", "read_cropping"]

_EBML, _SEGMENT, _TRACKS = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b"
_TRACK, _KIND_OF_TRACK, _VIDEO = b"\xae", b"\x83", b"\xe0"
_PICTURES = b"\x01"  # the kind of a track of them
# In the order of the fields of `Cropping`.
_SIDES = (b"\x54\xcc", b"\x54\xbb", b"\x54\xdd", b"\x54\xaa")
_MOST_UNITS = 10_000  # in one that contains them; there are a few dozens in all but odd files

_FIELDS_OF_CODEC = 78  # bytes before the boxes in the description of a codec
_SIZE_IN_CODEC = slice(24, 28)  # width and height, 16 bits each


class Cropping(NamedTuple):
    """Numbers of columns and rows of stored pixels that are not shown."""

    left: int
    top: int
    right: int
    bottom: int


def read_cropping(
    file: BinaryIO, n_bytes: int, stream: av.VideoStream, position: int
) -> Cropping | None:
    """Return what a file says of the shown part of the frames of a stream.

    Parameters
    ----------
    file : binary file
        At any position; it is where it was afterwards.
    n_bytes : int
        Its size.
    stream : av.VideoStream
        The stream.
    position : int
        Its number among the video streams.

    Returns
    -------
    Cropping or None
        None if frames are shown as the codec decodes them, or the file says nothing of use.
    """
    at = file.tell()
    try:
        if read_range(file, 0, 4) == _EBML:
            of_tracks = _of_matroska(file, n_bytes)
            found = next((c for number, c in enumerate(of_tracks) if number == position), None)
        else:
            of_tracks_by_id = dict(_of_mp4(file, n_bytes))
            found = of_tracks_by_id.get(stream.id)
    finally:
        file.seek(at)
    return found if found is not None and any(found) else None


def _of_matroska(file: BinaryIO, n_bytes: int) -> Iterator[Cropping]:
    """Yield the cropping of each track of pictures of a Matroska file."""
    for _, begin, end in _named(_SEGMENT, file, 0, n_bytes):
        for _, tracks_begin, tracks_end in _named(_TRACKS, file, begin, end):
            for _, track_begin, track_end in _named(_TRACK, file, tracks_begin, tracks_end):
                kinds = _named(_KIND_OF_TRACK, file, track_begin, track_end)
                if [read_range(file, *places) for _, *places in kinds] == [_PICTURES]:
                    yield _of_track(file, track_begin, track_end)
            return


def _named(name: bytes, file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    elements = islice(iterate_elements(file, start, stop), _MOST_UNITS)
    return (element for element in elements if element[0] == name)


def _of_track(file: BinaryIO, begin: int, end: int) -> Cropping:
    sides = dict.fromkeys(_SIDES, 0)
    for _, video_begin, video_end in _named(_VIDEO, file, begin, end):
        for name in sides:
            for _, at, stop in _named(name, file, video_begin, video_end):
                sides[name] = int.from_bytes(read_range(file, at, min(stop, at + 8)), "big")
    return Cropping(*sides.values())


def _of_mp4(file: BinaryIO, n_bytes: int) -> Iterator[tuple[int, Cropping]]:
    """Yield number and cropping of each track of an MP4 file that says one."""
    for track, begin, end in _boxes(file, *_inner(file, [b"moov"], 0, n_bytes)):
        if track != b"trak":
            continue
        header = read_range(file, *_inner(file, [b"tkhd"], begin, end))[:28]
        codecs = _inner(file, [b"mdia", b"minf", b"stbl", b"stsd"], begin, end)
        for _, codec_begin, codec_end in _boxes(file, codecs[0] + 8, codecs[1]):
            fields = read_range(file, codec_begin, codec_begin + _FIELDS_OF_CODEC)
            clap = _inner(file, [b"clap"], codec_begin + _FIELDS_OF_CODEC, codec_end)
            aperture = read_range(file, *clap)
            if len(header) >= 24 and len(aperture) >= 32 and len(fields) == _FIELDS_OF_CODEC:
                # The number of the track is behind two times, of 4 or 8 bytes each.
                at = 20 if header[0] == 1 else 12
                number = int.from_bytes(header[at : at + 4], "big")
                yield number, _of_aperture(aperture, *struct.unpack(">HH", fields[_SIZE_IN_CODEC]))
            break


def _boxes(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    return islice(iterate_boxes(file, start, stop), _MOST_UNITS)


def _inner(file: BinaryIO, kinds: list[bytes], start: int, stop: int) -> tuple[int, int]:
    """Return where the content of a box in boxes is, an empty place if there is none."""
    for wanted in kinds:
        boxes = _boxes(file, start, stop)
        start, stop = next(((b, e) for kind, b, e in boxes if kind == wanted), (stop, stop))
    return start, stop


def _of_aperture(aperture: bytes, width: int, height: int) -> Cropping:
    """Return the cropping of a box "clap": width, height and offsets of the center, as fractions.

    What is no part of the frame is ignored, as by FFmpeg.
    """
    numbers = struct.unpack(">IIIIiIiI", aperture[:32])
    if not all(numbers[1::2]):
        return Cropping(0, 0, 0, 0)
    shown_width, shown_height, right_of_center, below_center = map(
        Fraction, numbers[::2], numbers[1::2]
    )
    left = (width - shown_width) / 2 + right_of_center
    top = (height - shown_height) / 2 + below_center
    # The last column and row are cut down as the first ones are.
    right = width - 1 - floor(left + shown_width - 1)
    bottom = height - 1 - floor(top + shown_height - 1)
    sides = Cropping(floor(left), floor(top), right, bottom)
    is_inside = min(sides) >= 0 and sides.left + right < width and sides.top + bottom < height
    return sides if is_inside else Cropping(0, 0, 0, 0)


class Cropper:
    """FFmpeg's filter "crop" for the frames of one stream.

    Parameters
    ----------
    cropping : Cropping
        What is not shown.
    """

    def __init__(self, cropping: Cropping) -> None:
        self._cropping = cropping
        self._kind: tuple[Any, ...] = ()
        self._graph: Any = None

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Return the shown part of a frame, with all that is said of the frame.

        Raises
        ------
        ValueError
            If nothing of it would be shown.
        """
        left, top, right, bottom = self._cropping
        width, height = frame.width - left - right, frame.height - top - bottom
        if width <= 0 or height <= 0:
            raise ValueError(
                f"the file says that {left} + {right} columns and {top} + {bottom} rows are not "
                f"shown of frames with {frame.width} x {frame.height} pixels"
            )
        kind = (frame.width, frame.height, frame.format.name)
        if kind != self._kind:
            self._kind, self._graph = kind, _crop_graph(frame, f"{width}:{height}:{left}:{top}")
        self._graph.vpush(frame)
        return self._graph.vpull()


def _crop_graph(frame: av.VideoFrame, arguments: str) -> Any:
    av: Any = import_optional("av", "video", "Reading a video file")
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 1_000_000),
    )
    crop = graph.add("crop", arguments)
    sink = graph.add("buffersink")
    source.link_to(crop)
    crop.link_to(sink)
    graph.configure()
    return graph
