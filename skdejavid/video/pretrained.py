"""Load Hugging Face models by name or folder, and compute their embeddings."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from skdejavid.compat.optional import import_optional

__all__ = [
    "Origin",
    "check_takes_pictures",
    "is_pretrained",
    "load_encoder",
    "origin_of",
    "run_pretrained",
    "was_loaded_by_name",
]


class Origin(NamedTuple):
    """Where a model comes from."""

    name: str  # of the folder or repository; empty if unknown
    revision: str | None  # commit of the repository; None for a folder


# Origins of models that were loaded by name.
_origins: WeakKeyDictionary[Any, Origin] = WeakKeyDictionary()

# The model that was loaded last, and the files that it was loaded from.
_latest: tuple[Any, Any] | None = None

# The folder in the cache that the name of a repository stands for in this process, so that the hub
# is asked once: each extraction of a search gets the same model, also without a network.
_snapshots: dict[str, str] = {}
_loading = Lock()

_SECONDS_TO_ANSWER = 10.0  # for the hub

# Buffers and parameters that only training uses, or that older versions stored and newer ones
# compute: a checkpoint may have them where the model has not.
_NEVER_NEEDED = frozenset(
    {
        *("position_ids", "relative_position_index", "num_batches_tracked", "attn_mask"),
        *("mask_token", "logit_scale", "logit_bias", "inv_freq"),
    }
)


# Families whose only output without a head are maps, with channels second. Other families have
# channels last.
_WITH_MAPS = frozenset({"cvt", "glpn", "poolformer", "pvt_v2", "segformer", "swiftformer"})


def load_encoder(encoder: Any) -> Any:
    """Return the Hugging Face model if `encoder` is its name or folder, else `encoder` itself.

    The latest model is cached, until a file of its folder changes; a repository is looked up once
    per process. No code of a repository is executed.

    Raises
    ------
    ImportError
        If `encoder` is a name and transformers is not installed.
    OSError
        If there is no such model.
    ValueError
        If the name is that of a file, the model takes neither pictures nor videos, or its file does
        not contain all of it.
    """
    global _latest
    if not isinstance(encoder, (str, PathLike)):
        return encoder
    name = fspath(encoder)
    with _loading:
        origin, files = _find_files(name)
        if _latest is not None and _latest[1] == files:
            return _latest[0]
        model = _load(origin)
        _origins[model] = origin
        # Files of a repository have just been added to its snapshot. A folder that was saved while
        # it was read has to be read again.
        _latest = model, files if origin.revision is None else _find_files(name)[1]
        return model


def is_pretrained(encoder: Any) -> bool:
    """Return whether an encoder is a Hugging Face model."""
    transformers = sys.modules.get("transformers")
    return transformers is not None and isinstance(encoder, transformers.PreTrainedModel)


def origin_of(model: Any) -> Origin:
    """Return where a Hugging Face model comes from, as far as it is known."""
    if model in _origins:
        return _origins[model]
    name = getattr(model.config, "_name_or_path", "") or ""
    return Origin(name, getattr(model.config, "_commit_hash", None))


def was_loaded_by_name(model: Any) -> bool:
    """Return whether `load_encoder` has loaded a model, whose origin is known therefore."""
    return model in _origins


def check_takes_pictures(model: Any) -> None:
    """Check that a Hugging Face model, or class of models, has an embedding of pictures or videos.

    Raises
    ------
    ValueError
        If it needs another input, or finds objects in pictures, or its output is random.
    """
    name = model.__name__ if isinstance(model, type) else type(model).__name__
    reason = None if _features_function(model) else _why_unsuitable(model, name)
    if reason is not None:
        raise ValueError(
            f"encoder: {name} {reason}. Pass a model of pictures or videos; as an object, that may "
            "be a part of this one"
        )


def _why_unsuitable(model: Any, name: str) -> str | None:
    main = model.main_input_name
    if not (isinstance(main, str) and main.startswith("pixel_values")):
        return f"takes {main!r}, not pictures or videos"
    inputs = inspect.signature(model.forward).parameters
    if "input_ids" in inputs:
        return "takes text and pictures"
    if "pixel_mask" in inputs:
        return "finds objects, and has an output for each of them instead of one for the picture"
    if name.startswith("ViTMAE"):
        return "hides random parts of each picture, as in pretraining (load it as a ViTModel)"
    required = [
        key
        for key, value in inputs.items()
        if value.default is value.empty and value.kind is value.POSITIONAL_OR_KEYWORD
    ]
    others = [key for key in required if key not in ("self", main)]
    return f"also needs {', '.join(others)}" if others else None


def run_pretrained(model: Any, batch: Any) -> Any:
    """Return the output of a Hugging Face model for a batch of pictures or clips.

    Models of pictures (or videos) and text return the features that they compare with text; if
    there are features of several tokens (FLAVA), those of the first. Maps are averaged.
    """
    function = _features_function(model)
    if function is not None:
        output = getattr(model, function)(batch)
        features = output["pooler_output"] if isinstance(output, Mapping) else output
        return {"embedding": features[:, 0] if features.ndim == 3 else features}
    options = {}
    if "skip_predictor" in inspect.signature(model.forward).parameters:
        options["skip_predictor"] = True  # half of the work of V-JEPA 2, for another output
    output = model(**{model.main_input_name: batch}, **options)
    if model.config.model_type in _WITH_MAPS and "logits" not in output:
        return {"embedding": output["last_hidden_state"].mean(dim=(2, 3))}
    return output


def _features_function(model: Any) -> str | None:
    """Return the method that embeds pictures or videos, of a model that compares them with text."""
    if not hasattr(model, "get_text_features"):
        return None
    names = ("get_video_features", "get_image_features")
    return next((name for name in names if hasattr(model, name)), None)


def _find_files(name: str) -> tuple[Origin, Any]:
    """Return the origin of a model, and what identifies the content of its files."""
    if os.path.isdir(name):
        folder = os.path.abspath(name)
        return Origin(folder, None), _state_of(folder)
    if os.path.isfile(name):
        raise ValueError(
            f"encoder: {name} is a file, and a file of weights is no model: pass a torch module "
            "that has loaded them. A Hugging Face model is given by its folder."
        )
    hub: Any = import_optional("transformers.utils.hub", "transformers", "An encoder given by name")
    if not os.path.isdir(_snapshots.get(name, "")):
        _snapshots[name] = _find_snapshot(hub, name)
    folder = _snapshots[name]
    commit = hub.extract_commit_hash(os.path.join(folder, "config.json"), None)
    return Origin(name, commit), _state_of(folder)


def _find_snapshot(hub: Any, name: str) -> str:
    """Return the folder in the cache that has the files of a repository.

    Raises
    ------
    OSError
        If there is neither a folder of this name nor a repository.
    """
    # The hub is not asked where it cannot be reached: that would take half a minute of attempts.
    is_reachable = _is_hub_reachable()
    try:
        options = {} if is_reachable else {"local_files_only": True}
        return os.path.dirname(hub.cached_file(name, "config.json", **options))
    except OSError as error:
        where = (
            "Hugging Face has no such model, or does not give it to you"
            if is_reachable
            else "Hugging Face cannot be reached, and the model is not in its cache"
        )
        raise OSError(
            f"encoder: there is no folder {os.path.abspath(name)}, and {where}: check the name, "
            f"such as 'MCG-NJU/videomae-base', or pass the path of a folder. ({error})"
        ) from error


def _is_hub_reachable() -> bool:
    """Return whether the hub answers; not if the user has chosen to work offline."""
    hub: Any = import_optional("huggingface_hub", "transformers", "An encoder given by name")
    try:
        hub.get_session().head(hub.constants.ENDPOINT, timeout=_SECONDS_TO_ANSWER)
    except Exception:  # of the library for requests, which depends on the version
        return False
    return True


def _state_of(folder: str) -> Any:
    """Return path, name, size, time and inode of the files of a folder."""
    with os.scandir(folder) as entries:
        states = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    return folder, sorted((name, s.st_size, s.st_mtime_ns, s.st_ino) for name, s in states)


def _load(origin: Origin) -> Any:
    """Load a video or image model, with all of its parameters."""
    transformers: Any = import_optional("transformers", "transformers", "An encoder given by name")
    where = {"pretrained_model_name_or_path": origin.name, "revision": origin.revision or "main"}
    config = transformers.AutoConfig.from_pretrained(**where, trust_remote_code=False)
    kind = _class_of(transformers, config, origin.name)
    check_takes_pictures(kind)
    options = {**where, "config": config, "output_loading_info": True}
    try:
        model, info = kind.from_pretrained(**options)
        missing = info["missing_keys"]
        if missing and all("pooler" in key for key in missing) and _may_lack_pooler(kind):
            # It would have random values. Without it, tokens are averaged.
            model, info = kind.from_pretrained(**options, add_pooling_layer=False)
    except RuntimeError as error:  # shapes differ
        raise ValueError(f"{origin.name}: {kind.__name__} cannot be loaded: {error}") from error
    _check_complete(model, info, origin.name)
    return model.eval()


def _class_of(transformers: Any, config: Any, name: str) -> Any:
    """Return the class of a checkpoint: its classifier, else the model without a head."""
    for architecture in getattr(config, "architectures", None) or []:
        kind = getattr(transformers, architecture, None)
        if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
            continue
        is_classifier = "VideoClassification" in architecture or "ImageClassi" in architecture
        if is_classifier or architecture.endswith(("Model", "ModelWithProjection")):
            return kind
    if type(config) not in transformers.MODEL_MAPPING:
        raise ValueError(
            f"encoder: {name} is a {type(config).__name__}, of which transformers has no model "
            "without a head: load the model yourself and pass it, or a part of it, as an object"
        )
    found = transformers.MODEL_MAPPING[type(config)]
    return found[0] if isinstance(found, (list, tuple)) else found


def _may_lack_pooler(kind: Any) -> bool:
    return "add_pooling_layer" in inspect.signature(kind.__init__).parameters


def _check_complete(model: Any, info: dict[str, Any], name: str) -> None:
    """Check that a checkpoint has all parameters of the model, and the model all of its encoder."""
    modules = {path for path, _ in model.named_modules()}
    wrong = {
        "lacks": sorted(map(str, info["missing_keys"])),
        "has other shapes of": sorted(map(str, info["mismatched_keys"])),
        "has, where the model has none,": sorted(_unused(info["unexpected_keys"], modules)),
    }
    for what, keys in wrong.items():
        if keys:
            listed = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
            raise ValueError(
                f"{name}: the checkpoint {what} {len(keys)} parameter(s) of {type(model).__name__}"
                f": {listed}. Its embeddings would be wrong: update transformers, or load the "
                "model yourself and pass it as an object"
            )


def _unused(unexpected: Iterable[str], modules: set[str]) -> list[str]:
    """Return the parameters of a checkpoint that belong to a module which the model has.

    A decoder or a head that the model does not have is meant to be left out.
    """
    found = []
    for key in unexpected:
        path, _, last = key.rpartition(".")
        # The name may begin with that of the encoder inside of another model.
        owners = {path, path.partition(".")[2]} - {""}
        if last not in _NEVER_NEEDED and owners & modules:
            found.append(key)
    return found
