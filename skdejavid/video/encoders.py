"""Running encoders on clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.optional import import_optional
from skdejavid.video.encoder_errors import as_device, explain_errors
from skdejavid.video.pretrained import is_pretrained, run_pretrained
from skdejavid.video.sessions import first_parameter, first_tensor, inference, on_device

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = ["ClipEncoder"]

# Keys of the embedding in mappings that encoders return, by falling priority.
_EMBEDDING_KEYS = ("embedding", "pooler_output", "image_embeds", "video_embeds")

# Names of the head in classifiers of transformers, by falling priority.
_HEADS = ("classifier", "cls_classifier", "fc", "head")

_EXPECTED = "a tensor (n_clips, n_features), or a tuple (embedding, logits)"

# Key of the output of an encoder that returns a single tensor.
_SINGLE = "single output"


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
        self._torch_device = as_device(device)
        self._autocast = autocast
        self._head_values: dict[str, torch.Tensor] = {}

    @contextmanager
    def session(self) -> Iterator[None]:
        """Put the encoder on the device and in evaluation mode; restore its state on exit."""
        with ExitStack() as stack:
            # Moved outside of inference mode: tensors created inside could not be trained later.
            stack.enter_context(on_device(self._encoder, self._torch_device))
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
        with explain_errors(batch, self._layout):
            if is_pretrained(self._encoder):
                return run_pretrained(self._encoder, batch)
            return self._encoder(batch)

    def _outputs_by_name(self, output: Any) -> dict[str, Any]:
        """Return the parts of an output by name, "embedding" first and "logits" last."""
        if self._head_values:
            if self._head_name is not None:
                return dict(self._head_values)
            found = {**self._head_values, **_logits_of(output)}
            return {name: _without_token_axis(value) for name, value in found.items()}
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
        for part in outputs.values():
            if not isinstance(part, (torch.Tensor, np.ndarray)):
                raise ValueError(
                    f"the encoder returned a {type(part).__name__} as one of its outputs "
                    f"({', '.join(outputs)}), expected {_EXPECTED}"
                )
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
        parameter = first_parameter(self._encoder)
        return batch if parameter is None else batch.to(parameter.dtype)

    def _device(self) -> torch.device:
        tensor = first_tensor(self._encoder)
        if tensor is not None:
            return tensor.device
        return self._torch_device or torch.device("cpu")


def _logits_of(output: Any) -> dict[str, Any]:
    """Return the logits of a classifier, which may be the average of those of several heads."""
    logits = output.get("logits") if isinstance(output, Mapping) else None
    return {} if logits is None else {"logits": logits}


def _without_token_axis(values: Any) -> Any:
    """Return values (n, 1, n_features) of one token, as VideoPrism has it, without that axis."""
    is_of_one_token = isinstance(values, torch.Tensor) and values.ndim == 3 and values.shape[1] == 1
    return values[:, 0] if is_of_one_token else values


def _outputs_of_mapping(output: Mapping[Any, Any]) -> dict[str, Any]:
    outputs: dict[str, Any] = {}
    key = next((key for key in _EMBEDDING_KEYS if output.get(key) is not None), None)
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
        raise ValueError(
            f"the encoder returned an empty {type(output).__name__}, expected {_EXPECTED}"
        )
    between = {f"part {i}": part for i, part in enumerate(output[1:-1], start=1)}
    last = {"logits": output[-1]} if len(output) > 1 else {}
    return {"embedding": output[0], **between, **last}


def _find_head(encoder: Any, name: str | None) -> torch.nn.Module | None:
    if name is None:
        is_classifier = is_pretrained(encoder) and "Classification" in type(encoder).__name__
        found = [getattr(encoder, head, None) for head in _HEADS] if is_classifier else []
        # A list of modules is not called itself.
        heads = [module for module in found if isinstance(module, torch.nn.Module)]
        return next((m for m in heads if not isinstance(m, torch.nn.ModuleList)), None)
    if not isinstance(encoder, torch.nn.Module):
        raise ValueError(f"head={name!r} names a submodule, but the encoder is not a module")
    modules = dict(encoder.named_modules())
    if name not in modules or not name:
        raise ValueError(
            f"head: the encoder has no submodule {name!r}; its last ones are {[*modules][-5:]}"
        )
    return modules[name]


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
