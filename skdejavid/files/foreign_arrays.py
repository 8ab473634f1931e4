"""Arrays in files that other programs wrote. No file can execute code."""

from __future__ import annotations

import math
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import fstat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.claims import most_bytes
from skdejavid.compat.optional import import_optional
from skdejavid.files.array_file import read_header
from skdejavid.files.pickled_tensors import check_pickle
from skdejavid.files.regular import open_regular_file, refuse_irregular

__all__ = ["SUFFIXES", "read_array"]

SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".safetensors")

_FIRST_SAFE_TORCH = (2, 10)

# How large a compressed array of a tiny file may be: zeros, for which no file is too small.
_ALLOWANCE = 2**26

_BYTES_PER_READ = 2**20
_MOST_NAMES_LISTED = 20


def read_array(path: Path, key: str | None) -> NDArray[Any]:
    """Read an array, in the format that the content of the file and not its suffix indicates.

    What a file only claims is compared with its size before anything is allocated.

    Parameters
    ----------
    path : Path
    key : str or None
        Name of the array; None reads the only one.

    Raises
    ------
    ValueError
        If the file cannot be read, is no regular file, or has no such array; the message names the
        file.
    ImportError
        If the file was written by torch, which is missing or older than 2.10.
    """
    with open_regular_file(path) as file:
        begin = file.read(9)
        if begin.startswith(b"\x93NUMPY"):
            return _map_npy(path, file)
        if begin.startswith(b"PK\x03\x04"):
            with _open_archive(path, file) as archive:
                if not any(name.endswith("data.pkl") for name in archive.namelist()):
                    return _read_npz(path, archive, key)
                _check_torch_archive(path, archive)
            return _read_torch(path, key)
        if begin[8:] == b"{":  # after the length of the header
            return _read_safetensors(path, file, key)
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
    listed = ", ".join(map(str, found[:_MOST_NAMES_LISTED]))
    if len(found) > _MOST_NAMES_LISTED:
        listed += f" and {len(found) - _MOST_NAMES_LISTED} more"
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


def _map_npy(path: Path, file: BinaryIO) -> NDArray[Any]:
    with _readable(path):
        file.seek(0)
        header = _read_npy_header(file)
        return np.memmap(file, mode="r", offset=file.tell(), **header)


def _open_archive(path: Path, file: BinaryIO) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except Exception as error:  # of nearly any type, for a malformed archive
        raise ValueError(f"{path} is damaged: {error}") from error


def _read_npz(path: Path, archive: zipfile.ZipFile, key: str | None) -> NDArray[Any]:
    parts = {part.filename.removesuffix(".npy"): part for part in archive.infolist()}
    part = parts[_choose(path, parts, key)]
    if part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # A reader of other methods decompresses without a limit, whatever size is claimed.
        raise ValueError(
            f"{path} is compressed by a method that NumPy does not write: save the array with "
            "numpy.savez"
        )
    n_bytes = fstat(archive.fp.fileno()).st_size if archive.fp is not None else 0
    most = most_bytes(n_bytes, _ALLOWANCE)
    if part.file_size > most:
        raise ValueError(
            f"{path} has {n_bytes} bytes and claims to contain {part.file_size} in {part.filename}"
            f", but at most {most} are read: save the array uncompressed, with numpy.savez"
        )
    with _readable(path), archive.open(part) as file:
        header = _read_npy_header(file)
        content = bytearray()
        while more := file.read(_BYTES_PER_READ):  # at most what is claimed; ends with a checksum
            content += more
        n_numbers = len(content) // header["dtype"].itemsize
        if n_numbers * header["dtype"].itemsize != len(content):
            raise ValueError(f"{part.filename} does not end with a whole number")
        array: NDArray[Any] = np.frombuffer(content, header["dtype"])
        return array.reshape(header["shape"], order=header["order"])


def _read_npy_header(file: Any) -> dict[str, Any]:
    """Read the header of NumPy's format, of numbers; return arguments of `np.memmap`."""
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in read:
        raise ValueError(f"version {version} of the format is only for structured arrays")
    with warnings.catch_warnings(action="ignore"):  # of literals, and of files of Python 2
        shape, is_fortran, dtype = read[version](file)
    if dtype.kind not in "biufc":
        raise ValueError(f"its items are {str(dtype)[:100]}, expected numbers")
    if not all(0 < size < 2**63 for size in shape):
        raise ValueError(f"it has shape {shape}, expected positive sizes")
    if math.prod(shape) * dtype.itemsize >= 2**63:
        raise ValueError(f"an array of shape {shape} is larger than any file")
    return {"dtype": dtype, "shape": shape, "order": "F" if is_fortran else "C"}


def _read_safetensors(path: Path, file: BinaryIO, key: str | None) -> NDArray[Any]:
    from safetensors import safe_open

    header = read_header(path, file)
    refuse_irregular(path)
    with _readable(path):
        opened = safe_open(path, framework="numpy")
    with opened as tensors:
        name = _choose(path, tensors.keys(), key)
        with _readable(path):
            part = tensors.get_slice(name)
            if part.get_dtype() != "BF16":
                return tensors.get_tensor(name)
            begin, end = header[name]["data_offsets"]
            return _read_bfloat16(file, begin, end).reshape(part.get_shape())


def _read_bfloat16(file: BinaryIO, begin: int, end: int) -> NDArray[np.float32]:
    """Read an array of a type that NumPy lacks: the upper halves of float32 numbers."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    file.seek(8 + length + begin)
    upper = np.frombuffer(file.read(end - begin), dtype="<u2").astype(np.uint32)
    return (upper << 16).view(np.float32)


def _check_torch_archive(path: Path, archive: zipfile.ZipFile) -> None:
    """Check what ``torch.load`` does not: checksums, sizes, and what the pickle would build."""
    parts = archive.infolist()
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError(f"{path} is compressed, but torch.save never compresses")
    n_bytes = fstat(archive.fp.fileno()).st_size if archive.fp is not None else 0
    if sum(part.file_size for part in parts) > n_bytes:
        raise ValueError(f"{path} is damaged: its parts claim to be larger than the file")
    try:
        damaged = archive.testzip()
    except Exception as error:  # of nearly any type, for a malformed archive
        raise ValueError(f"{path} is damaged: {error}") from error
    if damaged is not None:
        raise ValueError(f"{path} is damaged: the checksum of its part {damaged!r} differs")
    for part in parts:
        if part.filename.endswith("data.pkl"):
            with _readable(path), archive.open(part) as file:
                check_pickle(file, part.file_size)


def _read_torch(path: Path, key: str | None) -> NDArray[Any]:
    torch: Any = import_optional("torch", "nn", f"Reading {path}")
    version = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
    if version < _FIRST_SAFE_TORCH:
        raise ImportError(
            f"{path} cannot be read with torch {torch.__version__}: before version 2.10, "
            "torch.load(weights_only=True) can be made to execute code (CVE-2025-32434, "
            "CVE-2026-24747). Upgrade torch, or convert the file to .safetensors or .npy."
        )
    refuse_irregular(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickle's protocol 3, which is loaded
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # of nearly any type, for a malformed pickle
        raise ValueError(f"{path} cannot be read: {_reason(error)}") from error
    tensors = _tensors_of(content, torch.Tensor)
    tensor = tensors[_choose(path, tensors, key)]
    with _readable(path):
        _check_extent(tensor)
        plain = tensor.detach()
        return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()


def _reason(error: Exception) -> str:
    """Explain an error of ``torch.load`` without its advice to load the file unsafely."""
    line = str(error).rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
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
