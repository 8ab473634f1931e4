"""Settings of an extraction that a file contains, which somebody else may have written."""

from __future__ import annotations

import math
from typing import Any

from skdejavid.video.extractor import TSEExtractor

__all__ = ["has_settings", "set_settings"]

# The extractor's parameters that a file may set: those that decide what an embedding is.
_SETTINGS = (
    *("width", "stride", "clip_length", "layout", "frame_size", "mean", "std", "features", "head"),
    "autocast",
)

# The largest number, and size of a clip, that a model's file may set.
_LARGEST_SETTING, _MOST_BYTES_PER_CLIP = 2**24, 2**31


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
    if own["encoder"] != stored["encoder"]:
        raise ValueError(f"--encoder is not the encoder of the training data of {path}")
    _check_sizes({name: stored[name] for name in _SETTINGS}, path)
    settings = {name: stored[name] for name in _SETTINGS if own[name] != stored[name]}
    if settings.get("frame_size") == [None, None]:
        settings["frame_size"] = None
    extractor.set_params(**settings)
    own = extractor.store_fingerprint()
    differing = [name for name in own if own[name] != stored.get(name)]
    if differing == ["processor"]:
        raise ValueError(
            f"frames of the training data of {path} were prepared by the processor "
            f"{stored.get('processor')}, but that of --encoder is {own['processor']}: pass the "
            "other one with --processor"
        )
    if differing:
        raise ValueError(
            f"{path} was made with settings that this version cannot repeat, those of "
            f"{', '.join(differing)}: extract the videos again, into another store"
        )


def _check_sizes(settings: dict[str, Any], path: str) -> None:
    """Check that the settings in a file make clips that fit into memory."""
    for name, value in settings.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, (int, float)) and not abs(number) <= _LARGEST_SETTING:
                raise ValueError(f"{path} sets {name} to a number beyond {_LARGEST_SETTING}")
    size = settings["frame_size"]
    sides = [side for side in (size if isinstance(size, list) else [size, size]) if side]
    numbers = [settings["clip_length"], *sides]
    n_bytes = 12 * math.prod(n for n in numbers if isinstance(n, int))  # of three float32
    if n_bytes > _MOST_BYTES_PER_CLIP:
        raise ValueError(
            f"{path} sets clip_length and frame_size to {numbers}: a clip would have {n_bytes} "
            f"bytes, and a file may set at most {_MOST_BYTES_PER_CLIP}"
        )
