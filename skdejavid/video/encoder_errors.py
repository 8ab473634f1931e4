"""Errors of encoders, with what the encoder was given and what can be done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from skdejavid.compat.optional import import_optional

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = ["as_device", "explain_errors"]

_AXES = {
    "BCTHW": "(batch, channels, time, height, width)",
    "BTCHW": "(batch, time, channels, height, width)",
    "BCHW": "(batch, channels, height, width), single frames",
}

# Errors that take one message. Others become a RuntimeError.
_PLAIN = (
    *(RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, AssertionError),
    *(NotImplementedError, ZeroDivisionError, torch.OutOfMemoryError),
)


@contextmanager
def explain_errors(batch: torch.Tensor, layout: str) -> Iterator[None]:
    """Raise errors of an encoder again, with a description of its input.

    Parameters
    ----------
    batch : torch.Tensor
        What the encoder is called with.
    layout : {"BCTHW", "BTCHW", "BCHW"}
        Order of the axes of `batch`.

    Raises
    ------
    Exception
        Of the same class if it is one of Python's usual ones, else RuntimeError.
    """
    try:
        yield
    except Exception as error:
        kind = type(error) if type(error) in _PLAIN else RuntimeError
        said = str(error) or type(error).__name__
        raise kind(
            f"{said} (raised by the encoder for a batch of shape {tuple(batch.shape)}, "
            f"{str(batch.dtype).removeprefix('torch.')} on {batch.device}, with layout={layout!r}: "
            f"{_AXES[layout]}). {_remedy(error, layout)}"
        ) from error


def _remedy(error: Exception, layout: str) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "Set a smaller batch_size."
    if layout == "BCHW":
        return "If the encoder takes clips, set layout='BCTHW' or 'BTCHW'; check also frame_size."
    other = "BCTHW" if layout == "BTCHW" else "BTCHW"
    order = "channels before time" if other == "BCTHW" else "time before channels"
    is_usual = "" if other == "BCTHW" else ", as video models of Hugging Face do"
    return (
        f"If the encoder takes single frames, set layout='BCHW'; if it takes {order}{is_usual}, "
        f"layout={other!r}; check also clip_length, frame_size."
    )


def as_device(device: Any) -> torch.device | None:
    """Return a torch.device that can be used, or None.

    Raises
    ------
    ValueError
        If `device` does not name a device.
    RuntimeError
        If the device cannot be used; the message says why.
    """
    if device is None:
        return None
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            "device must be None or a device of torch, such as 'cpu', 'cuda' or 'cuda:0', got "
            f"{device!r}"
        ) from error
    if found.type == "cuda":
        refused = f"device={str(device)!r} cannot be used:"
        if not torch.cuda.is_available():
            without = "was built without CUDA" if torch.version.cuda is None else "finds no device"
            raise RuntimeError(f"{refused} torch {torch.__version__} {without}. Use device='cpu'")
        n_devices = torch.cuda.device_count()
        if (found.index or 0) >= n_devices:
            raise RuntimeError(
                f"{refused} there are only {n_devices} device(s), 'cuda:0' to "
                f"'cuda:{n_devices - 1}'"
            )
    return found
