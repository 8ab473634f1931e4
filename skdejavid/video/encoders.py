"""Any encoder behind one face: what it expects, running it on clips, telling it from others."""

from __future__ import annotations

import dis
import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from hashlib import sha256
from itertools import chain
from os import PathLike, fspath
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from skdejavid.compat.optional import import_optional

__all__ = [
    "ClipEncoder",
    "InputSpec",
    "call_named",
    "fingerprint",
    "inference",
    "input_spec",
    "load_encoder",
]

# What encoders that return a mapping call their embedding.
_EMBEDDINGS = ("embedding", "pooler_output", "image_embeds", "video_embeds")

# Values of which repr says all.
_SCALARS = (bool, int, float, complex, str, bytes, np.generic)

# Processors of models that were loaded by name.
_processors: WeakKeyDictionary[Any, dict[str, Any] | None] = WeakKeyDictionary()
_fingerprints: WeakKeyDictionary[Any, tuple[Any, str]] = WeakKeyDictionary()


class InputSpec(NamedTuple):
    """What an encoder expects of its input, None where it does not say."""

    layout: str  # BTCHW or BCHW
    clip_length: int | None
    shorter_side: int | None  # frames are scaled until their shorter side has this size
    crop: int | None  # then cropped to the centered square
    mean: list[float] | None  # of values between 0 and 1
    std: list[float] | None


def load_encoder(encoder: Any) -> Any:
    """The encoder itself, or the Hugging Face model of that name or in that folder.

    Raises
    ------
    ImportError
        If a name is given and transformers is not installed.
    OSError
        If there is no such model.
    """
    return _load_pretrained(fspath(encoder)) if isinstance(encoder, (str, PathLike)) else encoder


def call_named(place: str, *arguments: Any) -> Any:
    """What a function returns that is named as ``FILE.py:FUNCTION`` or ``PACKAGE.MODULE:FUNCTION``.

    Raises
    ------
    FileNotFoundError, ImportError
        If there is no such file or module; its code is run.
    ValueError
        If there is no such function in it.
    """
    name, _, function = place.rpartition(":")
    if name.endswith(".py"):
        path = Path(name)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # classes look their own module up
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(name)
    if not hasattr(module, function):
        raise ValueError(f"{name} has no {function}")
    return getattr(module, function)(*arguments)


def input_spec(encoder: Any) -> InputSpec | None:
    """What a Hugging Face model was made for, None for any other encoder."""
    if not _is_pretrained(encoder):
        return None
    config = encoder.config
    clip_length = getattr(config, "num_frames", None) or getattr(config, "frames_per_clip", None)
    layout = "BCHW" if clip_length is None else "BTCHW"
    size = getattr(config, "image_size", None) or getattr(config, "crop_size", None)
    size = size if size is None or isinstance(size, int) else min(size)
    processor = _processors.get(encoder)
    if processor is None:
        return InputSpec(layout, clip_length, size, size, None, None)
    crops = processor.get("do_center_crop", "crop_size" in processor)
    crop = _smallest(processor.get("crop_size")) if crops else None
    scaled = _smallest(processor.get("size")) if processor.get("do_resize", True) else None
    crop = crop or scaled or size
    return InputSpec(layout, clip_length, scaled or crop, crop, *_normalization(processor))


class ClipEncoder:
    """An encoder, and how it is to be run.

    Parameters
    ----------
    encoder : torch.nn.Module or callable
        A method of a module is run like the module. Returns a tensor ``(n, n_features)``, a tuple
        (embedding, ..., logits), or a mapping with
        the keys ``"embedding"`` (or ``"pooler_output"``, ``"image_embeds"``, ``"video_embeds"``, or
        ``"last_hidden_state"``, of which the mean over tokens is taken) and ``"logits"``.
    layout : {"BCTHW", "BTCHW", "BCHW"}
        Axes it expects.
    features : {"both", "embedding", "logits"}
        What to take of that.
    head : str or None
        Submodule whose input is the embedding and whose output the logits. Hugging Face classifiers
        need none.
    mean, std : float, sequence of 3 floats, or None
        Subtracted from and dividing values between 0 and 1.
    device : str, torch.device or None
        Where a module computes, None leaves it where it is.
    autocast : {"float16", "bfloat16"} or None
        Precision of those operations that bear it.
    """

    def __init__(
        self,
        encoder: Any,
        *,
        layout: str,
        features: str = "both",
        head: str | None = None,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        device: Any = None,
        autocast: str | None = None,
    ) -> None:
        self._encoder = encoder
        self._layout = layout
        self._features = features
        self._head_name = head
        self._head = _find_head(encoder, head)
        self._mean = None if mean is None else _per_channel("mean", mean)
        self._std = None if std is None else _per_channel("std", std)
        self._wanted_device = None if device is None else torch.device(device)
        self._autocast = autocast
        self._at_head: dict[str, torch.Tensor] = {}

    @contextmanager
    def session(self) -> Iterator[None]:
        """Evaluation mode, no gradients, on the device; afterwards the encoder is as it was."""
        with ExitStack() as stack:
            # Moved outside of inference mode: parameters that are made inside cannot be trained.
            stack.enter_context(_on_device(self._encoder, self._wanted_device))
            stack.enter_context(inference(self._encoder))
            if self._head is not None:
                hooks = [
                    self._head.register_forward_pre_hook(self._keep_input, with_kwargs=True),
                    self._head.register_forward_hook(self._keep_output),
                ]
                for hook in hooks:
                    stack.callback(hook.remove)
            if self._autocast is not None:
                dtype = getattr(torch, self._autocast)
                stack.enter_context(torch.autocast(self._device().type, dtype=dtype))
            yield

    def encode(self, clips: Sequence[NDArray[np.uint8]]) -> NDArray[np.floating]:
        """Features (n_clips, n_features) of clips (clip_length, 3, height, width) of one shape.

        An encoder of single images (layout "BCHW") sees all frames of all clips; its features are
        averaged inside each clip.

        Raises
        ------
        ValueError
            If the encoder does not return one row per clip, or not what `features` asks for.
        """
        n_clips, clip_length = len(clips), len(clips[0])
        batch = self._as_input(np.stack(clips))
        features = self._chosen(self._parts(self._run(batch)), len(batch))
        if self._layout == "BCHW" and clip_length > 1:
            features = features.reshape(n_clips, clip_length, -1).mean(axis=1)
        return features

    def _run(self, batch: torch.Tensor) -> Any:
        self._at_head.clear()
        if _is_pretrained(self._encoder):
            return self._encoder(**{self._encoder.main_input_name: batch})
        return self._encoder(batch)

    def _parts(self, output: Any) -> dict[str, Any]:
        """What an output holds, by the names "embedding" and "logits", in the order of joining."""
        if self._at_head:
            return dict(self._at_head)
        if self._head_name is not None:
            raise ValueError(f"the encoder does not call its submodule {self._head_name!r}, head")
        if isinstance(output, Mapping):
            names = {name: "embedding" for name in reversed(_EMBEDDINGS) if name in output}
            parts = {part: output[name] for name, part in names.items()}
            if not parts and "last_hidden_state" in output:
                tokens = output["last_hidden_state"]
                if tokens.ndim != 3:
                    raise ValueError(
                        "last_hidden_state must be (n, n_tokens, n_features) to be averaged, got "
                        f"shape {tuple(tokens.shape)}: return the embedding itself"
                    )
                parts["embedding"] = tokens.mean(dim=1)
            if "logits" in output:
                parts["logits"] = output["logits"]
            if not parts:
                raise ValueError(
                    f"encoder returned a mapping with {sorted(map(str, output))}, expected "
                    "'embedding' or 'logits'"
                )
            return parts
        if isinstance(output, (tuple, list)):
            between = {f"part {i}": part for i, part in enumerate(output[1:-1], start=1)}
            last = {"logits": output[-1]} if len(output) > 1 else {}
            return {"embedding": output[0], **between, **last} if output else {}
        return {"the only one": output}

    def _chosen(self, parts: dict[str, Any], n_expected: int) -> NDArray[np.floating]:
        if self._features != "both":
            names = [self._features] if self._features in parts else []
            if self._features == "embedding" and "the only one" in parts:
                names = ["the only one"]
            if not names:
                raise ValueError(
                    f"features={self._features!r}, but the encoder returned no {self._features}: "
                    "name its head, or use features='both', which takes what there is"
                )
            parts = {name: parts[name] for name in names}
        return np.concatenate([_as_rows(part, n_expected) for part in parts.values()], axis=1)

    def _keep_input(
        self, module: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        embedding = next(iter((*arguments, *named.values())), None)
        if not isinstance(embedding, torch.Tensor):
            raise ValueError(
                "what goes into head must be a tensor, the embedding; it is a "
                f"{type(embedding).__name__}"
            )
        self._at_head["embedding"] = embedding.clone()  # operations in place may follow

    def _keep_output(self, module: torch.nn.Module, arguments: Any, output: torch.Tensor) -> None:
        self._at_head["logits"] = output.clone() if isinstance(output, torch.Tensor) else output

    def _as_input(self, clips: NDArray[np.uint8]) -> torch.Tensor:
        """Axes as the encoder wants them, values in [0, 1], then ``(x - mean) / std``."""
        device = self._device()
        ordered = torch.from_numpy(clips).to(device)
        if self._layout == "BCTHW":
            ordered = ordered.transpose(1, 2).contiguous()  # of bytes, which is cheaper
        elif self._layout == "BCHW":
            ordered = ordered.flatten(0, 1)
        batch = ordered.to(torch.float32).div_(255)
        shape = (-1, 1, 1, 1) if self._layout == "BCTHW" else (-1, 1, 1)
        if self._mean is not None:
            batch.sub_(self._mean.to(device).reshape(shape))
        if self._std is not None:
            batch.div_(self._std.to(device).reshape(shape))
        parameter = _first_parameter(self._encoder)
        return batch if parameter is None else batch.to(parameter.dtype)

    def _device(self) -> torch.device:
        tensor = _first_tensor(self._encoder)
        if tensor is not None:
            return tensor.device
        return self._wanted_device or torch.device("cpu")


@contextmanager
def inference(encoder: Any) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every submodule is in the mode it was in."""
    owner = _module_of(encoder)
    modes = {} if owner is None else {module: module.training for module in owner.modules()}
    try:
        for module in modes:
            module.training = False
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def fingerprint(encoder: Any, encoder_id: str | None = None) -> str:
    """What tells an encoder from others, in any process.

    Parameters
    ----------
    encoder : torch.nn.Module or callable
        Of a module its class, structure, parameters and buffers count; of a plain function its
        code, its defaults and the global variables it refers to.
    encoder_id : str, optional
        To be taken instead.

    Raises
    ------
    ValueError
        If it cannot be told what the encoder computes: a function that refers to variables of
        another, or to objects of unknown content, or an object that is no module.
    """
    if encoder_id is not None:
        return encoder_id
    if isinstance(encoder, torch.nn.Module):
        return _fingerprint_of_module(encoder)
    if isinstance(encoder, FunctionType) and encoder.__closure__ is None:
        digest = sha256()
        _update_with_function(digest, encoder, set())
        return f"{encoder.__qualname__}-{digest.hexdigest()[:16]}"
    raise _cannot_be_told(f"a {type(encoder).__name__}")


@lru_cache(maxsize=1)
def _load_pretrained(name: str) -> Any:
    """A video or image model by name or folder; the last one stays in memory."""
    transformers: Any = import_optional("transformers", "transformers", "An encoder given by name")
    config = transformers.AutoConfig.from_pretrained(name)
    is_video = hasattr(config, "num_frames") or hasattr(config, "frames_per_clip")
    kind = "Video" if is_video else "Image"
    is_classifier = any("Classification" in n for n in getattr(config, "architectures", None) or [])
    auto = f"AutoModelFor{kind}Classification" if is_classifier else "AutoModel"
    model = getattr(transformers, auto).from_pretrained(name)
    _processors[model] = _read_processor(name)
    return model


def _read_processor(name: str) -> dict[str, Any] | None:
    """How a model's processor prepares frames, from its file: making one may need torchvision."""
    hub: Any = import_optional("transformers.utils.hub", "transformers", "An encoder given by name")
    for file in ("video_preprocessor_config.json", "preprocessor_config.json"):
        path = hub.cached_file(name, file, _raise_exceptions_for_missing_entries=False)
        if path is not None:
            return dict(json.loads(Path(path).read_text()))
    return None


def _is_pretrained(encoder: Any) -> bool:
    transformers = sys.modules.get("transformers")
    return transformers is not None and isinstance(encoder, transformers.PreTrainedModel)


def _smallest(size: Any) -> int | None:
    """The side of a processor's size: 224, ``{"shortest_edge": 224}``, ``{"height": ..., }``."""
    sizes = [size] if isinstance(size, int) else list(dict(size or {}).values())
    return min((side for side in sizes if side is not None), default=None)


def _normalization(processor: dict[str, Any]) -> tuple[list[float] | None, list[float] | None]:
    """Mean and deviation of values between 0 and 1 that come to what a processor computes.

    It computes ``(255 * factor * x - offset - mean) / std``.
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


def _find_head(encoder: Any, name: str | None) -> torch.nn.Module | None:
    if name is None:
        is_classifier = _is_pretrained(encoder) and "Classification" in type(encoder).__name__
        found = getattr(encoder, "classifier", None) if is_classifier else None
        return found if isinstance(found, torch.nn.Module) else None
    if not isinstance(encoder, torch.nn.Module):
        raise ValueError(f"head={name!r} names a submodule, but the encoder is no module")
    modules = dict(encoder.named_modules())
    if name not in modules or not name:
        raise ValueError(
            f"the encoder has no submodule {name!r} for head; the last ones are {[*modules][-5:]}"
        )
    return modules[name]


@contextmanager
def _on_device(encoder: Any, device: torch.device | None) -> Iterator[None]:
    """A module on a device, and afterwards where it was."""
    module, tensor = _module_of(encoder), _first_tensor(encoder)
    if device is None or module is None or tensor is None or tensor.device == device:
        yield
        return
    before = tensor.device
    try:
        module.to(device)  # if memory does not suffice, a part of it was moved
        yield
    finally:
        module.to(before)


def _module_of(encoder: Any) -> torch.nn.Module | None:
    """The module that computes: the encoder, or that of which it is a method."""
    owner = getattr(encoder, "__self__", encoder)
    return owner if isinstance(owner, torch.nn.Module) else None


def _first_parameter(encoder: Any) -> torch.Tensor | None:
    """A floating parameter, which tells the precision of a module."""
    module = _module_of(encoder)
    parameters = [] if module is None else module.parameters()
    return next((p for p in parameters if p.is_floating_point()), None)


def _first_tensor(encoder: Any) -> torch.Tensor | None:
    """A parameter or buffer, which tells the device of a module."""
    module = _module_of(encoder)
    tensors = [] if module is None else chain(module.parameters(), module.buffers())
    return next(iter(tensors), None)


def _per_channel(name: str, values: Sequence[float] | float) -> torch.Tensor:
    array = np.asarray(values, dtype=np.float32).ravel()
    if len(array) not in (1, 3) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be one number or one per channel, got {values}")
    if name == "std" and not (array > 0).all():
        raise ValueError(f"std must be positive, got {values}")
    return torch.from_numpy(array.copy())


def _as_rows(part: Any, n_expected: int) -> NDArray[np.floating]:
    if isinstance(part, torch.Tensor):
        if part.ndim > 2 and part.shape[2:].numel() == 1:
            part = part.flatten(1)  # pooled maps, (n, n_features, 1, 1)
        part = part.to("cpu", torch.promote_types(part.dtype, torch.float32)).numpy()
    array = np.asarray(part)
    if array.ndim != 2 or len(array) != n_expected:
        raise ValueError(
            "encoder must return a tensor (n_clips, n_features), or a tuple of them such as "
            f"(embedding, logits); for {n_expected} inputs it returned shape {array.shape}"
        )
    return array


def _fingerprint_of_module(module: torch.nn.Module) -> str:
    """Remembered as long as no parameter changes: reading gigabytes takes seconds."""
    state = module.state_dict(keep_vars=True)
    tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
    structure = re.sub(r" at 0x[0-9a-f]+", "", repr(module))
    seen = None
    if not any(tensor.is_inference() for tensor in tensors):  # those count no changes
        seen = structure, [_glance(tensor) for tensor in tensors]
    known = _fingerprints.get(module)
    if known is not None and seen is not None and known[0] == seen:
        return known[1]
    name = type(module).__qualname__
    digest = sha256(name.encode())
    digest.update(structure.encode())
    for key, value in state.items():
        digest.update(key.encode())
        if isinstance(value, torch.Tensor):
            _update_with_tensor(digest, value)
        else:
            digest.update(repr(value).encode())
    found = f"{name}-{digest.hexdigest()[:16]}"
    _fingerprints[module] = seen, found
    return found


def _glance(tensor: torch.Tensor) -> tuple[int, int, bytes]:
    """What changes with a tensor: changes through ``tensor.data`` are not counted as versions."""
    flat = tensor.detach().reshape(-1)
    some = flat[:: max(1, len(flat) // 16)].cpu().contiguous().view(torch.uint8)
    return tensor.data_ptr(), tensor._version, some.numpy().tobytes()


def _update_with_tensor(digest: Any, tensor: torch.Tensor) -> None:
    digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    digest.update(content.numpy().data)


def _cannot_be_told(what: str) -> ValueError:
    return ValueError(
        f"it cannot be told what the encoder computes, {what}: name it with encoder_id, another "
        "name for each that gives other embeddings"
    )


def _update_with_function(digest: Any, function: FunctionType, seen: set[FunctionType]) -> None:
    """Its code and what that refers to; `seen` ends the recursion of functions that call others."""
    seen.add(function)
    digest.update(function.__qualname__.encode())
    _update_with_code(digest, function.__code__)
    named: dict[str, Any] = {
        f"default {i}": value for i, value in enumerate(function.__defaults__ or ())
    }
    for name, value in (function.__kwdefaults__ or {}).items():
        named[f"default {name}"] = value
    missing = object()  # builtins, and what is not defined
    for name in sorted(_global_names(function.__code__)):
        value = function.__globals__.get(name, missing)
        if value is not missing:
            named[name] = value
    for name, value in named.items():
        digest.update(name.encode())
        if not isinstance(value, FunctionType):
            _update_with_value(digest, name, value)
        elif value.__module__ != function.__module__:  # of a library
            digest.update(f"{value.__module__}.{value.__qualname__}".encode())
        elif value.__closure__ is not None:
            raise _cannot_be_told(f"a function that refers to {name!r}, a closure")
        elif value not in seen:
            _update_with_function(digest, value, seen)


def _update_with_value(digest: Any, name: str, value: Any) -> None:
    """A global variable or default of a function."""
    if isinstance(value, ModuleType):
        digest.update(value.__name__.encode())
    elif isinstance(value, (type, BuiltinFunctionType)):
        digest.update(f"{value.__module__}.{value.__qualname__}".encode())
    elif isinstance(value, torch.nn.Module):
        digest.update(_fingerprint_of_module(value).encode())
    elif isinstance(value, torch.Tensor):
        _update_with_tensor(digest, value)
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    elif isinstance(value, (tuple, list)):
        digest.update(f"{type(value).__name__}{len(value)}".encode())
        for item in value:
            _update_with_value(digest, name, item)
    elif isinstance(value, (*_SCALARS, torch.dtype, torch.device)) or value is None:
        digest.update(repr(value).encode())
    else:
        raise _cannot_be_told(f"a function that refers to {name!r}, a {type(value).__name__}")


def _global_names(code: CodeType) -> set[str]:
    """Names that a function, and those inside of it, look up outside of functions."""
    names = {item.argval for item in dis.get_instructions(code) if item.opname == "LOAD_GLOBAL"}
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return names.union(*map(_global_names, inner))


def _update_with_code(digest: Any, code: CodeType) -> None:
    digest.update(code.co_code)
    digest.update(repr(code.co_names).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _update_with_code(digest, constant)
        else:  # sets have another order in each process
            is_set = isinstance(constant, frozenset)
            digest.update(repr(sorted(map(repr, constant)) if is_set else constant).encode())
