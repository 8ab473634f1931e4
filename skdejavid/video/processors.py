"""What an encoder expects of its input, as a Hugging Face model and its processor say."""

from __future__ import annotations

import json
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

from skdejavid.compat.optional import import_optional
from skdejavid.video.geometry import Geometry
from skdejavid.video.pretrained import (
    Origin,
    check_takes_pictures,
    origin_of,
    was_loaded_by_name,
)
from skdejavid.video.torch_processors import make_video_processor

__all__ = ["InputSpec", "check_clip_length", "find_processor", "input_spec", "with_processor"]

# Settings of a model that say nothing about its input, and that loading it may change.
_VOLATILE = frozenset(
    {
        *("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"),
        *("id2label", "label2id", "num_labels", "problem_type", "use_cache", "return_dict"),
        *("output_attentions", "output_hidden_states", "classifier_dropout"),
        "down_ops",  # LeViT appends to it
    }
)

_REMEDY = (
    "pass processor=, a Hugging Face processor or the name or folder of one, or all of frame_size, "
    "mean and std"
)


class InputSpec(NamedTuple):
    """Input that an encoder expects; None if unknown."""

    layout: str | None  # BTCHW or BCHW
    clip_length: int | None
    shorter_side: int | None  # frames are scaled until their shorter side has this size
    crop: int | None  # side of the centered square that scaled frames are cropped to
    mean: list[float] | None  # for values between 0 and 1
    std: list[float] | None
    # Scales and crops a frame of bytes, (height, width, 3) to (3, height, width). The two sizes
    # above are then at least those of its results.
    geometry: Geometry | None = None


def input_spec(model: Any) -> InputSpec:
    """Return the input that a Hugging Face model expects, as its config says, without processor.

    Raises
    ------
    ValueError
        If the model takes neither pictures nor videos.
    """
    check_takes_pictures(model)
    clip_length = _setting(model, "num_frames", "frames_per_clip")
    size = _setting(model, "image_size", "crop_size")
    size = size if size is None or isinstance(size, int) else min(size)
    return InputSpec(
        "BCHW" if clip_length is None else "BTCHW", clip_length, size, size, None, None
    )


def check_clip_length(model: Any, n_frames: int) -> None:
    """Check that a Hugging Face model takes clips with this number of frames.

    Some take others without a word: TimeSformer then compares frames with other places of a picture
    (X-CLIP: clips of one frame with those of other windows), because it divides its input by the
    number in its config; VideoMAE, ViViT and V-JEPA 2 leave out a last frame that is odd.

    Parameters
    ----------
    model : PreTrainedModel
        A model of pictures takes any number, one by one.
    n_frames : int
        Number of frames of each input of the model.

    Raises
    ------
    ValueError
        If it does not; the message has the number that it takes.
    """
    name = type(model).__name__
    exact, usual = _setting(model, "num_frames"), _setting(model, "frames_per_clip")
    if exact and n_frames != exact:
        raise ValueError(
            f"clip_length: {name} takes clips of {exact} frames, as its config says (num_frames), "
            f"got {n_frames}: leave clip_length and layout at 'auto'"
        )
    step = _setting(model, "tubelet_size") or 1
    # V-JEPA 2 repeats a single frame.
    if usual and n_frames > step and n_frames % step:
        raise ValueError(
            f"clip_length: {name} takes a multiple of {step} frames, as its config says "
            f"(tubelet_size), got {n_frames}: leave clip_length and layout at 'auto', which takes "
            f"{usual} frames"
        )


def _setting(model: Any, *names: str) -> Any:
    """Return the first of these settings of a model, or of its part for pictures, that is set."""
    configs = [model.config, getattr(model.config, "vision_config", None)]
    values = (getattr(config, name, None) for config in configs for name in names)
    return next((value for value in values if value), None)


def with_processor(spec: InputSpec | None, geometry: Geometry) -> InputSpec:
    """Return the input that an encoder expects, prepared as by a processor."""
    spec = spec or InputSpec(None, None, None, None, None, None)
    side = max(geometry.size)
    return InputSpec(
        spec.layout, spec.clip_length, side, side, geometry.mean, geometry.std, geometry
    )


def find_processor(model: Any, processor: Any = "auto") -> Any:
    """Return the processor of the pictures or videos of a Hugging Face model.

    Parameters
    ----------
    model : PreTrainedModel or None
        The model; None for other encoders.
    processor : str, path or processor, default="auto"
        A processor, or the name or folder of one. A processor of several kinds of input consists of
        others, of which that of videos or pictures is used. "auto" takes the one that is stored
        with the model.

    Raises
    ------
    OSError
        If there is no such processor.
    ValueError
        If none is found, or it needs a package that is not installed.
    """
    is_video = model is not None and input_spec(model).layout == "BTCHW"
    if not isinstance(processor, (str, PathLike)):
        kinds = ("video_processor", "image_processor")
        parts = [getattr(processor, kind, None) for kind in (kinds if is_video else kinds[::-1])]
        return next((part for part in parts if part is not None), processor)
    if not (isinstance(processor, str) and processor == "auto"):
        origin = Origin(fspath(processor), None)
        return _load(origin, None if model is None else model.config, is_video)
    origin = origin_of(model)
    if not was_loaded_by_name(model):
        _check_origin(model, origin)
    return _load(origin, model.config, is_video)


def _check_origin(model: Any, origin: Origin) -> None:
    """Check that what is found under the name of a model still is this model."""
    name = type(model).__name__
    if not origin.name:
        raise ValueError(f"encoder: this {name} was not loaded from a folder or by name: {_REMEDY}")
    try:
        stored = _read_json(origin, "config.json")
    except OSError as error:
        raise ValueError(
            f"encoder: this {name} was loaded from {origin.name!r}, which is not found now: "
            f"{_REMEDY}"
        ) from error
    differing = _differing_settings(model.config, stored or {})
    if differing:
        raise ValueError(
            f"encoder: this {name} was loaded from {origin.name!r}, where a model with other "
            f"settings is now ({', '.join(differing[:3])}): {_REMEDY}"
        )


def _differing_settings(config: Any, stored: dict[str, Any]) -> list[str]:
    """Return the settings by which a model and a file of settings differ."""
    try:
        there = _comparable(type(config).from_dict(dict(stored)).to_dict())
    except Exception:  # another kind of model
        return ["model_type"]
    if config.model_type != stored.get("model_type"):
        return ["model_type"]
    here = _comparable(config.to_dict())
    return sorted(name for name in {*here, *there} if here.get(name) != there.get(name))


def _comparable(value: Any) -> Any:
    """Return settings as a file has them, without those that say nothing about the input."""
    if isinstance(value, dict):
        items = ((str(name), content) for name, content in value.items())
        return {
            name: _comparable(content)
            for name, content in items
            if name not in _VOLATILE and not name.startswith("_")
        }
    return [_comparable(item) for item in value] if isinstance(value, (list, tuple)) else value


def _load(origin: Origin, config: Any, is_video: bool) -> Any:
    """Load the processor stored under a name: that of videos for a video model, if there is one."""
    transformers: Any = import_optional("transformers", "transformers", "processor")
    import_optional("PIL", "transformers", "A Hugging Face processor")
    of_video, of_image = _read_settings(origin)
    is_of_video = of_video is not None and (is_video or of_image is None)
    settings = (of_video if is_of_video else of_image) or {}
    try:
        if is_of_video and not transformers.utils.is_torchvision_available():
            return make_video_processor(settings, getattr(config, "model_type", ""))
        auto = transformers.AutoVideoProcessor if is_of_video else transformers.AutoImageProcessor
        where = {"revision": origin.revision or "main", "trust_remote_code": False}
        processor = auto.from_pretrained(origin.name, config=config, **where)
        _check_class(processor, settings)
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"the processor of {origin.name!r} cannot be loaded ({_first_line(error)}): {_REMEDY}"
        ) from error
    return processor


def _read_settings(origin: Origin) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the settings of the processors of videos and of pictures; None if there are none."""
    nested = _read_json(origin, "processor_config.json") or {}
    of_video = nested.get("video_processor") or _read_json(origin, "video_preprocessor_config.json")
    of_image = nested.get("image_processor") or _read_json(origin, "preprocessor_config.json")
    if of_image is not None and "video_processor_type" in of_image:
        of_video, of_image = of_video or of_image, None
    if of_video is None and of_image is None and not _is_in_config(origin):
        raise ValueError(f"no processor is stored with {origin.name!r}: {_REMEDY}")
    return of_video, of_image


def _check_class(processor: Any, settings: dict[str, Any]) -> None:
    """Check that a processor is of the class that its file names; transformers may take another."""
    keys = ("video_processor_type", "image_processor_type", "feature_extractor_type")
    named = next((str(settings[key]) for key in keys if settings.get(key)), None)
    if named is not None and _base_name(named) != _base_name(type(processor).__name__):
        raise ValueError(f"its file names the class {named}, which this transformers does not have")


def _base_name(name: str) -> str:
    """Return the name of a processor's class without what names the backend; old names as new."""
    base = name.removesuffix("Fast").removesuffix("Pil")
    for ending in ("FeatureExtractor", "ImageProcessor", "VideoProcessor"):
        base = base.removesuffix(ending)
    return base


def _is_in_config(origin: Origin) -> bool:
    """Return whether a model has no file of its processor, and needs none: those of timm."""
    return "pretrained_cfg" in (_read_json(origin, "config.json") or {})


def _read_json(origin: Origin, file: str) -> dict[str, Any] | None:
    """Read a file of a folder or repository; None if it has no such file."""
    hub: Any = import_optional("transformers.utils.hub", "transformers", "processor")
    path = hub.cached_file(
        origin.name,
        file,
        revision=origin.revision or "main",
        _raise_exceptions_for_missing_entries=False,
    )
    if path is None:
        return None
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path} does not contain an object of JSON")
    return content


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
