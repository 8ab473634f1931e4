"""Append-only ``.npy`` files of rows, and checksums of ranges of them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from skdejavid.files.atomic import append_bytes, replace_own_file
from skdejavid.files.regular import check_own_file, open_own_file

__all__ = ["RowsFile", "checksum_of_file"]

_HEADER_SIZE = 128  # of .npy files; within one sector of a disk, which is written atomically
_BYTES_PER_READ = 2**24


@dataclass(frozen=True)
class RowsFile:
    """An ``.npy`` file to which rows are appended.

    The header has a fixed size. The number of rows in it is valid only after `write_header`; the
    methods take the number as an argument and do not depend on the header.
    """

    path: Path
    dtype: np.dtype[Any]
    n_columns: int | None  # None for an array of one dimension

    def shape(self, n_rows: int) -> tuple[int, ...]:
        return (n_rows,) if self.n_columns is None else (n_rows, self.n_columns)

    def size(self, n_rows: int) -> int:
        """Return the size in bytes of a file of `n_rows` rows."""
        return _HEADER_SIZE + math.prod(self.shape(n_rows)) * self.dtype.itemsize

    def open(self) -> BinaryIO:
        """Open the file to append rows; create it if it does not exist."""
        file = open_own_file(self.path, "ab", is_buffered=False)
        try:
            if file.tell() < _HEADER_SIZE:
                file.truncate(0)
                append_bytes(file, self._header(0))
        except BaseException:
            file.close()
            raise
        return file

    def replace(self, rows: NDArray[Any]) -> None:
        """Replace the file atomically by one with these rows."""
        content = self._header(len(rows)) + rows.astype(self.dtype).tobytes()
        replace_own_file(self.path, lambda file: file.write(content))

    def write_header(self, n_rows: int) -> None:
        """Write the number of rows into the header."""
        with open_own_file(self.path, "r+b") as file:
            file.write(self._header(n_rows))
            file.flush()
            os.fsync(file.fileno())

    def check(self, n_rows: int, *, is_finished: bool = False) -> None:
        """Check that the file has the dtype and shape of this object and at least `n_rows` rows.

        It may have more rows, which a writer is appending, unless it `is_finished`.

        Raises
        ------
        ValueError
            If it does not; the message names the file.
        """
        self._open_checked(n_rows, is_finished=is_finished).close()

    def map(self, n_rows: int) -> NDArray[Any]:
        """Return the rows as a read-only memory map."""
        with self._open_checked(n_rows) as file:
            shape = self.shape(n_rows)
            return np.memmap(file, self.dtype, mode="r", offset=_HEADER_SIZE, shape=shape)

    def cut(self, n_rows: int) -> None:
        """Truncate the file to `n_rows` rows."""
        check_own_file(self.path)
        if self.path.stat().st_size != self.size(n_rows):
            os.truncate(self.path, self.size(n_rows))

    def checksum(
        self, begin: int, end: int, before: int = 0, on_read: Callable[[int], object] | None = None
    ) -> int | None:
        """Return the CRC-32 of rows `begin` to `end`, or None if the file is too short.

        `before` is the CRC-32 of all rows before `begin`. `on_read` gets each number of bytes that
        were read.
        """
        return checksum_of_file(self.path, self.size(begin), self.size(end), before, on_read)

    def _open_checked(self, n_rows: int, *, is_finished: bool = False) -> BinaryIO:
        """Open the file for reading after the checks of `check`."""
        try:
            file = open_own_file(self.path)
        except FileNotFoundError:
            raise self._wrong_size(0, self.size(n_rows)) from None
        try:
            self._check(file, n_rows, is_finished=is_finished)
        except BaseException:
            file.close()
            raise
        return file

    def _check(self, file: BinaryIO, n_rows: int, *, is_finished: bool) -> None:
        size, expected = os.fstat(file.fileno()).st_size, self.size(n_rows)
        if size < expected or (is_finished and size > expected):
            raise self._wrong_size(size, expected)
        actual, expected_header = file.read(_HEADER_SIZE), self._header(n_rows)
        if not is_finished:  # compare only the part that does not depend on the number of rows
            actual, expected_header = (
                text.partition(b"'shape'")[0] for text in (actual, expected_header)
            )
        if actual != expected_header:
            raise ValueError(
                f"{self.path} is damaged: its header is not that of {self.dtype} numbers of shape "
                f"{self.shape(n_rows)}"
            )

    def _wrong_size(self, size: int, expected: int) -> ValueError:
        return ValueError(f"{self.path} is damaged: it has {size} bytes, expected {expected}")

    def _header(self, n_rows: int) -> bytes:
        shape = self.shape(n_rows)
        content = f"{{'descr': {self.dtype.str!r}, 'fortran_order': False, 'shape': {shape}, }}"
        padded = content.encode().ljust(_HEADER_SIZE - 11) + b"\n"
        return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


def checksum_of_file(
    path: Path,
    begin: int,
    end: int,
    before: int = 0,
    on_read: Callable[[int], object] | None = None,
) -> int | None:
    """Return the CRC-32 of the bytes from `begin` to `end`, or None if the file is too short.

    `before` is the CRC-32 of all bytes before `begin`. `on_read` gets each number of bytes that
    were read.
    """
    if begin == end:
        return before
    try:
        opened = open_own_file(path)
    except FileNotFoundError:
        return None
    checksum = before
    with opened as file:
        file.seek(begin)
        for position in range(begin, end, _BYTES_PER_READ):
            n_bytes = min(_BYTES_PER_READ, end - position)
            content = file.read(n_bytes)
            if len(content) < n_bytes:
                return None
            checksum = crc32(content, checksum)
            if on_read is not None:
                on_read(n_bytes)
    return checksum
