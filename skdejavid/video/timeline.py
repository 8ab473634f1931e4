"""Times of packets that run on, also where a file jumps to other times.

Transport and program streams may be joined end to end, and recorders begin again at 0: what is
behind a joint has the times of another clock. It follows what was before, as in the ffmpeg command.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av

__all__ = ["Timeline"]

# Formats whose times may jump forwards as well; elsewhere a long pause is one.
_FORMATS_WITH_JUMPS = ("mpeg", "mpegts")
_LONGEST_PAUSE = 10  # seconds, in these formats

# How far decoding times of packets that are no key frames run back at a joint, in seconds: where
# packets have no such times, FFmpeg guesses them, and is a few frames off.
_LEAST_RUN_BACK = Fraction(1, 2)

_DEFAULT_RATE = 25  # frames per second

_LATEST = 2**62  # FFmpeg's times have 64 bits


class Timeline:
    """The times of the packets of one stream.

    Parameters
    ----------
    container : av.container.InputContainer
        The file.
    stream : av.VideoStream
        Its stream.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        rate = stream.average_rate or stream.guessed_rate or _DEFAULT_RATE
        unit = stream.time_base
        self._frame = max(round(1 / (rate * unit)), 1) if unit else 1
        self._least_run_back = round(_LEAST_RUN_BACK / unit) if unit else 0
        has_jumps = container.format.name in _FORMATS_WITH_JUMPS
        self._longest_pause = round(_LONGEST_PAUSE / unit) if unit and has_jumps else None
        self._shift = 0
        # Of the part since the last joint, in its own times.
        self._latest: int | None = None  # the latest start of a frame
        self._end = 0  # of that frame
        self._decoding_time: int | None = None

    def shift(self, packet: Any) -> None:
        """Move the times of a packet, the next one of the stream, so that they run on."""
        if packet.pts is None or packet.size == 0:
            return
        if not packet.is_discard:
            if self._latest is not None and self._is_joint(packet):
                self._shift += self._end - packet.pts
                self._latest = None
            self._see(packet)
        if self._shift:
            packet.pts = _within(packet.pts + self._shift)
            if packet.dts is not None:
                packet.dts = _within(packet.dts + self._shift)

    def _is_joint(self, packet: Any) -> bool:
        assert self._latest is not None
        if self._longest_pause is not None and packet.pts - self._end > self._longest_pause:
            return True
        if packet.pts >= self._latest:
            return False
        if packet.is_keyframe:
            # All frames that are decoded before a key frame are shown before it.
            return bool(packet.pts < self._latest - self._frame)
        if packet.dts is None or self._decoding_time is None:
            return False
        return bool(packet.dts < self._decoding_time - self._least_run_back)

    def _see(self, packet: Any) -> None:
        if self._latest is None or packet.pts >= self._latest:
            self._latest = packet.pts
            self._end = packet.pts + (packet.duration or self._frame)
        self._decoding_time = packet.dts


def _within(time: int) -> int:
    return min(max(time, -_LATEST), _LATEST)
