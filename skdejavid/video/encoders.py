"""Loading encoders and running them on clips."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from itertools import chain
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.optional import import_optional
from skdejavid.files.regular import refuse_irregular

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = [
    "ClipEncoder",
    "InputSpec",
    "call_named",
    "inference",
    "input_spec",
    "load_encoder",
]

# Keys of the embedding in mappings that encoders return, by falling priority.
_EMBEDDING_KEYS = ("embedding", "pooler_output", "image_embeds", "video_embeds")

# Key of the output of an encoder that returns a single tensor.
_SINGLE = "single output"

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


def call_named(spec: str, *arguments: Any) -> Any:
    """Call the function ``FILE.py:FUNCTION`` or ``PACKAGE.MODULE:FUNCTION``; return its result.

    The code of the file or module is executed.

    Raises
    ------
    FileNotFoundError, ImportError
        If the file or module does not exist.
    ValueError
        If it does not define the function, or is no regular file.
    """
    name, _, function = spec.rpartition(":")
    module = _load_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    if not hasattr(module, function):
        raise ValueError(f"{name} has no {function}")
    return getattr(module, function)(*arguments)


def _load_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    refuse_irregular(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # pickle and dataclasses look modules up by name
    spec.loader.exec_module(module)
    return module


def input_spec(encoder: Any) -> InputSpec | None:
    """Return the input that a Hugging Face model expects, or None for any other encoder."""
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


class ClipEncoder:
    """An encoder with its settings.

    Parameters
    ----------
    encoder : torch.nn.Module or callable
        Returns a tensor ``(n, n_features)``, a tuple (embedding, ..., logits), or a mapping with
        the keys ``"embedding"`` and ``"logits"``. Instead of ``"embedding"`` the key may be
        ``"pooler_output"``, ``"image_embeds"``, ``"video_embeds"``, or ``"last_hidden_state"``,
        which is averaged over tokens. A method of a module is treated like the module.
    layout : {"BCTHW", "BTCHW", "BCHW"}
        Order of the axes that `encoder` expects.
    features : {"both", "embedding", "logits"}
        Outputs to use.
    head : str or None
        Name of the submodule whose input is the embedding and whose output are the logits. Hugging
        Face classifiers do not need it.
    mean, std : float, sequence of 3 floats, or None
        `mean` is subtracted from values between 0 and 1, which are then divided by `std`.
    device : str, torch.device or None
        Device that a module is moved to; None does not move it.
    autocast : {"float16", "bfloat16"} or None
        Reduced precision for operations that support it.

    Raises
    ------
    ValueError
        If the encoder has no submodule `head`, or `mean` or `std` are invalid.
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
        self._torch_device = None if device is None else torch.device(device)
        self._autocast = autocast
        self._head_values: dict[str, torch.Tensor] = {}

    @contextmanager
    def session(self) -> Iterator[None]:
        """Put the encoder on the device and in evaluation mode; restore its state on exit."""
        with ExitStack() as stack:
            # Moved outside of inference mode: tensors created inside could not be trained later.
            stack.enter_context(_on_device(self._encoder, self._torch_device))
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
        """Return features (n_clips, n_features) of clips (clip_length, 3, height, width).

        All clips must have the same shape. With layout "BCHW" each frame is an image of its own;
        its features are averaged inside each clip.

        Raises
        ------
        ValueError
            If the encoder does not return one vector per clip or lacks the requested `features`.
        """
        n_clips, clip_length = len(clips), len(clips[0])
        batch = self._to_input(np.stack(clips))
        features = self._select(self._outputs_by_name(self._run(batch)), len(batch))
        if self._layout == "BCHW" and clip_length > 1:
            features = features.reshape(n_clips, clip_length, -1).mean(axis=1)
        return features

    def _run(self, batch: torch.Tensor) -> Any:
        self._head_values.clear()
        if _is_pretrained(self._encoder):
            return self._encoder(**{self._encoder.main_input_name: batch})
        return self._encoder(batch)

    def _outputs_by_name(self, output: Any) -> dict[str, Any]:
        """Return the parts of an output by name, "embedding" first and "logits" last."""
        if self._head_values:
            return dict(self._head_values)
        if self._head_name is not None:
            raise ValueError(
                f"the encoder does not call its submodule {self._head_name!r}, the head: choose a "
                "head that is part of the forward pass"
            )
        if isinstance(output, Mapping):
            return _outputs_of_mapping(output)
        if isinstance(output, (tuple, list)):
            return _outputs_of_tuple(output)
        return {_SINGLE: output}

    def _select(self, outputs: dict[str, Any], n_expected: int) -> NDArray[np.floating]:
        """Join the outputs that `features` names into an array (n_expected, n_features)."""
        if self._features != "both":
            name = self._features
            if name == "embedding" and _SINGLE in outputs:
                name = _SINGLE
            if name not in outputs:
                raise ValueError(
                    f"features={self._features!r}, but the encoder returned no {self._features}: "
                    "set head, or use features='both', which uses all outputs"
                )
            outputs = {name: outputs[name]}
        return np.concatenate([_to_array(part, n_expected) for part in outputs.values()], axis=1)

    def _keep_input(
        self, module: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        embedding = next(iter((*arguments, *named.values())), None)
        if not isinstance(embedding, torch.Tensor):
            raise ValueError(
                "the input of head must be a tensor, the embedding, but it is a "
                f"{type(embedding).__name__}: choose another head"
            )
        self._head_values["embedding"] = embedding.clone()  # the head may work in place

    def _keep_output(self, module: torch.nn.Module, arguments: Any, output: torch.Tensor) -> None:
        self._head_values["logits"] = output.clone() if isinstance(output, torch.Tensor) else output

    def _to_input(self, clips: NDArray[np.uint8]) -> torch.Tensor:
        """Return clips in the encoder's layout and precision: ``(x / 255 - mean) / std``."""
        device = self._device()
        ordered = torch.from_numpy(clips).to(device)
        if self._layout == "BCTHW":
            ordered = ordered.transpose(1, 2).contiguous()  # cheaper for bytes than for floats
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
        return self._torch_device or torch.device("cpu")


@contextmanager
def inference(encoder: Any) -> Iterator[None]:
    """Enter evaluation and inference mode; restore the mode of every submodule on exit."""
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
    _processors[model] = _read_processor(name)
    return model


def _read_processor(name: str) -> dict[str, Any] | None:
    """Read the settings of a model's processor, whose class itself may need torchvision."""
    hub: Any = import_optional("transformers.utils.hub", "transformers", "An encoder given by name")
    for file in ("video_preprocessor_config.json", "preprocessor_config.json"):
        path = hub.cached_file(name, file, _raise_exceptions_for_missing_entries=False)
        if path is not None:
            return dict(json.loads(Path(path).read_text()))
    return None


def _is_pretrained(encoder: Any) -> bool:
    transformers = sys.modules.get("transformers")
    return transformers is not None and isinstance(encoder, transformers.PreTrainedModel)


def _outputs_of_mapping(output: Mapping[Any, Any]) -> dict[str, Any]:
    outputs: dict[str, Any] = {}
    key = next((key for key in _EMBEDDING_KEYS if key in output), None)
    if key is not None:
        outputs["embedding"] = output[key]
    elif "last_hidden_state" in output:
        outputs["embedding"] = _average_tokens(output["last_hidden_state"])
    if "logits" in output:
        outputs["logits"] = output["logits"]
    if not outputs:
        raise ValueError(
            f"encoder returned a mapping with {sorted(map(str, output))}, expected 'embedding' or "
            "'logits'"
        )
    return outputs


def _average_tokens(tokens: torch.Tensor) -> torch.Tensor:
    if tokens.ndim != 3:
        raise ValueError(
            "last_hidden_state must be (n, n_tokens, n_features) to be averaged, got shape "
            f"{tuple(tokens.shape)}: return the embedding itself"
        )
    return tokens.mean(dim=1)


def _outputs_of_tuple(output: Sequence[Any]) -> dict[str, Any]:
    if not output:
        return {}
    between = {f"part {i}": part for i, part in enumerate(output[1:-1], start=1)}
    last = {"logits": output[-1]} if len(output) > 1 else {}
    return {"embedding": output[0], **between, **last}


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


def _find_head(encoder: Any, name: str | None) -> torch.nn.Module | None:
    if name is None:
        is_classifier = _is_pretrained(encoder) and "Classification" in type(encoder).__name__
        found = getattr(encoder, "classifier", None) if is_classifier else None
        return found if isinstance(found, torch.nn.Module) else None
    if not isinstance(encoder, torch.nn.Module):
        raise ValueError(f"head={name!r} names a submodule, but the encoder is not a module")
    modules = dict(encoder.named_modules())
    if name not in modules or not name:
        raise ValueError(
            f"head: the encoder has no submodule {name!r}; its last ones are {[*modules][-5:]}"
        )
    return modules[name]


@contextmanager
def _on_device(encoder: Any, device: torch.device | None) -> Iterator[None]:
    """Move a module to a device, and back on exit."""
    module, tensor = _module_of(encoder), _first_tensor(encoder)
    if device is None or module is None or tensor is None or tensor.device == device:
        yield
        return
    before = tensor.device
    try:
        module.to(device)  # may run out of memory halfway; the rest is moved back too
        yield
    finally:
        module.to(before)


def _module_of(encoder: Any) -> torch.nn.Module | None:
    """Return the encoder if it is a module, or the module that it is a method of."""
    owner = getattr(encoder, "__self__", encoder)
    return owner if isinstance(owner, torch.nn.Module) else None


def _first_parameter(encoder: Any) -> torch.Tensor | None:
    """Return a floating-point parameter, whose dtype is the precision of the module."""
    module = _module_of(encoder)
    parameters = [] if module is None else module.parameters()
    return next((p for p in parameters if p.is_floating_point()), None)


def _first_tensor(encoder: Any) -> torch.Tensor | None:
    """Return a parameter or buffer, whose device is that of the module."""
    module = _module_of(encoder)
    tensors = [] if module is None else chain(module.parameters(), module.buffers())
    return next(iter(tensors), None)


def _per_channel(name: str, values: Sequence[float] | float) -> torch.Tensor:
    array = np.asarray(values, dtype=np.float32).ravel()
    if len(array) not in (1, 3) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be one finite number or one per channel (3), got {values}")
    if name == "std" and not (array > 0).all():
        raise ValueError(f"std must be positive, got {values}")
    return torch.from_numpy(array.copy())


def _to_array(part: Any, n_expected: int) -> NDArray[np.floating]:
    """Return an output as an array (n_expected, n_features) of at least single precision."""
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
