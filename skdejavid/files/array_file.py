"""Files of named arrays with a JSON description, the format of models and checkpoints.

They are safetensors files with the description in their metadata. Reading one neither executes code
nor imports or opens anything by a name in the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from skdejavid.files.atomic import append_bytes, replace_file
from skdejavid.files.regular import open_regular_file

__all__ = [
    "ArrayFile",
    "ArrayHeader",
    "ArraySource",
    "UnwrittenFile",
    "as_written",
    "check_field",
    "read_header",
    "write_array_file",
]

_KEY, _CHECKSUM_KEY = "skdejavid", "skdejavid checksum"
_CHECKSUMS = "checksums"  # of arrays, by name, in the description
_LENGTH_SIZE = 8  # bytes of the length of the header

# Parsing a header may need twenty times its size in memory; with this limit that is harmless.
_MOST_HEADER_BYTES = 2**22

# Names of safetensors, and their dtypes.
_DTYPES: dict[str, Any] = {
    "BOOL": np.bool_, "U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64,
    "I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64,
    "F16": np.float16, "F32": np.float32, "F64": np.float64,
}  # fmt: skip


class ArrayHeader(NamedTuple):
    """What is known of an array before its numbers are read."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def as_written(array: Any, dtype: Any = None) -> NDArray[Any]:
    """Return an array in the form that files store: contiguous, in this machine's byte order."""
    array = np.asarray(array, dtype)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)


def write_array_file(
    path: Path, description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Write arrays and their description to a file, replacing it atomically.

    Parameters
    ----------
    path : Path
        The file, which need not exist.
    description : dict
        Anything that JSON can represent, without NaN and infinity.
    arrays : dict of ndarray
        Arrays of booleans, or of integers or floats of at most 64 bits.

    Raises
    ------
    ValueError
        If the description is larger than 4 MB, because of names, labels or metadata.
    OSError
        If the file cannot be written; the message names it.
    """
    written = {name: as_written(array) for name, array in arrays.items()}
    checksums = {name: _checksum(array) for name, array in written.items()}
    text = json.dumps({**description, _CHECKSUMS: checksums}, allow_nan=False)
    # Quotation marks and backslashes are escaped in the header, a byte each. The limit leaves 64 KB
    # for the headers of the arrays.
    if len(text) + text.count('"') + text.count("\\") > _MOST_HEADER_BYTES - 2**16:
        raise ValueError(
            f"{path} cannot be written: with all names of features, labels of classes and "
            f"metadata, the description has {len(text)} bytes, and at most "
            f"{_MOST_HEADER_BYTES - 2**16} are allowed. Shorten them."
        )
    metadata = {_KEY: text, _CHECKSUM_KEY: _checksum(text.encode())}
    replace_file(path, lambda file: _write_safetensors(file, written, metadata))


def _write_safetensors(
    file: BinaryIO, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Write arrays as safetensors.

    The library's own functions write either to a name, which is then another file than the open
    one, or to memory, which takes the size of the arrays once more.
    """
    names = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
    # The widest numbers first, so that all are aligned.
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0]))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, array in ordered:
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": names[array.dtype],
            "shape": array.shape,
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text = text.ljust(len(text) + -len(text) % _LENGTH_SIZE)
    file.write(len(text).to_bytes(_LENGTH_SIZE, "little") + text)
    for _, array in ordered:
        append_bytes(file, array.reshape(-1).view(np.uint8).data)


class ArraySource(Protocol):
    """Arrays with a description, and checks of both."""

    @property
    def description(self) -> Mapping[str, Any]:
        """The description."""

    @property
    def headers(self) -> Mapping[str, ArrayHeader]:
        """Dtypes and shapes of the arrays by name."""

    def _numbers(self, name: str) -> NDArray[Any]:
        """Return an array of the source."""

    def array(
        self,
        name: str,
        shape: tuple[int | None, ...],
        dtypes: tuple[Any, ...],
        *,
        must_be_finite: bool = True,
    ) -> NDArray[Any]:
        """Read an array and check it.

        Parameters
        ----------
        name : str
            Name of the array.
        shape : tuple of int or None
            The expected shape; None allows any size.
        dtypes : tuple of dtype
            The allowed types.
        must_be_finite : bool, default=True
            Whether NaN and infinity are refused.

        Raises
        ------
        ValueError
            If the array is missing, damaged, or not as expected; the message names it.
        """
        check_field(name in self.headers, name, "is missing")
        dtype, actual = self.headers[name]
        is_shape = len(actual) == len(shape) and all(
            size is None or size == expected for size, expected in zip(shape, actual, strict=True)
        )
        wanted_shape = ", ".join("any" if size is None else str(size) for size in shape)
        check_field(is_shape, name, f"must have shape ({wanted_shape}), got {actual}")
        kinds = [np.dtype(kind) for kind in dtypes]
        check_field(dtype in kinds, name, f"must be {' or '.join(map(str, kinds))}, got {dtype}")
        array = self._numbers(name)
        is_good = not must_be_finite or bool(np.isfinite(array).all())
        check_field(is_good, name, "contains NaN or infinity")
        return array


class UnwrittenFile(ArraySource):
    """What a file would contain, to be checked as if it were read.

    Parameters
    ----------
    description : dict
        Anything that JSON can represent, without NaN and infinity.
    arrays : dict of ndarray
    """

    def __init__(self, description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self._description = json.loads(json.dumps(description, allow_nan=False))
        self._arrays = {name: as_written(array) for name, array in arrays.items()}

    @property
    def description(self) -> Mapping[str, Any]:
        return self._description

    @property
    def headers(self) -> Mapping[str, ArrayHeader]:
        return {name: _header(name, a.dtype, a.shape) for name, a in self._arrays.items()}

    def _numbers(self, name: str) -> NDArray[Any]:
        return self._arrays[name]


class ArrayFile(ArraySource):
    """An open file whose headers have been read and whose arrays are read on demand.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        Expected value of "format" in the description.
    version : int
        The newest "format_version" that can be read.

    Raises
    ------
    ValueError
        If the file is of another format or version, or damaged, or no regular file; the message
        names the file and the field.
    FileNotFoundError, OSError
        If the file cannot be opened.
    """

    def __init__(self, path: Path, what: str, version: int) -> None:
        from safetensors import SafetensorError, safe_open

        self._path, self._what = path, what
        with open_regular_file(path) as file:
            end = _LENGTH_SIZE + int.from_bytes(file.read(_LENGTH_SIZE), "little")
            if file.read(1) != b"{" or end > os.fstat(file.fileno()).st_size:
                self._refuse("it does not begin with a header of safetensors")
            read_header(path, file)
        try:
            self._file = safe_open(path, framework="numpy").__enter__()
        except SafetensorError as error:
            raise ValueError(f"{path} is a corrupt skdejavid {what}: {error}") from error
        self._description = self._read_description(version)
        self._headers = {name: self._header(name) for name in self._file.keys()}  # noqa: SIM118

    @property
    def description(self) -> Mapping[str, Any]:
        return self._description

    @property
    def headers(self) -> Mapping[str, ArrayHeader]:
        return self._headers

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.__exit__(*exception)

    def _numbers(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = self._file.get_tensor(name)
        checksums = self.description.get(_CHECKSUMS)
        expected = checksums.get(name) if isinstance(checksums, dict) else None
        check_field(
            _checksum(array) == expected,
            name,
            "has changed since it was written: its checksum differs",
        )
        return array

    def _header(self, name: str) -> ArrayHeader:
        part = self._file.get_slice(name)
        dtype = part.get_dtype()
        check_field(dtype in _DTYPES, name, f"has the unknown dtype {dtype}")
        return _header(name, np.dtype(_DTYPES[dtype]), tuple(part.get_shape()))

    def _read_description(self, version: int) -> dict[str, Any]:
        metadata = self._file.metadata() or {}
        text = metadata.get(_KEY)
        if text is None:
            self._refuse("it has no description")
        if metadata.get(_CHECKSUM_KEY) != _checksum(text.encode()):
            raise ValueError(f"{self._path} is corrupt: the checksum of its description differs")
        try:
            description = json.loads(
                text, object_pairs_hook=_without_repetition, parse_constant=_refuse_constant
            )
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self._path} is corrupt: its description: {error}") from error
        if not isinstance(description, dict) or description.get("format") != self._what:
            self._refuse(f"its 'format' is not {self._what!r}")
        number = description.get("format_version")
        if type(number) is not int or not 1 <= number <= version:
            raise ValueError(
                f"{self._path}: format_version is {number!r}, and this version of skdejavid reads "
                f"1 to {version}. It was written by skdejavid {description.get('version')!r}."
            )
        return description

    def _refuse(self, reason: str) -> NoReturn:
        raise ValueError(f"{self._path} is not a skdejavid {self._what}: {reason}")


def read_header(path: Path, file: BinaryIO) -> dict[str, Any]:
    """Read the header of an open file of safetensors.

    The library itself accepts headers of 100 MB, and picks one of two arrays with the same name.

    Raises
    ------
    ValueError
        If the header is damaged, too large, or repeats a name; the message names the file.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    length = int.from_bytes(file.read(_LENGTH_SIZE), "little")
    if _LENGTH_SIZE + length > size:
        raise ValueError(f"{path} is corrupt: its header is said to have {length} bytes")
    if length > _MOST_HEADER_BYTES:
        raise ValueError(
            f"{path} is corrupt: its header has {length} bytes, and at most "
            f"{_MOST_HEADER_BYTES} are allowed"
        )
    try:
        header = json.loads(file.read(length), object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is corrupt: its header: {error}") from error
    if not isinstance(header, dict):
        raise ValueError(f"{path} is corrupt: its header is no object of arrays by name")
    return header


def check_field(condition: bool, field: str, problem: str) -> None:
    """Check a condition on a field of a file; raise ValueError with `problem` if it is false."""
    if not condition:
        raise ValueError(f"{field!r} {problem}")


def _header(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> ArrayHeader:
    # With a size of 0 in the shape the file has no data, and other sizes could be anything.
    check_field(0 not in shape or shape == (0,), name, f"has shape {shape}")
    return ArrayHeader(dtype, shape)


def _checksum(content: bytes | NDArray[Any]) -> str:
    """Return a checksum that detects damage, not forgery: a forger can write checksums, too."""
    return sha256(content if isinstance(content, bytes) else content.data).hexdigest()


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is repeated")
    return unique


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")
