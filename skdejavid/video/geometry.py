"""What the processor of a Hugging Face model does to a frame, measured with small pictures.

A processor scales, crops and reorders a frame, all in bytes, and then computes numbers of each
byte. The first part, the geometry, is done by the processor itself, for each frame once. The second
is ``(x / 255 - mean) / std``, which is faster for batches and on a device. What a processor would
do otherwise is not guessed: if the two parts do not give what the whole does, it is refused.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from hashlib import sha256
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from skdejavid.video.decoding import scaled_size

__all__ = ["Geometry", "geometry_of"]

# Steps that depend on single values only, as processors name them, and sampling of frames.
_SWITCHES = ("do_rescale", "do_normalize", "include_top", "offset", "rescale_offset")
_SAMPLING = "do_sample_frames"

_TOLERANCE = 1e-3  # of the deviation by which pixels are divided
_DIGITS = 6  # of numbers that are measured in single precision
_NOISE = 1e-5  # by which they may differ from the numbers that they are

# Height and width of pictures that a processor is tried with; numbers that are no integers are
# factors of the height and width of its results. The narrow ones show limits of the longer side.
_PROBES = ((64, 96), (96, 64), (33, 47), (1.1, 1.4), (1.4, 1.1), (16, 128), (128, 16))


class _OtherOutputError(Exception):
    """Error raised if a processor returns something else than pixels."""


class Geometry:
    """The scaling, the cropping and the order of channels of a processor.

    Calling it with a frame (height, width, 3) of bytes, RGB, returns bytes (3, height, width).

    Attributes
    ----------
    mean, std : list of 3 floats or None
        What the processor does to bytes x is ``(x / 255 - mean) / std``. None if that is
        ``x / 255``.
    size : tuple of 2 ints
        Height and width of its results.
    order : tuple of 3 ints
        Channels of the frame that its results consist of; (2, 1, 0) for BGR.
    description : dict
        Class, size and hash of the results for some pictures, as a store records them.

    Raises
    ------
    ValueError
        If the processor does anything else.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = copy.deepcopy(processor)  # its owner may change it
        self._off = {name: False for name in _SWITCHES if hasattr(processor, name)}
        black, white = self._flat(0, 0, 0), self._flat(255, 255, 255)
        whole_black, whole_white = self._whole(black), self._whole(white)
        self.size = whole_black.shape[1:]
        middle = (slice(None), self.size[0] // 2, self.size[1] // 2)
        step = (whole_white[middle] - whole_black[middle]).astype(np.float64)
        if not (np.isfinite(step).all() and (step > 0).all()):
            self._refuse("it does not scale pixels by a positive number")
        mean = self._exact("image_mean", -whole_black[middle] / step)
        std = self._exact("image_std", 1 / step)
        self.order = self._measure_order(middle)
        is_plain = mean == [0.0] * 3 and std == [1.0] * 3
        self.mean: list[float] | None = None if is_plain else mean
        self.std: list[float] | None = None if is_plain else std
        digest = sha256()
        for picture in _pictures(self.size):
            found = self._check(picture, np.asarray(mean), np.asarray(std))
            digest.update(found.tobytes())
        self.description = {
            "class": type(processor).__name__,
            "size": list(self.size),
            "pixels": digest.hexdigest()[:16],
        }

    def __call__(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the bytes (3, height, width) that the processor makes of a frame.

        Raises
        ------
        ValueError
            If it fails for this frame, or makes something else of it than of the small pictures.
        """
        pixels = self._bytes(frame)
        if pixels.shape[1:] != self.size:
            self._refuse_size(pixels.shape[1:])
        return np.ascontiguousarray(pixels)

    def scaled_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width that a frame of this size is scaled to before it is cropped.

        They are about those of the processor; what it scales frames to is known from its settings.
        """
        sides: Any = getattr(self._processor, "size", None)
        shortest = sides.get("shortest_edge") if hasattr(sides, "get") else None
        if shortest is None:
            return self.size
        return scaled_size(size, max(shortest, *self.size))

    def _exact(self, setting: str, measured: NDArray[np.float64]) -> list[float]:
        """Return measured numbers without noise: those of a setting, if they are these."""
        named = getattr(self._processor, setting, None)
        if named is not None and np.shape(named) in ((), (3,)):
            expected = np.broadcast_to(np.asarray(named, dtype=np.float64), 3)
            if np.allclose(measured, expected, rtol=_NOISE, atol=_NOISE):
                return [float(value) for value in expected]
        return [_rounded(value) for value in measured]

    def _measure_order(self, middle: Any) -> tuple[int, ...]:
        """Return the channel of the frame that each channel of the result comes from."""
        colors = np.eye(3, dtype=int) * 255
        seen = np.array([self._bytes(self._flat(*color))[middle] for color in colors])
        order = seen.argmax(axis=0)
        if sorted(order) != [0, 1, 2] or (seen[order, range(3)] != 255).any() or seen.sum() != 765:
            self._refuse("it mixes colors")
        return tuple(order.tolist())

    def _check(
        self, picture: NDArray[np.uint8], mean: NDArray[np.float64], std: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        """Check that both parts give what the processor gives; return the bytes."""
        whole, pixels = self._whole(picture), self._bytes(picture)
        if whole.shape[1:] != self.size or pixels.shape != whole.shape:
            self._refuse_size(whole.shape[1:], pixels.shape[1:])
        parts = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
        difference = float(abs(parts - whole).max())
        if not difference <= _TOLERANCE:
            self._refuse(
                "its results are not those of scaled bytes, which differ by "
                f"{difference:.2g} standard deviations"
            )
        return pixels

    def _flat(self, *color: int) -> NDArray[np.uint8]:
        return np.full((64, 96, 3), color, dtype=np.uint8)

    def _whole(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        return self._try(picture, {})

    def _bytes(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        pixels = self._try(picture, self._off)
        if pixels.dtype != np.uint8:
            self._refuse(f"it scales numbers of type {pixels.dtype} and not bytes")
        return pixels

    def _try(self, picture: NDArray[np.uint8], switches: dict[str, bool]) -> NDArray[Any]:
        try:
            result = _run(self._processor, picture, switches)
        except _OtherOutputError as error:
            self._refuse(str(error))
        except Exception as error:  # whatever a processor needs that is not there
            reason = " ".join(str(error).split())
            self._refuse(f"it fails for a picture of {picture.shape[:2]} pixels: {reason}", error)
        if result.ndim != 3 or len(result) != 3:
            self._refuse(
                f"it makes an array of shape {result.shape} of a picture, not (3, height, width)"
            )
        return result

    def _refuse_size(self, *found: tuple[int, ...]) -> NoReturn:
        sizes = sorted({self.size, *found})
        self._refuse(f"the size of its results depends on that of the picture: {sizes}")

    def _refuse(self, reason: str, cause: Exception | None = None) -> NoReturn:
        raise ValueError(
            f"the processor {type(self._processor).__name__} is not supported, because {reason}. "
            "Pass frame_size, mean and std yourself, or a function as encoder that prepares "
            "its input itself"
        ) from cause


def geometry_of(processor: Any) -> Geometry:
    """Return the geometry of a processor, as measured; some are cached.

    Raises
    ------
    ValueError
        If the processor does more than scaling, cropping and normalizing each frame.
    """
    kind = type(processor)
    if not kind.__module__.startswith("transformers."):
        return Geometry(processor)  # what it does may depend on anything
    return _cached_geometry(_Key(kind, processor.to_json_string(), processor))


class _Key:
    """A processor, equal to others of the same class and with the same settings."""

    def __init__(self, kind: type, settings: str, processor: Any) -> None:
        self._identity = kind, settings
        self.processor = processor

    def __hash__(self) -> int:
        return hash(self._identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._identity == other._identity


@lru_cache(maxsize=4)
def _cached_geometry(key: _Key) -> Geometry:
    return Geometry(key.processor)


def _pictures(size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Return random pictures, smaller and larger than the results of a processor."""
    rng = np.random.RandomState(0)  # its numbers are the same in all versions of NumPy
    pictures = []
    for probe in _PROBES:
        sides = zip(size, probe, strict=True)
        shape = [p if isinstance(p, int) else int(side * p) for side, p in sides]
        pictures.append(rng.randint(0, 256, (*shape, 3)).astype(np.uint8))
    return pictures


def _run(processor: Any, frame: NDArray[np.uint8], switches: dict[str, bool]) -> NDArray[Any]:
    """Return what a processor makes of one frame, without the axes of batch and time."""
    # Torch takes neither negative strides nor, without a warning, memory that is read-only.
    frame = np.require(frame, requirements=("C", "W"))
    options: dict[str, Any] = dict(switches)
    # Axes would be guessed otherwise, wrongly for a frame that is 3 pixels high.
    options["input_data_format"] = "channels_last"
    if hasattr(processor, _SAMPLING):
        options[_SAMPLING] = False
        result = processor(frame[None], **options)
    else:
        result = processor([frame], **options)
    names = [name for name in result if name.startswith("pixel_values")]
    others = sorted(set(result) - {*names, "pixel_mask"})
    if len(names) != 1 or others:
        raise _OtherOutputError(f"it returns {sorted(result)} for a picture, not only pixel_values")
    pixels = result[names[0]]
    while isinstance(pixels, (list, tuple)) and len(pixels) == 1:
        pixels = pixels[0]
    pixels = np.asarray(pixels)
    while pixels.ndim > 3 and len(pixels) == 1:
        pixels = pixels[0]
    return pixels


def _rounded(value: float) -> float:
    """Return a measured number without the noise of single precision."""
    return 0.0 if abs(value) < 10**-_DIGITS else float(f"{value:.{_DIGITS}g}")
