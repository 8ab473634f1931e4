"""Arrays in files that other programs wrote. No file can execute code."""

from __future__ import annotations

import re
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.optional import import_optional

__all__ = ["SUFFIXES", "read_array"]

SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".safetensors")

_FIRST_SAFE_TORCH = (2, 10)


def read_array(path: Path, key: str | None) -> NDArray[Any]:
    """Read an array, in the format that the content of the file and not its suffix indicates.

    Parameters
    ----------
    path : Path
    key : str or None
        Name of the array; None reads the only one.

    Raises
    ------
    ValueError
        If the file cannot be read, or has no such array; the message names the file.
    ImportError
        If the file was written by torch, which is missing or older than 2.10.
    """
    with path.open("rb") as file:
        begin = file.read(9)
    if begin.startswith(b"\x93NUMPY"):
        with _readable(path), np.errstate(over="raise"):  # of the size that the header states
            return np.load(path, mmap_mode="r", allow_pickle=False)
    if begin.startswith(b"PK\x03\x04"):
        return _read_torch(path, key) if _is_torch_archive(path) else _read_npz(path, key)
    if begin[8:] == b"{":  # after the length of the header
        return _read_safetensors(path, key)
    if begin.startswith(b"\x80"):
        raise ValueError(
            f"{path} is a pickle, or was written by torch before version 1.6: pickles are not "
            "loaded. Convert it to .npy or .safetensors."
        )
    raise ValueError(f"{path} is not a file of NumPy, torch or safetensors")


def _choose(path: Path, names: Iterable[Any], key: str | None) -> Any:
    """Return the name of the array to read: `key`, or the only one."""
    found = list(names)
    if key is None and len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(f"{path} contains no array")
    listed = ", ".join(map(str, found))
    if key is None:
        raise ValueError(f"{path} contains several arrays, choose one with key: {listed}")
    if key not in found:
        raise ValueError(f"{path} contains no array {key!r}, only {listed}")
    return key


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn the errors of a reader into ValueError with the file's name.

    Readers raise errors of nearly any type for damaged files.
    """
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _read_npz(path: Path, key: str | None) -> NDArray[Any]:
    with _readable(path):
        archive = np.load(path, allow_pickle=False)
    with archive:
        name = _choose(path, archive.files, key)
        with _readable(path):
            return archive[name]


def _read_safetensors(path: Path, key: str | None) -> NDArray[Any]:
    from safetensors import safe_open

    with _readable(path):
        opened = safe_open(path, framework="numpy")
    with opened as file:
        name = _choose(path, file.keys(), key)
        with _readable(path):
            if file.get_slice(name).get_dtype() == "BF16":
                return _read_bfloat16(path, name)
            return file.get_tensor(name)


def _read_bfloat16(path: Path, name: str) -> NDArray[np.float32]:
    """Read an array of a type that NumPy lacks: the upper halves of float32 numbers."""
    from safetensors import deserialize

    tensor = dict(deserialize(path.read_bytes()))[name]
    upper = np.frombuffer(tensor["data"], dtype="<u2").astype(np.uint32)
    return (upper << 16).view(np.float32).reshape(tensor["shape"])


def _is_torch_archive(path: Path) -> bool:
    """Return whether torch wrote a ZIP file; check its checksums, which ``torch.load`` ignores."""
    try:
        with zipfile.ZipFile(path) as archive:
            if not any(name.endswith("data.pkl") for name in archive.namelist()):
                return False
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise ValueError(f"{path} is compressed, but torch.save never compresses")
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if damaged is not None:
        raise ValueError(f"{path} is damaged: the checksum of its part {damaged!r} differs")
    return True


def _read_torch(path: Path, key: str | None) -> NDArray[Any]:
    torch: Any = import_optional("torch", "nn", f"Reading {path}")
    version = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
    if version < _FIRST_SAFE_TORCH:
        raise ImportError(
            f"{path} cannot be read with torch {torch.__version__}: before version 2.10, "
            "torch.load(weights_only=True) can be made to execute code (CVE-2025-32434, "
            "CVE-2026-24747). Upgrade torch, or convert the file to .safetensors or .npy."
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickle's protocol 3, which is loaded
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # of nearly any type, for a malformed pickle
        protocol = _pickle_protocol(path)
        if protocol > 3:
            raise ValueError(
                f"{path} was saved with pickle_protocol={protocol}, which torch does not load with "
                "weights_only=True: save it with torch.save's default protocol, or as .safetensors"
            ) from error
        raise ValueError(f"{path} cannot be read: {_reason(error)}") from error
    tensors = _tensors_of(content, torch.Tensor)
    tensor = tensors[_choose(path, tensors, key)]
    with _readable(path):
        _check_extent(tensor)
        plain = tensor.detach()
        return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()


def _pickle_protocol(path: Path) -> int:
    """Return the protocol of the pickle in a ZIP file of torch; 0 if the pickle has none."""
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        with archive.open(name) as file:
            begin = file.read(2)
    return begin[1] if len(begin) == 2 and begin[0] == 0x80 else 0


def _reason(error: Exception) -> str:
    """Explain an error of ``torch.load`` without its advice to load the file unsafely."""
    text = str(error)
    refused = re.search(r"GLOBAL (\S+)", text)
    if refused:
        return f"it refers to {refused[1]}, and only tensors in dicts and lists are loaded"
    line = text.rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
    return f"torch.load(weights_only=True) fails with {type(error).__name__}: {line}"


def _tensors_of(content: Any, tensor_type: type) -> dict[Any, Any]:
    """Return the tensors of a loaded file by key or index."""
    if isinstance(content, tensor_type):
        return {0: content}
    if isinstance(content, Mapping):
        items: Iterable[tuple[Any, Any]] = content.items()
    elif isinstance(content, (list, tuple)):
        items = enumerate(content)
    else:
        return {}
    return {name: item for name, item in items if isinstance(item, tensor_type)}


def _check_extent(tensor: Any) -> None:
    """Refuse a tensor with more elements than the file stores, as an expanded one has."""
    n_bytes = tensor.numel() * tensor.element_size()
    n_stored = tensor.untyped_storage().nbytes()
    if n_bytes > n_stored:
        raise ValueError(
            f"a tensor of shape {tuple(tensor.shape)} has only {n_stored} bytes in the file"
        )
