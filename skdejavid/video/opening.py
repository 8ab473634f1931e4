"""Open video files that anybody may have made: no other file, no network, and bounded memory.

FFmpeg is given bytes and never a name, so that a path is only ever the path of a file: neither
``http://...`` nor ``concat:...``, and ``12:30:05.mp4`` is an ordinary name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, BinaryIO, Never

from skdejavid.compat.claims import FACTOR, most_bytes
from skdejavid.compat.optional import import_optional
from skdejavid.files.regular import open_regular_file
from skdejavid.video.endings import Ending
from skdejavid.video.mp4_claims import bytes_of_samples
from skdejavid.video.prefetch import check_is_wanted
from skdejavid.video.streams import best_stream, has_unclear_streams, single_pictures
from skdejavid.video.timeline import Timeline

if TYPE_CHECKING:
    import av

__all__ = [
    "OpenVideo",
    "RefusedVideoError",
    "VideoDecodeError",
    "bytes_for",
    "most_pixels",
    "most_threads",
    "open_video",
    "reason_of",
]

# The readers of formats ("demuxers") that FFmpeg may use, each with the reason why it is needed.
# All of them read a single file. Whatever leads to other files, to the network or to devices is
# absent: playlists and manifests (hls, dash, concat, imf, webm_dash_manifest), sessions (sdp, rtsp,
# rtp, sap), numbered pictures (image2), indices with data elsewhere (vobsub, the pieces of mlv),
# scripts (lavfi, avisynth, vapoursynth) and capture devices. Sound, subtitles, single pictures and
# formats of games contain no video that could be classified.
_DEMUXERS = {
    "mov": "MP4, QuickTime, 3GP; tracks in other files are not opened",
    "matroska": "Matroska and WebM; linked segments are not opened",
    "avi": "AVI, the format of UCF101 and HMDB51",
    "mpeg": "MPEG program streams, VOB",
    "mpegts": "MPEG transport streams of broadcasts and camcorders (TS, MTS, M2TS)",
    "flv": "Flash video",
    "asf": "Windows Media (WMV, ASF)",
    "ogg": "Ogg video",
    "gif": "GIF animations",
    "apng": "PNG animations",
    "ivf": "frames of VP8, VP9 and AV1, as their encoders write them",
    "nut": "FFmpeg's own format, the usual one for lossless video",
    "dv": "tapes of digital camcorders",
    "mxf": "professional cameras; only what is inside of the file",
    "yuv4mpegpipe": "uncompressed frames (Y4M), as test sequences are published",
    "mjpeg": "a stream of JPEG frames, as web cameras write it",
    "m4v": "a bare MPEG-4 stream",
    "mpegvideo": "a bare MPEG-1 or MPEG-2 stream",
    "h264": "a bare H.264 stream",
    "hevc": "a bare H.265 stream",
    "obu": "a bare AV1 stream",
}

_OPTIONS = {
    "format_whitelist": ",".join(_DEMUXERS),
    "protocol_whitelist": "",  # none: all bytes come from the file that was opened
    "enable_drefs": "0",
    "use_absolute_path": "0",
}

# First bytes of texts that lead elsewhere, only to name them in messages.
_TEXTS = {
    b"#EXTM3U": "a playlist (HLS)",
    b"ffconcat": "a list of files (concat)",
    b"<?xml": "a manifest (XML)",
    b"<MPD": "a manifest (DASH)",
    b"v=0": "the description of a network session (SDP)",
    b"[playlist]": "a playlist",
    b"[Reference]": "a list of references",
}

# Large enough that calling Python does not matter, small enough for files that are read in jumps.
_BUFFER = 2**17

# What the smallest file may cost, whatever it claims.
_ALLOWANCE = 200_000_000
_ALLOWANCE_OF_PACKETS = 2**20  # which are parts of the file

# What the frames of a decoder may cost in the smallest file: 4K (4096 x 2304) in 10 bits or full
# color, as of a short recording of a screen, whose frames have few bytes.
_ALLOWANCE_OF_FRAMES = 400_000_000

# Decoded frames that a decoder keeps with one thread: references, and those that are reordered.
# Each further thread decodes one more.
_FRAMES_OF_DECODER = 14  # of H.264 up to 16 and more, which few files use
_LEAST_BYTES_PER_PIXEL = 1.0


class VideoDecodeError(OSError):
    """Error raised if a video cannot be read. The message names the file.

    Attributes
    ----------
    frame : int or None
        Number of frames decoded before the error, or None if decoding had not started.
    """

    def __init__(self, message: str, frame: int | None = None) -> None:
        super().__init__(message)
        self.frame = frame


class RefusedVideoError(ValueError):
    """Error raised if a path is not allowed as a video, or its content for the parameters.

    The path leads to no regular file; or the video is too short, its frames are too large, or it
    claims to be larger than its file can be.
    """


def bytes_for(n_bytes: int) -> int:
    """Return how many bytes may be allocated because of what a file of `n_bytes` bytes claims."""
    return most_bytes(n_bytes, _ALLOWANCE)


def most_pixels(n_bytes: int, bytes_per_pixel: float) -> int:
    """Return how many pixels the frames of a file of `n_bytes` bytes may have."""
    most = most_bytes(n_bytes, _ALLOWANCE_OF_FRAMES)
    return int(most / (_FRAMES_OF_DECODER * bytes_per_pixel))


def most_threads(n_bytes: int, bytes_per_frame: float) -> int:
    """Return how many threads may decode a file of `n_bytes` bytes."""
    n_frames = int(bytes_for(n_bytes) / max(bytes_per_frame, 1))
    return max(n_frames - _FRAMES_OF_DECODER + 1, 1)


@dataclass(frozen=True)
class OpenVideo:
    """The film of an open file: the stream that players show.

    Attributes
    ----------
    name : str
        Name of the file.
    file : binary file
        The file, which FFmpeg reads.
    n_bytes : int
        Its size.
    container : av.container.InputContainer
        The file, as FFmpeg sees it.
    stream : av.VideoStream
        The stream.
    """

    name: str
    file: BinaryIO
    n_bytes: int
    container: av.container.InputContainer
    stream: av.VideoStream

    def packets(self, ending: Ending | None = None) -> Iterator[av.Packet[av.VideoStream]]:
        """Yield the packets of the stream, the last of which is empty.

        Their times run on where the file jumps to other times, as `Timeline` says.

        Parameters
        ----------
        ending : Ending, optional
            It sees the packets that it asks for.

        Raises
        ------
        NotWantedError
            As in `check_is_wanted`.
        VideoDecodeError
            If the packets together are much larger than the file, so that they overlap.
        """
        limit = most_bytes(self.n_bytes, _ALLOWANCE_OF_PACKETS)
        timeline, index = Timeline(self.container, self.stream), self.stream.index
        for packet in self._demux([self.stream] if ending is None else ending.streams):
            check_is_wanted()
            limit -= max(packet.size, 1)
            if limit < 0:
                raise VideoDecodeError(
                    f"{self.name}: its packets have over {FACTOR} times the bytes of the "
                    f"file, {self.n_bytes}"
                )
            if ending is not None:
                ending.see(packet)
            if packet.stream.index == index:
                timeline.shift(packet)
                yield packet

    def _demux(self, streams: list[Any]) -> Iterator[Any]:
        try:
            yield from self.container.demux(streams)
        except IndexError:
            # PyAV raises it after the last packet of this stream, if another stream, which the
            # header does not announce, has begun in the middle of the file.
            return


@contextmanager
def open_video(path: str | PathLike[str], *, max_pixels: int | None = None) -> Iterator[OpenVideo]:
    """Open a file, and close it at the end of the block.

    Errors of FFmpeg inside of the block become VideoDecodeErrors.

    Parameters
    ----------
    path : str or path
        The file.
    max_pixels : int, optional
        Maximum number of pixels of a frame, which FFmpeg itself respects when it looks at frames
        to find out what the file contains.

    Yields
    ------
    OpenVideo
        The file's film, as `best_stream` chooses it.

    Raises
    ------
    ImportError
        If PyAV is not installed.
    FileNotFoundError
        If the file does not exist.
    RefusedVideoError
        If the path leads to a folder, a named pipe, a device or a socket, or an MP4 file claims far
        more frames than it can contain.
    VideoDecodeError
        If the file cannot be read, its format is not among those that are read, it refers to other
        files, or it contains no video stream, or only pictures, such as the cover of sound.
    """
    av: Any = import_optional("av", "video", "Reading a video file")
    name = fspath(path)
    with _named_errors(av, name), _open_file(name) as file:
        source = _Nameless(file)
        options = dict(_OPTIONS)
        _check_claims(name, file, source.n_bytes)
        if max_pixels is not None:
            most = most_pixels(source.n_bytes, _LEAST_BYTES_PER_PIXEL)
            options["max_pixels"] = str(min(most, max_pixels))
        pictures: frozenset[int] = frozenset()
        with _open_container(av, name, source, options) as container:
            is_unclear = has_unclear_streams(container)
            pictures = single_pictures(container)
            if not is_unclear:
                stream = _video_stream(container, name, pictures)
                yield OpenVideo(name, file, source.n_bytes, container, stream)
                return
        # Packets have been read, and seeking is not exact.
        source.seek(0, os.SEEK_SET)
        with _open_container(av, name, source, options) as container:
            stream = _video_stream(container, name, pictures)
            yield OpenVideo(name, file, source.n_bytes, container, stream)


def _open_file(name: str) -> BinaryIO:
    try:
        return open_regular_file(name)
    except ValueError as error:
        advice = ": skdejavid.find_videos lists the videos in it" if os.path.isdir(name) else ""
        raise RefusedVideoError(f"{error}{advice}") from None


def _check_claims(name: str, file: BinaryIO, n_bytes: int) -> None:
    cost = bytes_of_samples(file, n_bytes)
    if cost > bytes_for(n_bytes):
        raise RefusedVideoError(
            f"{name}: the frames that it claims to have would take {cost / 1e6:.4g} MB, too much "
            f"for a file of {n_bytes} bytes (at most {bytes_for(n_bytes) / 1e6:.4g} MB)"
        )


class _Nameless:
    """The bytes of a file, for FFmpeg, which must not know a name that others are relative to."""

    def __init__(self, file: BinaryIO) -> None:
        self.n_bytes = os.fstat(file.fileno()).st_size
        self._file = file
        self.read: Callable[[int], bytes] = file.read
        self.tell: Callable[[], int] = file.tell

    def seek(self, offset: int, whence: int) -> int:
        """Return the new position, or -1 as FFmpeg expects if there is no such position."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return -1


def _open_container(av: Any, name: str, source: _Nameless, options: dict[str, str]) -> Any:
    def refuse(url: str, flags: int, options: object) -> Never:
        raise VideoDecodeError(f"{name} refers to another file, {url!r}, which is not opened")

    try:
        return av.open(
            source,
            "r",
            options=options,
            metadata_errors="replace",
            buffer_size=_BUFFER,
            io_open=refuse,
        )
    except (av.ArgumentError, av.error.InvalidDataError) as error:
        # A format that is recognized and not allowed is an ArgumentError.
        source.seek(0, os.SEEK_SET)
        start = source.read(64).lstrip(b"\xef\xbb\xbf \r\n\t")
        kind = next((kind for text, kind in _TEXTS.items() if start.startswith(text)), None)
        if kind is None and not isinstance(error, av.ArgumentError):
            raise
        raise VideoDecodeError(
            f"{name} is {kind or 'of another format'}, expected a video in one file, in one of the "
            f"formats {', '.join(_DEMUXERS)}"
        ) from error


def _video_stream(container: Any, name: str, pictures: frozenset[int]) -> Any:
    if not container.streams.video:
        raise VideoDecodeError(f"{name}: no video stream")
    stream = best_stream(container, pictures)
    if stream is None:
        raise VideoDecodeError(
            f"{name}: contains only a cover picture, or other pictures that are no video"
        )
    if stream.codec_context is None:
        raise VideoDecodeError(f"{name}: FFmpeg cannot decode the codec of the video stream")
    return stream


@contextmanager
def _named_errors(av: Any, name: str) -> Generator[None]:
    """Raise errors of FFmpeg and of reading the file as VideoDecodeErrors that name the file."""
    try:
        yield
    except (VideoDecodeError, FileNotFoundError):
        raise
    except (av.FFmpegError, OSError, UnicodeDecodeError) as error:
        raise VideoDecodeError(f"{name}: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """Return what FFmpeg says, without the name that it does not know."""
    return getattr(error, "strerror", None) or str(error)
