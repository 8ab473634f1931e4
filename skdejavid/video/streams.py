"""Which stream of a file is the film: not a cover, a thumbnail or a preview."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    import av

__all__ = ["best_stream", "has_unclear_streams", "single_pictures"]

# Codecs of pictures, which are covers if a file has one picture and other streams.
_PICTURE_CODECS = {
    *("mjpeg", "jpegls", "jpeg2000", "jpegxl", "png", "apng", "gif", "bmp", "tiff", "webp"),
    *("ljpeg", "targa", "ppm", "pgm", "pam", "pcx", "psd", "sgi", "qoi"),
}


def best_stream(
    container: av.container.InputContainer, pictures: Collection[int] = ()
) -> av.VideoStream | None:
    """Return the stream that players show: with the default flag, and then the largest.

    Pictures are never chosen: those that the file marks as such (covers, thumbnails, still images),
    and single pictures among other streams. Streams for other purposes, such as depth, come last. A
    stream that cannot be decoded counts as the largest, so that a preview does not replace it.

    Parameters
    ----------
    container : av.container.InputContainer
        The file.
    pictures : collection of int, default=()
        Numbers of streams that are `single_pictures`.

    Returns
    -------
    av.VideoStream or None
        None if the file has no video stream, or only pictures.
    """
    streams = _candidates(container)
    films = [stream for stream in streams if stream.index not in pictures]
    if not films:
        # Each has at most one frame: a short film, or pictures.
        films = [stream for stream in streams if not _may_be_cover(container, stream)]
    return max(films, key=_merit, default=None)


def has_unclear_streams(container: av.container.InputContainer) -> bool:
    """Return whether `single_pictures` has to read packets, to find covers that are not marked."""
    return any(stream.frames == 0 for stream in _suspects(container))


def single_pictures(container: av.container.InputContainer) -> frozenset[int]:
    """Return the numbers of the streams that have at most one picture, though others are there.

    It reads packets, up to the end of the file if there is such a stream and the file does not
    declare numbers of frames.
    """
    n_packets = {stream.index: stream.frames for stream in _suspects(container)}
    if has_unclear_streams(container):
        for packet in container.demux():
            if packet.size and packet.stream.index in n_packets:
                n_packets[packet.stream.index] += 1
            if min(n_packets.values()) > 1:
                break
    return frozenset(index for index, number in n_packets.items() if number <= 1)


def _candidates(container: av.container.InputContainer) -> list[av.VideoStream]:
    """Return the video streams that are not marked as pictures."""
    streams = []
    for stream in container.streams.video:
        kinds = type(stream.disposition)
        marks = kinds.attached_pic | kinds.timed_thumbnails | kinds.still_image
        if not stream.disposition & marks:
            streams.append(stream)
    return streams


def _suspects(container: av.container.InputContainer) -> list[av.VideoStream]:
    """Return the video streams of which one may be a picture that is not marked."""
    streams = _candidates(container)
    return streams if len(streams) > 1 else [s for s in streams if _may_be_cover(container, s)]


def _may_be_cover(container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    codec = stream.codec_context
    is_picture = codec is not None and codec.name in _PICTURE_CODECS
    return is_picture and len(container.streams) > 1


def _merit(stream: av.VideoStream) -> tuple[bool, bool, float]:
    kinds = type(stream.disposition)
    lesser = kinds.dependent | kinds.visual_impaired | kinds.hearing_impaired
    codec = stream.codec_context
    size = math.inf if codec is None else codec.width * codec.height
    return not stream.disposition & lesser, bool(stream.disposition & kinds.default), size
