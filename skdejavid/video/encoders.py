"""Running an encoder on clips: layout, normalization, inference mode, shape of the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["encode", "inference", "resize_and_crop"]


@contextmanager
def inference(encoder: Any) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every submodule is in the mode it was in."""
    modes = (
        {module: module.training for module in encoder.modules()}
        if isinstance(encoder, torch.nn.Module)
        else {}
    )
    try:
        for module in modes:
            module.training = False
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def encode(
    encoder: Callable[[torch.Tensor], Any],
    clips: Sequence[NDArray[np.uint8]],
    *,
    layout: str,
    mean: Sequence[float] | float | None,
    std: Sequence[float] | float | None,
) -> NDArray[np.floating]:
    """Embeddings (n_clips, n_features) of clips (clip_length, height, width, 3).

    An encoder of single frames ("BCHW") sees all frames of all clips; its embeddings are averaged
    inside each clip. An encoder that returns several tensors gets them joined.
    """
    batch = _as_input(np.stack(clips), encoder, mean, std)  # B T C H W
    n_clips, clip_length = batch.shape[:2]
    if layout == "BCTHW":
        batch = batch.transpose(1, 2)
    elif layout == "BCHW":
        batch = batch.flatten(0, 1)
    embeddings = _join(encoder(batch.contiguous()), len(batch))
    if layout == "BCHW":
        embeddings = embeddings.reshape(n_clips, clip_length, -1).mean(axis=1)
    return embeddings


def resize_and_crop(frame: NDArray[np.uint8], size: int | None) -> NDArray[np.uint8]:
    """The centered square of a frame (height, width, 3) whose shorter side is scaled to `size`."""
    if size is None:
        return frame
    height, width = frame.shape[:2]
    scale = size / min(height, width)
    target = (max(round(height * scale), size), max(round(width * scale), size))
    if target != (height, width):
        writable = np.require(frame, requirements=["C", "W"])  # torch warns of any other
        channels_first = torch.from_numpy(writable).permute(2, 0, 1)[None]
        resized = torch.nn.functional.interpolate(
            channels_first, size=target, mode="bilinear", antialias=True
        )
        frame = resized[0].permute(1, 2, 0).numpy()
    top, left = (target[0] - size) // 2, (target[1] - size) // 2
    return np.ascontiguousarray(frame[top : top + size, left : left + size])


def _as_input(
    clips: NDArray[np.uint8],
    encoder: Any,
    mean: Sequence[float] | float | None,
    std: Sequence[float] | float | None,
) -> torch.Tensor:
    """Channels before height and width, values in [0, 1], then ``(x - mean) / std``."""
    parameters = encoder.parameters() if isinstance(encoder, torch.nn.Module) else []
    parameter = next((p for p in parameters if p.is_floating_point()), None)
    device = None if parameter is None else parameter.device
    batch = torch.from_numpy(clips).to(device).permute(0, 1, 4, 2, 3).to(torch.float32) / 255
    if mean is not None:
        batch = batch - _per_channel("mean", mean, batch)
    if std is not None:
        batch = batch / _per_channel("std", std, batch)
    return batch if parameter is None else batch.to(parameter.dtype)


def _per_channel(name: str, values: Sequence[float] | float, batch: torch.Tensor) -> torch.Tensor:
    array = np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)
    if len(array) not in (1, 3) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be one number or one per channel, got {values}")
    if name == "std" and not (array > 0).all():
        raise ValueError(f"std must be positive, got {values}")
    return torch.from_numpy(array.copy()).to(batch.device)


def _join(output: Any, n_expected: int) -> NDArray[np.floating]:
    """One array (n, n_features) from a tensor, or from a tuple of tensors (embedding, logits)."""
    parts = output if isinstance(output, (tuple, list)) else [output]
    arrays = []
    for part in parts:
        if isinstance(part, torch.Tensor):
            part = part.to("cpu", torch.promote_types(part.dtype, torch.float32)).numpy()
        array = np.asarray(part)
        if array.ndim != 2 or len(array) != n_expected:
            raise ValueError(
                "encoder must return a tensor (n_clips, n_features), or a tuple of them such as "
                f"(embedding, logits); for {n_expected} inputs it returned shape {array.shape}"
            )
        arrays.append(array)
    return np.concatenate(arrays, axis=1)
