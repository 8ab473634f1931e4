"""Video processors of transformers without torchvision.

Their classes are written for torchvision, and use four of its functions. Here these are written
with torch, on which torchvision's are built: for bytes on a CPU the results are the same.
"""

from __future__ import annotations

import importlib
from typing import Any

from skdejavid.compat.optional import import_optional

__all__ = ["make_video_processor"]

# Numbers of filters in Pillow, and their names in torch.
_FILTERS = {2: "bilinear", 3: "bicubic"}


def make_video_processor(settings: dict[str, Any], model_type: str) -> Any:
    """Return the video processor with these settings.

    Parameters
    ----------
    settings : dict
        Content of the processor's file. It names the class; older files name the class of an image
        processor, or none.
    model_type : str
        The type of the model, which has a class of its own.

    Raises
    ------
    ValueError
        If transformers has no such class, or the class needs torchvision for more than that.
    """
    name = settings.get("video_processor_type")
    kind = _class_of(name, model_type)
    try:
        with_torch = type(kind.__name__, (_WithTorch, kind), {"__module__": kind.__module__})
        return with_torch(**settings)
    except Exception as error:  # other functions of torchvision are not there, not even their names
        raise ValueError(
            f"the video processor {name or 'of ' + repr(model_type)} needs torchvision, which is "
            "not installed: pip install torchvision"
        ) from error


class _WithTorch:
    """The functions of torchvision that video processors use, for RGB frames (..., 3, h, w)."""

    def convert_to_rgb(self, video: Any) -> Any:
        return video

    def resize(self, image: Any, size: Any, resample: Any = None, **options: Any) -> Any:
        """Scale frames to exact sides, or until the shorter one has a length."""
        torch: Any = import_optional("torch", "video", "TSEExtractor")
        target = _target(tuple(image.shape[-2:]), size)
        if target == tuple(image.shape[-2:]):
            return image
        mode = _FILTERS.get(2 if resample is None else int(resample))
        if mode is None:
            raise ValueError(f"the filter {resample} needs torchvision")
        frames = image.reshape(-1, *image.shape[-3:])
        scaled = torch.nn.functional.interpolate(frames, size=target, mode=mode, antialias=True)
        return scaled.reshape(*image.shape[:-2], *target)

    def center_crop(self, image: Any, size: Any, **options: Any) -> Any:
        """Cut the center out of frames; smaller ones get a black border."""
        torch: Any = import_optional("torch", "video", "TSEExtractor")
        missing = [
            max(want - has, 0) for want, has in zip(_sides(size), image.shape[-2:], strict=True)
        ]
        if any(missing):
            (high, wide) = missing
            border = (wide // 2, (wide + 1) // 2, high // 2, (high + 1) // 2)
            image = torch.nn.functional.pad(image, border)
        height, width = _sides(size)
        top, left = (
            int((has - want) / 2)
            for has, want in zip(image.shape[-2:], (height, width), strict=True)
        )
        return image[..., top : top + height, left : left + width]

    def normalize(self, image: Any, mean: Any, std: Any, **options: Any) -> Any:
        """Subtract means of channels and divide by standard deviations."""
        torch: Any = import_optional("torch", "video", "TSEExtractor")
        mean, std = (torch.as_tensor(x, dtype=image.dtype).reshape(-1, 1, 1) for x in (mean, std))
        return (image - mean) / std


def _sides(size: Any) -> tuple[int, int]:
    if not (size.height and size.width):
        raise ValueError(f"a crop needs height and width, got {size}")
    return size.height, size.width


def _target(sides: tuple[int, int], size: Any) -> tuple[int, int]:
    """Return height and width after scaling."""
    if size.height and size.width:
        return size.height, size.width
    if not size.shortest_edge or size.longest_edge:
        raise ValueError(f"the size {size} needs torchvision")
    shorter, longer = min(sides), max(sides)
    scaled = size.shortest_edge, int(size.shortest_edge * longer / shorter)
    return scaled if sides[0] <= sides[1] else scaled[::-1]


def _class_of(name: str | None, model_type: str) -> Any:
    """Return the class of a name, or the one for a type of models if `name` is None."""
    transformers: Any = import_optional("transformers", "transformers", "processor")
    if name is None:
        folder = model_type.replace("-", "_")
        module = f"transformers.models.{folder}.video_processing_{folder}"
    else:
        # Without torchvision this is another class, which only raises an error.
        module = getattr(getattr(transformers, name, None), "__module__", "")
        if "video_processing" not in module:
            return None
    try:
        defined = importlib.import_module(module)
    except ImportError:
        return None
    return getattr(defined, name or defined.__all__[0])
