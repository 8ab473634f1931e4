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
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from skdejavid.files.atomic import replace_file

__all__ = ["ArrayFile", "check_field", "write_array_file"]

_KEY, _CHECKSUM_KEY = "skdejavid", "skdejavid checksum"
_CHECKSUMS = "checksums"  # of arrays, by name, in the description
_LENGTH_SIZE = 8  # bytes of the length of the header

# Parsing a header may need twenty times its size in memory; with this limit that is harmless.
_MOST_HEADER_BYTES = 2**22

# Names of safetensors, and their dtypes.
_DTYPES = {
    "BOOL": np.bool_, "U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64,
    "I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64,
    "F16": np.float16, "F32": np.float32, "F64": np.float64,
}  # fmt: skip


class _ArrayHeader(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


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
    """
    from safetensors.numpy import save_file

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    checksums = {name: _checksum(array) for name, array in contiguous.items()}
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
    replace_file(path, lambda file: save_file(contiguous, file.name, metadata))


class ArrayFile:
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
        If the file is of another format or version, or damaged; the message names the file and the
        field.
    FileNotFoundError, OSError
        If the file cannot be opened.
    """

    def __init__(self, path: Path, what: str, version: int) -> None:
        from safetensors import SafetensorError, safe_open

        self._path, self._what = path, what
        self._refuse_repeated_names()
        try:
            self._file = safe_open(path, framework="numpy").__enter__()
        except SafetensorError as error:
            raise ValueError(f"{path} is a corrupt skdejavid {what}: {error}") from error
        self.description = self._read_description(version)
        self.headers = {name: self._header(name) for name in self._file.keys()}  # noqa: SIM118

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.__exit__(*exception)

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
        array: NDArray[Any] = self._file.get_tensor(name)
        checksums = self.description.get(_CHECKSUMS)
        expected = checksums.get(name) if isinstance(checksums, dict) else None
        check_field(
            _checksum(array) == expected,
            name,
            "has changed since it was written: its checksum differs",
        )
        is_good = not must_be_finite or bool(np.isfinite(array).all())
        check_field(is_good, name, "contains NaN or infinity")
        return array

    def _header(self, name: str) -> _ArrayHeader:
        part = self._file.get_slice(name)
        dtype, shape = part.get_dtype(), tuple(part.get_shape())
        check_field(dtype in _DTYPES, name, f"has the unknown dtype {dtype}")
        # With a size of 0 in the shape the file has no data, and other sizes could be anything.
        check_field(0 not in shape or shape == (0,), name, f"has shape {shape}")
        return _ArrayHeader(np.dtype(_DTYPES[dtype]), shape)

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

    def _refuse_repeated_names(self) -> None:
        """Refuse duplicate names, of which safetensors silently picks one."""
        size = os.path.getsize(self._path)
        with self._path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_SIZE), "little")
            is_header = file.read(1) == b"{"
            if not (is_header and _LENGTH_SIZE + length <= size):
                self._refuse("it does not begin with a header of safetensors")
            if length > _MOST_HEADER_BYTES:
                raise ValueError(
                    f"{self._path} is corrupt: its header has {length} bytes, and at most "
                    f"{_MOST_HEADER_BYTES} are allowed"
                )
            file.seek(_LENGTH_SIZE)
            try:
                json.loads(file.read(length), object_pairs_hook=_without_repetition)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{self._path} is corrupt: its header: {error}") from error


def check_field(condition: bool, field: str, problem: str) -> None:
    """Check a condition on a field of a file; raise ValueError with `problem` if it is false."""
    if not condition:
        raise ValueError(f"{field!r} {problem}")


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
