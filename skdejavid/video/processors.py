"""What a Hugging Face model expects of its input, as its config and processor describe it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.optional import import_optional

__all__ = ["InputSpec", "input_spec", "remember_processor"]

# Processor settings of models that were loaded by name.
_processors: WeakKeyDictionary[Any, dict[str, Any] | None] = WeakKeyDictionary()


class InputSpec(NamedTuple):
    """Input that an encoder expects; None if unknown."""

    layout: str  # BTCHW or BCHW
    clip_length: int | None
    shorter_side: int | None  # frames are scaled until their shorter side has this size
    crop: int | None  # side of the centered square that scaled frames are cropped to
    mean: list[float] | None  # for values between 0 and 1
    std: list[float] | None
    # Scales and crops a frame of bytes, (height, width, 3) to (3, height, width).
    geometry: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None


def remember_processor(model: Any, name: str) -> None:
    """Read the processor of a model that was loaded by name or folder, for `input_spec`."""
    _processors[model] = _read_processor(name)


def input_spec(model: Any) -> InputSpec:
    """Return the input that a Hugging Face model expects."""
    config = model.config
    clip_length = getattr(config, "num_frames", None) or getattr(config, "frames_per_clip", None)
    layout = "BCHW" if clip_length is None else "BTCHW"
    size = getattr(config, "image_size", None) or getattr(config, "crop_size", None)
    size = size if size is None or isinstance(size, int) else min(size)
    processor = _processors.get(model)
    if processor is None:
        return InputSpec(layout, clip_length, size, size, None, None)
    return InputSpec(
        layout, clip_length, *_frame_sizes(processor, size), *_normalization(processor)
    )


def _frame_sizes(processor: dict[str, Any], size: int | None) -> tuple[int | None, int | None]:
    """Return the shorter side that frames are scaled to, and the side that they are cropped to.

    Parameters
    ----------
    processor : dict
        Settings of the model's image processor.
    size : int or None
        The model's own input size, for processors that name none.
    """
    crops = processor.get("do_center_crop", "crop_size" in processor)
    crop = _shorter_side(processor.get("crop_size")) if crops else None
    scaled = _shorter_side(processor.get("size")) if processor.get("do_resize", True) else None
    crop = crop or scaled or size
    return scaled or crop, crop


def _shorter_side(size: Any) -> int | None:
    """Return the shorter side of a processor's size, an int or a mapping such as height, width."""
    sizes = [size] if isinstance(size, int) else list(dict(size or {}).values())
    return min((side for side in sizes if side is not None), default=None)


def _normalization(processor: dict[str, Any]) -> tuple[list[float] | None, list[float] | None]:
    """Return mean and std, for values x between 0 and 1, that are equivalent to a processor.

    The processor computes ``(255 * factor * x - offset - mean) / std``.
    """
    scale, offset = 255.0, 0.0
    if processor.get("do_rescale", True):
        scale *= processor.get("rescale_factor", 1 / 255)
        offset = float(processor.get("offset", False))
    mean, std = np.zeros(3), np.ones(3)
    if processor.get("do_normalize", "image_mean" in processor):
        mean, std = (np.asarray(processor[f"image_{name}"], float) for name in ("mean", "std"))
    mean, std = (offset + mean) / scale, std / scale
    if np.allclose(mean, 0) and np.allclose(std, 1):
        return None, None
    return mean.tolist(), std.tolist()


def _read_processor(name: str) -> dict[str, Any] | None:
    """Read the settings of a model's processor, whose class itself may need torchvision."""
    hub: Any = import_optional("transformers.utils.hub", "transformers", "An encoder given by name")
    for file in ("video_preprocessor_config.json", "preprocessor_config.json"):
        path = hub.cached_file(name, file, _raise_exceptions_for_missing_entries=False)
        if path is not None:
            return dict(json.loads(Path(path).read_text()))
    return None
