"""The settings of an extraction: its parameters, with "auto" resolved for the encoder."""

from __future__ import annotations

import warnings
from os import fspath
from typing import Any, NamedTuple

import numpy as np

from skdejavid.compat.parameters import as_python
from skdejavid.video.clips import ClipSpec
from skdejavid.video.copies import module_of
from skdejavid.video.encoder_errors import as_device
from skdejavid.video.encoders import ClipEncoder
from skdejavid.video.fingerprints import fingerprint
from skdejavid.video.geometry import Geometry, geometry_of
from skdejavid.video.held_modules import held_by
from skdejavid.video.pretrained import is_pretrained, load_encoder
from skdejavid.video.processors import (
    InputSpec,
    check_clip_length,
    find_processor,
    input_spec,
    with_processor,
)
from skdejavid.video.sessions import first_tensor

__all__ = ["Settings", "describe", "make_encoder", "resolve_settings", "title_of"]

_PROCEDURE = 2  # increment it if the same parameters give different sequences than before


class Settings(NamedTuple):
    """Encoder and parameters, without "auto"."""

    encoder: Any
    spec: ClipSpec
    layout: str
    mean: Any
    std: Any
    processor: dict[str, Any] | None = None  # describes the geometry of frames


def resolve_settings(parameters: Any) -> Settings:
    """Load the encoder and resolve all parameters of a TSEExtractor that are "auto".

    Raises
    ------
    ImportError, OSError
        If the encoder is a name and cannot be loaded.
    RuntimeError
        If the device cannot be used.
    ValueError
        If a parameter is invalid, or the processor of the encoder is not found or not supported.
    """
    as_device(parameters.device)  # before anything is loaded
    encoder = load_encoder(parameters.encoder)
    expected = _expected_input(parameters, encoder)

    def resolve(name: str, default: Any) -> Any:
        value = as_python(getattr(parameters, name))
        if not (isinstance(value, str) and value == "auto"):
            return value
        by_encoder = None if expected is None else getattr(expected, name)
        return default if by_encoder is None else by_encoder

    layout = resolve("layout", "BCTHW")
    shorter_side, crop = _frame_size(parameters.frame_size, expected)
    geometry = expected.geometry if expected and _is_auto(parameters.frame_size) else None
    spec = ClipSpec(
        width=_as_length_or_tuple(parameters.width),
        stride=_as_length_or_tuple(parameters.stride),
        clip_length=resolve("clip_length", 16),
        one_by_one=layout == "BCHW",
        shorter_side=shorter_side,
        crop=crop,
        geometry=geometry,
        short=parameters.short,
        max_pixels=as_python(parameters.max_pixels),
    )
    spec.check()
    if is_pretrained(encoder):
        check_clip_length(encoder, 1 if spec.one_by_one else spec.n_frames)
    described = None if geometry is None else geometry.description
    return Settings(encoder, spec, layout, resolve("mean", None), resolve("std", None), described)


def make_encoder(parameters: Any, settings: Settings) -> ClipEncoder:
    """Return the encoder of a TSEExtractor with its settings."""
    return ClipEncoder(
        settings.encoder,
        layout=settings.layout,
        features=parameters.features,
        head=parameters.head,
        mean=settings.mean,
        std=settings.std,
        device=parameters.device,
        autocast=parameters.autocast,
    )


def _expected_input(parameters: Any, encoder: Any) -> InputSpec | None:
    """Return the input that the encoder expects, prepared by the processor if it is needed."""
    model = encoder if is_pretrained(encoder) else None
    expected = None if model is None else input_spec(model)
    names = ("frame_size", "mean", "std")
    wanted = [name for name in names if _is_auto(getattr(parameters, name))]
    processor = parameters.processor
    if model is None and _is_auto(processor) and wanted:
        _warn_of_models(parameters, encoder, wanted)
    if processor is None or not wanted or (model is None and _is_auto(processor)):
        return expected
    geometry = geometry_of(find_processor(model, processor))
    if "frame_size" not in wanted:
        _check_order(geometry, wanted)
    return with_processor(expected, geometry)


def _warn_of_models(parameters: Any, encoder: Any, wanted: list[str]) -> None:
    """Warn of Hugging Face models inside of an encoder, whose processors are not used."""
    held = [module_of(encoder), *held_by(encoder)]
    model = next((item for item in held if is_pretrained(item)), None)
    if model is not None:
        warnings.warn(
            f"the encoder contains a Hugging Face model ({type(model).__name__}), but is none, so "
            "that frames are not prepared by its processor: pass the model itself, or processor= "
            f"(a name, a folder or an object), or set {', '.join(wanted)} (mean=None and std=None "
            f"if the encoder normalizes pixels itself){_layout_hint(parameters, model)}",
            UserWarning,
            stacklevel=2,
        )


def _layout_hint(parameters: Any, model: Any) -> str:
    """Return what to add to a warning if the model inside of an encoder takes another layout."""
    try:
        layout = input_spec(model).layout
    except ValueError:  # the model takes no pictures, which is for its owner to judge
        return ""
    if layout is None or not _is_auto(parameters.layout):
        return ""
    return f". The model inside takes layout={layout!r}; without layout=, the encoder gets 'BCTHW'"


def _check_order(geometry: Geometry, wanted: list[str]) -> None:
    if geometry.order != (0, 1, 2):
        raise ValueError(
            f"frame_size: the processor {geometry.description['class']} also reorders colors "
            f"(as {geometry.order}), which is lost if frame_size is set: set "
            f"{' and '.join(wanted)} too, or leave frame_size='auto'"
        )


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"


def _frame_size(value: Any, expected: InputSpec | None) -> tuple[int | None, int | None]:
    """Return the size of the shorter side after scaling, and the size of the crop."""
    size = as_python(value)
    if isinstance(size, str):
        return (224, 224) if expected is None else (expected.shorter_side, expected.crop)
    if size is None or isinstance(size, int):
        return size, size
    sizes = as_python(tuple(size))
    if len(sizes) != 2 or not all(type(item) is int and item > 0 for item in sizes):
        raise ValueError(
            "frame_size must be a positive int or a pair (shorter side, crop) of them, got "
            f"{size!r}"
        )
    return sizes


def describe(parameters: Any, settings: Settings) -> dict[str, Any]:
    """Return all settings that sequences depend on, as a store records them."""
    spec = settings.spec
    made_by = {
        "procedure": _PROCEDURE,
        "encoder": fingerprint(settings.encoder, parameters.encoder_id),
        "width": spec.width,
        "stride": spec.stride,
        "clip_length": spec.clip_length,
        "layout": settings.layout,
        "frame_size": "auto" if settings.processor else [spec.shorter_side, spec.crop],
        "processor": settings.processor,
        "mean": settings.mean,
        "std": settings.std,
        "features": parameters.features,
        "head": parameters.head,
        "autocast": parameters.autocast,
    }
    return {name: _as_json(value) for name, value in made_by.items()}


def title_of(parameters: Any, settings: Settings, n_videos: int) -> str:
    """Return in one line what an extraction is about to do."""
    encoder, spec = settings.encoder, settings.spec
    name = getattr(encoder, "__name__", type(encoder).__name__)
    tensor = first_tensor(encoder)
    device = parameters.device or (None if tensor is None else tensor.device)
    store = "" if parameters.store is None else f", store {fspath(parameters.store)}"
    return (
        f"encoding {n_videos} video(s) with {name}{f' on {device}' if device else ''}: windows of "
        f"width {spec.width}, stride {spec.stride}, {spec.n_frames} frame(s) each, layout "
        f"{settings.layout}, batch_size {parameters.batch_size}{store}"
    )


def _as_length_or_tuple(value: Any) -> Any:
    """Return one length, or a tuple of several, with Python's numbers."""
    value = as_python(value)
    return value if isinstance(value, (int, float, str)) else as_python(tuple(value))


def _as_json(value: Any) -> Any:
    """Return numbers, and sequences of them, as plain Python objects."""
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    return np.asarray(value).tolist() if hasattr(value, "__array__") else value
