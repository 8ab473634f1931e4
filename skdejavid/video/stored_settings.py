"""Settings of an extraction that a file contains, which somebody else may have written."""

from __future__ import annotations

import math
from typing import Any

from skdejavid.video.extractor import TSEExtractor
from skdejavid.video.stored import difference_of_processors

__all__ = ["has_settings", "set_settings"]

# The extractor's parameters that a file may set: those that decide what an embedding is.
_SETTINGS = (
    *("width", "stride", "clip_length", "layout", "frame_size", "mean", "std", "features", "head"),
    "autocast",
)

# The largest number, and size of a clip, that a model's file may set.
_LARGEST_SETTING, _MOST_BYTES_PER_CLIP = 2**24, 2**31

_USUAL_SIDE = 224  # of frames that keep their size, which is not known yet

# What follows from a processor.
_BY_PROCESSOR = {"processor", "frame_size", "mean", "std"}


def has_settings(stored: Any) -> bool:
    """Return whether an object from a file contains all settings of an extraction."""
    return isinstance(stored, dict) and all(name in stored for name in ["encoder", *_SETTINGS])


def set_settings(extractor: TSEExtractor, stored: dict[str, Any], path: str) -> None:
    """Let an extractor make the clips that the settings in a file describe.

    What is so by default stays "auto": with a pretrained model this says more than the sizes.

    Parameters
    ----------
    extractor : TSEExtractor
        Has an encoder, and other parameters by default.
    stored : dict
        Settings, as `has_settings` accepts them.
    path : str
        The file, for messages.

    Raises
    ------
    ValueError
        If the settings are those of another encoder, too large, or none that the extractor can
        have.
    """
    own = extractor.store_fingerprint()
    _check_encoder(extractor, stored["encoder"], own["encoder"], path)
    _check_sizes({name: stored[name] for name in _SETTINGS}, own, path)
    settings = {name: stored[name] for name in _SETTINGS if own[name] != stored[name]}
    if settings.get("frame_size") == [None, None]:
        settings["frame_size"] = None
    extractor.set_params(**settings)
    own = extractor.store_fingerprint()
    differing = [name for name in own if own[name] != stored.get(name)]
    if "processor" in differing and set(differing) <= _BY_PROCESSOR:
        difference = difference_of_processors(stored.get("processor"), own["processor"])
        raise ValueError(f"{path} was made with other frames: {difference}")
    if differing:
        raise ValueError(
            f"{path} was made with settings that this version cannot repeat, those of "
            f"{', '.join(differing)}: extract the videos again, into another store"
        )


def _check_encoder(extractor: TSEExtractor, stored: Any, own: str, path: str) -> None:
    if own == stored:
        return
    if extractor.encoder_id is None:
        hint = f"if {stored!r} is a name that was given with --encoder-id, give it again"
    else:
        hint = "if no --encoder-id was given then, leave it out"
    raise ValueError(
        f"{path} was made with the encoder {stored!r}, which is not that of --encoder, {own!r}: "
        f"pass the same encoder; {hint}"
    )


def _sides(size: Any, own: dict[str, Any]) -> list[Any]:
    """Return height and width of the frames of a clip."""
    if size == "auto":
        size = own["processor"]["size"] if own["processor"] else own["frame_size"]
    sides = size if isinstance(size, list) else [size, size]
    return [side or _USUAL_SIDE for side in sides]


def _check_sizes(settings: dict[str, Any], own: dict[str, Any], path: str) -> None:
    """Check that the settings in a file make clips that fit into memory.

    `own` are those of the extractor, whose processor has a size.
    """
    for name, value in settings.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, (int, float)) and not abs(number) <= _LARGEST_SETTING:
                raise ValueError(f"{path} sets {name} to a number beyond {_LARGEST_SETTING}")
    length = settings["width"] if settings["clip_length"] is None else settings["clip_length"]
    numbers = [length, *_sides(settings["frame_size"], own)]
    n_bytes = 12 * math.prod(n for n in numbers if isinstance(n, int))  # of three float32
    if n_bytes > _MOST_BYTES_PER_CLIP:
        raise ValueError(
            f"{path} sets clip_length and frame_size to {numbers}: a clip would have {n_bytes} "
            f"bytes, and a file may set at most {_MOST_BYTES_PER_CLIP}"
        )
