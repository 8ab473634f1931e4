"""Load Hugging Face models by name or folder."""

from __future__ import annotations

import sys
from functools import lru_cache
from os import PathLike, fspath
from typing import Any

from skdejavid.compat.optional import import_optional
from skdejavid.video.processors import remember_processor

__all__ = ["is_pretrained", "load_encoder"]


def load_encoder(encoder: Any) -> Any:
    """Return the Hugging Face model if `encoder` is its name or folder, else `encoder` itself.

    Raises
    ------
    ImportError
        If `encoder` is a name and transformers is not installed.
    OSError
        If there is no such model.
    """
    return _load_pretrained(fspath(encoder)) if isinstance(encoder, (str, PathLike)) else encoder


def is_pretrained(encoder: Any) -> bool:
    """Return whether an encoder is a Hugging Face model."""
    transformers = sys.modules.get("transformers")
    return transformers is not None and isinstance(encoder, transformers.PreTrainedModel)


@lru_cache(maxsize=1)
def _load_pretrained(name: str) -> Any:
    """Load a video or image model by name or folder; the latest one is cached."""
    transformers: Any = import_optional("transformers", "transformers", "An encoder given by name")
    config = transformers.AutoConfig.from_pretrained(name)
    is_video = hasattr(config, "num_frames") or hasattr(config, "frames_per_clip")
    kind = "Video" if is_video else "Image"
    is_classifier = any("Classification" in n for n in getattr(config, "architectures", None) or [])
    auto = f"AutoModelFor{kind}Classification" if is_classifier else "AutoModel"
    model = getattr(transformers, auto).from_pretrained(name)
    remember_processor(model, name)
    return model
