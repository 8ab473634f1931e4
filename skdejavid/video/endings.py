"""Where a file says that it ends, to notice that its end is missing.

Some formats declare how long the video is, some how long the whole file is, which may be the sound,
and some consist of units that declare their sizes. Others (program and transport streams, NUT, bare
streams) declare nothing: a part of them is a shorter video.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

from skdejavid.video.units import is_cut

if TYPE_CHECKING:
    import av

__all__ = ["Ending"]

# Formats, by their first name, whose stream declares when it ends, or whose file does.
_OF_STREAM = {"mov", "avi", "mxf", "ivf"}
_OF_FILE = {"matroska", "flv", "asf"}

# Decoders may keep back the last frames, and headers count frames that are hidden.
_FRAMES_OF_TOLERANCE = 2


class Ending:
    """The end of a file: what it declares, and what has been read.

    Parameters
    ----------
    container : av.container.InputContainer
        The file.
    stream : av.VideoStream
        The stream whose frames are read.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        self._kind = container.format.name.partition(",")[0]
        self._container = container
        self._stream: Any = stream
        # AVI files may count in small units, and call each unit a frame.
        rates = [rate for rate in (stream.average_rate, stream.guessed_rate) if rate]
        self._frame = Fraction(1, 1) / min(rates) if rates else None  # seconds
        self._latest: int | None = None  # when the latest frame begins, in the stream's time base
        self._duration = 0  # of that frame
        self._index = stream.index
        self._end_of_others = Fraction(0)

    @property
    def streams(self) -> list[Any]:
        """The streams whose packets have to be seen."""
        return list(self._container.streams) if self._kind in _OF_FILE else [self._stream]

    def see(self, packet: Any) -> None:
        """Take notice of a packet, the next one of these streams."""
        is_other = packet.stream.index != self._index and packet.size > 0
        if is_other and packet.pts is not None and packet.time_base:
            end = (packet.pts + (packet.duration or 0)) * packet.time_base
            self._end_of_others = max(self._end_of_others, end)

    def see_frame(self, frame: Any) -> None:
        """Take notice of a frame, the next one that was decoded."""
        start = frame.pts
        # In MP4, durations of other frames are those of the order in which they are decoded.
        if start is not None and (self._latest is None or start >= self._latest):
            self._latest, self._duration = start, frame.duration

    def missing(self, file: BinaryIO, n_bytes: int) -> str | None:
        """Return what is missing at the end, in words, or None if nothing is.

        Parameters
        ----------
        file : binary file
            The file, of which nothing else is read any more.
        n_bytes : int
            Its size.
        """
        if is_cut(file, n_bytes):
            return "the file ends inside of its frames"
        declared = self._declared(n_bytes)
        if declared is None or self._latest is None or self._frame is None:
            return None
        start, until = declared
        unit = self._stream.time_base
        end = self._latest * unit + (self._duration * unit or self._frame)
        missing = until - max(end, self._end_of_others)
        if missing <= _FRAMES_OF_TOLERANCE * self._frame:
            return None
        return f"{float(missing):.2f} s of {float(until - start):.2f} s are missing"

    def _declared(self, n_bytes: int) -> tuple[Fraction, Fraction] | None:
        """Return when the video, or the whole file, begins and ends, in seconds."""
        stream = self._stream
        if self._kind in _OF_FILE and self._container.duration:
            return Fraction(0), Fraction(self._container.duration, 10**6)
        if self._kind not in _OF_STREAM or stream.duration is None:
            return None
        duration = stream.duration
        if self._kind == "avi":
            if stream.frames > n_bytes:
                return None  # written to a pipe, before the number was known
            # FFmpeg replaces the duration in the header by one of what is there. Frames have a
            # time each, also those that repeat the one before and are not there.
            duration = max(duration, stream.frames)
        start = stream.start_time or 0
        return start * stream.time_base, (start + duration) * stream.time_base
