"""Running encoders on clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.optional import import_optional
from skdejavid.video.encoder_errors import as_device, explain_errors
from skdejavid.video.fingerprints import fingerprint
from skdejavid.video.pretrained import is_pretrained, run_pretrained
from skdejavid.video.sessions import (
    evaluation,
    first_parameter,
    first_tensor,
    precision,
    turn_of,
)
from skdejavid.video.transfers import Download, Transfers, transfers_to

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = ["ClipEncoder", "StartedClips"]

# Keys of the embedding in mappings that encoders return, by falling priority.
_EMBEDDING_KEYS = ("embedding", "pooler_output", "image_embeds", "video_embeds")

# Names of the head in classifiers of transformers, by falling priority.
_HEADS = ("classifier", "cls_classifier", "fc", "head")

_LARGEST_MEAN = 2.0  # of pixels between 0 and 1; processors with an offset have one of 0.5

_EXPECTED = "a tensor (n_clips, n_features), or a tuple (embedding, logits)"

# Key of the output of an encoder that returns a single tensor.
_SINGLE = "single output"


class StartedClips:
    """Clips that an encoder has started to encode.

    Parameters
    ----------
    parts : list of Download or ndarray
        Parts of the features, each (n_images, n_features).
    n_averaged : int
        Number of images whose features are averaged for each clip.
    """

    def __init__(self, parts: list[Download | NDArray[Any]], n_averaged: int) -> None:
        self._parts = parts
        self._n_averaged = n_averaged

    @property
    def is_ready(self) -> bool:
        """Whether `get` has nothing to wait for."""
        return all(part.wait is None for part in self._parts if isinstance(part, Download))

    def get(self) -> NDArray[np.floating]:
        """Return the features (n_clips, n_features), once they have arrived."""
        arrays = [part.get() if isinstance(part, Download) else part for part in self._parts]
        features = np.concatenate(arrays, axis=1)
        if self._n_averaged == 1:
            return features
        return features.reshape(-1, self._n_averaged, features.shape[1]).mean(axis=1)


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
        Device of the copy of a module that is run; None is the device of the module.
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
        _find_head(encoder, head)  # raises an error before anything is encoded
        self._mean = None if mean is None else _per_channel("mean", mean)
        self._std = None if std is None else _per_channel("std", std)
        self._torch_device = as_device(device)
        self._autocast = autocast
        self._head_values: dict[str, torch.Tensor] = {}
        self._transfers: Transfers | None = None
        self._turn: AbstractContextManager[Any] = nullcontext()

    @contextmanager
    def session(self) -> Iterator[None]:
        """Replace the encoder by one in evaluation mode and on the device, until the end.

        A module is copied, so that an extraction neither sees nor makes changes; see
        `skdejavid.video.sessions.evaluation` for the errors.
        """
        given = self._encoder
        with ExitStack() as stack:
            stack.callback(setattr, self, "_encoder", given)
            self._encoder = stack.enter_context(evaluation(given, self._torch_device))
            self._turn = turn_of(self._encoder)
            self._transfers = None  # those to the device of the copy are made when they are needed
            head = _find_head(self._encoder, self._head_name)
            if head is not None:
                hooks = [
                    head.register_forward_pre_hook(self._keep_input, with_kwargs=True),
                    head.register_forward_hook(self._keep_output),
                ]
                for hook in hooks:
                    stack.callback(hook.remove)
            stack.enter_context(precision(self._device(), self._autocast))
            yield

    def check_fingerprint(self, recorded: str) -> None:
        """Check, inside of `session`, that the encoder has the fingerprint that a store records.

        Raises
        ------
        ValueError
            If it has another one, because it was changed after the fingerprint was taken.
        """
        if fingerprint(self._encoder) != recorded:
            raise ValueError(
                "the encoder was changed while the extraction began, for example by training in "
                "another thread: pass a copy of it, copy.deepcopy(encoder). If nothing changes it, "
                "it contains an object that copies itself in its own way, such as an optimizer: "
                "keep that outside of the encoder, or pass encoder_id"
            )

    @property
    def stage(self) -> Callable[[NDArray[np.uint8]], torch.Tensor]:
        """Function that puts a frame (3, height, width) into memory from which `upload` copies it.

        Several threads may call the function at the same time, and while another one encodes.
        """
        return self._transfers_to_device().stage

    def upload(self, frame: torch.Tensor) -> torch.Tensor:
        """Return a frame that was staged on the encoder's device, possibly before it arrives."""
        return self._transfers_to_device().upload(frame)

    def start(self, clips: Sequence[Sequence[torch.Tensor]]) -> StartedClips:
        """Start to encode clips, each a sequence of uploaded frames; a card may still compute.

        All clips must have the same shape. With layout "BCHW" each frame is an image of its own;
        its features are averaged inside each clip.

        Raises
        ------
        ValueError
            If the encoder does not return one vector per clip or lacks the requested `features`.
        """
        batch = self._to_input(clips)
        with self._turn:
            parts = self._select(self._outputs_by_name(self._run(batch)), len(batch))
        n_images = len(clips[0]) if self._layout == "BCHW" else 1
        return StartedClips([self._download(part) for part in parts], n_images)

    def encode(self, clips: Sequence[NDArray[np.uint8]]) -> NDArray[np.floating]:
        """Return features (n_clips, n_features) of clips (clip_length, 3, height, width).

        See `start`.
        """
        return self.start(self._upload_clips(clips)).get()

    def inputs(self, clips: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Return the batch that the encoder gets for clips (clip_length, 3, height, width)."""
        return self._to_input(self._upload_clips(clips))

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

    def _select(
        self, outputs: dict[str, Any], n_expected: int
    ) -> list[torch.Tensor | NDArray[Any]]:
        """Return the outputs that `features` names, each (n_expected, n_features)."""
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
        parts = [_as_matrix(part, n_expected) for part in outputs.values()]
        if not any(part.shape[1] for part in parts):
            raise ValueError("the encoder returned no number for any clip, expected a vector each")
        return parts

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

    def _upload_clips(self, clips: Sequence[NDArray[np.uint8]]) -> list[list[torch.Tensor]]:
        return [[self.upload(self.stage(frame)) for frame in clip] for clip in clips]

    def _to_input(self, clips: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
        """Return clips in the encoder's layout and precision: ``(x / 255 - mean) / std``."""
        self._transfers_to_device().await_uploads()
        ordered = torch.stack([frame for clip in clips for frame in clip])
        if self._layout != "BCHW":
            ordered = ordered.unflatten(0, (len(clips), -1))
        if self._layout == "BCTHW":
            ordered = ordered.transpose(1, 2)
        batch = ordered.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        shape = (-1, 1, 1, 1) if self._layout == "BCTHW" else (-1, 1, 1)
        if self._mean is not None:
            batch.sub_(self._mean.reshape(shape))
        if self._std is not None:
            batch.div_(self._std.reshape(shape))
        parameter = first_parameter(self._encoder)
        return batch if parameter is None else batch.to(parameter.dtype)

    def _download(self, part: torch.Tensor | NDArray[Any]) -> Download | NDArray[Any]:
        """Copy a part of the output to the host, in single precision at least."""
        if isinstance(part, np.ndarray):
            return part
        dtype = torch.promote_types(part.dtype, torch.float32)
        return self._transfers_to_device().download(part.detach(), dtype)

    def _transfers_to_device(self) -> Transfers:
        if self._transfers is None:
            device = self._device()
            self._transfers = transfers_to(device)
            # Once: a copy from memory that is not pinned waits for all that the card has to do.
            self._mean, self._std = (
                None if values is None else values.to(device) for values in (self._mean, self._std)
            )
        return self._transfers

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
    if name == "mean" and (np.abs(array) > _LARGEST_MEAN).any():
        raise ValueError(
            f"mean is that of pixels between 0 and 1, got {values}: if mean and std are those of "
            "pixels between 0 and 255, divide both by 255"
        )
    if name == "std" and not (array > 0).all():
        raise ValueError(f"std must be positive, got {values}")
    return torch.from_numpy(array.copy())


def _as_matrix(part: Any, n_expected: int) -> torch.Tensor | NDArray[Any]:
    """Return an output as a matrix (n_expected, n_features), where it is."""
    if not isinstance(part, torch.Tensor):
        part = np.array(part)  # a copy: the encoder may reuse its output before it is read
    elif part.ndim > 2 and part.shape[2:].numel() == 1:
        part = part.flatten(1)  # pooled maps, (n, n_features, 1, 1)
    if part.ndim != 2 or len(part) != n_expected:
        raise ValueError(
            "encoder must return a tensor (n_clips, n_features), or a tuple of them such as "
            f"(embedding, logits); for {n_expected} inputs it returned shape {tuple(part.shape)}"
        )
    _check_numbers(part)
    return part


def _check_numbers(part: torch.Tensor | NDArray[Any]) -> None:
    """Check that an output has real numbers, stored one after the other."""
    if isinstance(part, torch.Tensor):
        kind = "" if part.layout == torch.strided else f"{part.layout} "
        is_real = not kind and not part.is_complex() and not part.is_quantized
    else:
        kind, is_real = "", part.dtype.kind in "buif"
    if not is_real:
        raise ValueError(
            "the encoder must return real numbers in a dense tensor or array, but it returned "
            f"{kind}{part.dtype} of shape {tuple(part.shape)}"
        )
