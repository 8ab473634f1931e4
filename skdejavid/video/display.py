"""How the frames of a file are shown: with which shape of pixels, mirrored and turned.

A camera stores frames as its sensor reads them, and says in the file how to show them. What is done
here is what players and the ffmpeg command do.
"""

from __future__ import annotations

from fractions import Fraction
from math import cos, hypot, radians, sin, tan
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av

__all__ = ["Display", "DisplayReader"]

_SQUARE = Fraction(1)

# Pixels of real formats are at most three times as long as wide. More is no shape but an error, and
# would make a small file's frames huge.
_MOST_STRETCHED = 16

# How far a matrix may be from quarter turns, as of the ffmpeg command.
_TOLERANCE = tan(radians(1))


class Display(NamedTuple):
    """How a frame is shown: stretched, then transposed, then mirrored."""

    pixel_aspect: Fraction = _SQUARE  # width of a stored pixel by its height
    is_transposed: bool = False
    is_mirrored: bool = False  # left and right are exchanged
    is_upside_down: bool = False  # top and bottom are exchanged

    def stretched(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width at which pixels are square.

        One side grows and none shrinks, as in players, so that no detail is lost.
        """
        if self.pixel_aspect is _SQUARE:
            return height, width  # at once, as it is asked for each frame
        if self.pixel_aspect > 1:
            return height, round(width * self.pixel_aspect)
        return round(height / self.pixel_aspect), width

    def shown(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of a stored frame of this size when it is shown."""
        height, width = self.stretched(height, width)
        return (width, height) if self.is_transposed else (height, width)

    def orient(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return stretched pixels (height, width, 3) as they are shown, contiguous."""
        if self.is_transposed:
            pixels = pixels.transpose(1, 0, 2)
        if self.is_mirrored:
            pixels = pixels[:, ::-1]
        if self.is_upside_down:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)


class DisplayReader:
    """Reader of how each decoded frame of a stream is shown.

    What a stream says about it may only change at a key frame. A stream need not repeat it before
    the next one, and the decoder is ahead of the frames that it returns.

    Parameters
    ----------
    stream : av.VideoStream
        Before its first frame is decoded.
    """

    def __init__(self, stream: av.VideoStream) -> None:
        self._codec = stream.codec_context
        self._of_file = stream.sample_aspect_ratio
        # What the file says is valid for all frames, whatever the codec says.
        self._is_of_codec = self._of_file == self._codec.sample_aspect_ratio
        self._display: Display | None = None

    def read(self, frame: av.VideoFrame) -> Display:
        """Return how a frame, the next one of the stream, is shown.

        Raises
        ------
        ValueError
            If it is shown turned by another angle than quarter turns, or its pixels are over 16
            times as long as wide.
        """
        if self._display is None or frame.key_frame:
            aspect = self._codec.sample_aspect_ratio if self._is_of_codec else self._of_file
            self._display = Display(_check_aspect(aspect), *_orientation(*_matrix(frame)))
        return self._display


def _check_aspect(aspect: Fraction | None) -> Fraction:
    if not aspect or aspect < 0 or aspect == 1:
        return _SQUARE  # or unknown
    if not 1 <= _MOST_STRETCHED * aspect <= _MOST_STRETCHED**2:
        raise ValueError(
            f"the file says that its pixels are {float(aspect):.4g} times as wide as high, and "
            f"no side may be over {_MOST_STRETCHED} times as long as the other: for square pixels "
            "use 'ffmpeg -i FILE -vf setsar=1 video.mp4'"
        )
    return aspect


def _matrix(frame: av.VideoFrame) -> tuple[float, float, float, float]:
    """Return a, b, c, d: what is at (x, y) is shown at (a x + c y, b x + d y)."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV cannot list the data of a frame if it does not know one of them, such as EXIF, in
        # which cameras turn frames, and do not mirror them.
        angle = radians(frame.rotation)  # counterclockwise, where y points downwards
        return cos(angle), -sin(angle), sin(angle), cos(angle)
    if matrix is None:
        return 1.0, 0.0, 0.0, 1.0
    a, b, _, c, d = np.frombuffer(cast("bytes", matrix), np.int32)[:5].tolist()
    return float(a), float(b), float(c), float(d)


def _orientation(a: float, b: float, c: float, d: float) -> tuple[bool, bool, bool]:
    """Return whether a matrix transposes, and then exchanges left and right, top and bottom."""
    if not (hypot(a, c) and hypot(b, d)):
        return False, False, False  # it shows nothing, and is ignored
    if max(abs(b), abs(c)) <= _TOLERANCE * min(abs(a), abs(d)):
        return False, a < 0, d < 0
    if max(abs(a), abs(d)) <= _TOLERANCE * min(abs(b), abs(c)):
        return True, c < 0, b < 0
    raise ValueError(
        "the file says that its frames are to be turned by another angle than quarter turns: turn "
        "them with 'ffmpeg -i FILE video.mp4'"
    )
