"""Tensors out of files of ``torch.save``, by looking at what is written and executing nothing.

Such a file is a zip archive of plain numbers and one pickle, which says how they make up tensors.
Of that pickle only those instructions are followed that a tensor consists of, on objects of our
own: nothing is imported or called by a name that the file holds.
"""

from __future__ import annotations

import math
import pickletools
import zipfile
from collections.abc import Callable
from os import PathLike
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_tensors"]

_STORAGES = {
    "torch DoubleStorage": "f8",
    "torch FloatStorage": "f4",
    "torch HalfStorage": "f2",
    "torch BFloat16Storage": "bfloat16",
    "torch LongStorage": "i8",
    "torch IntStorage": "i4",
    "torch ShortStorage": "i2",
    "torch CharStorage": "i1",
    "torch ByteStorage": "u1",
    "torch BoolStorage": "?",
}
_TENSOR = "torch._utils _rebuild_tensor_v2"
_ORDERED = "collections OrderedDict"
_BYTE_ORDERS: dict[bytes, Literal["<", ">"]] = {b"little": "<", b"big": ">"}
_TOO_LARGE = 2**48  # for a number of anything; keeps sizes in bytes inside 64 bits


class _Global(NamedTuple):
    """A name in a pickle; never looked up."""

    name: str


class _Storage(NamedTuple):
    """Numbers of an archive."""

    dtype: str
    key: str
    n_numbers: int


class _Tensor(NamedTuple):
    """A tensor: part of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Mark:
    """Where the items of a tuple, list or dict begin on the stack."""


def read_tensors(path: str | PathLike[str]) -> dict[Any, NDArray[Any]]:
    """The tensors of a file of ``torch.save``: one alone, or those of one dict, list or tuple.

    Parameters
    ----------
    path : str or path
        A zip archive as torch writes it since version 1.6.

    Returns
    -------
    dict of ndarray
        By the keys of the dict, or by their numbers in a list; a single tensor has the number 0.
        What else the dict or list holds is left out. bfloat16 becomes float32.

    Raises
    ------
    ValueError
        If the file is no such archive, is damaged, or its pickle names anything that is not part
        of a tensor; the message says what.
    """
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return _read_archive(archive)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        except (zipfile.BadZipFile, EOFError, OSError, RuntimeError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error


def _read_archive(archive: zipfile.ZipFile) -> dict[Any, NDArray[Any]]:
    members = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise ValueError("it is a zip archive, but none that torch.save wrote")
    folder = pickles[0].partition("/")[0]

    def read(name: str, n_bytes: int | None = None) -> bytes:
        info = members.get(f"{folder}/{name}")
        if info is None:
            raise ValueError(f"its part {name!r} is missing")
        # torch compresses nothing; so no part can be larger than the file.
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ValueError(f"its part {name!r} is compressed")
        if n_bytes is not None and info.file_size != n_bytes:
            raise ValueError(f"its part {name!r} has {info.file_size} bytes, expected {n_bytes}")
        return archive.read(info)

    order = read("byteorder") if f"{folder}/byteorder" in members else b"little"
    if order not in _BYTE_ORDERS:
        raise ValueError(f"its byte order is {order!r}")
    content = _Interpreter().run(read("data.pkl"))
    if isinstance(content, _Tensor):
        content = [content]
    items = content.items() if isinstance(content, dict) else enumerate(_as_items(content))
    tensors = {key: value for key, value in items if isinstance(value, _Tensor)}
    if not tensors:
        raise ValueError("it holds no tensor")
    return {key: _as_array(tensor, read, _BYTE_ORDERS[order]) for key, tensor in tensors.items()}


def _as_items(content: Any) -> list[Any] | tuple[Any, ...]:
    if type(content) not in (list, tuple):
        raise ValueError("it holds no tensor")
    return content


def _as_array(
    tensor: _Tensor, read: Callable[[str, int | None], bytes], byte_order: Literal["<", ">"]
) -> NDArray[Any]:
    storage, offset, shape, strides = tensor
    if math.prod(shape) > storage.n_numbers:
        raise ValueError(
            f"a tensor of shape {shape} shares its {storage.n_numbers} numbers: save a "
            ".contiguous() one"
        )
    is_bfloat16 = storage.dtype == "bfloat16"
    dtype = np.dtype("u2" if is_bfloat16 else storage.dtype).newbyteorder(byte_order)
    content = read(f"data/{storage.key}", storage.n_numbers * dtype.itemsize)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= storage.n_numbers:
        raise ValueError(f"a tensor reaches beyond its {storage.n_numbers} numbers")
    array: NDArray[Any] = np.ndarray(
        shape,
        dtype,
        buffer=content if math.prod(shape) else None,
        offset=offset * dtype.itemsize if math.prod(shape) else 0,
        strides=[step * dtype.itemsize for step in strides],
    )
    if is_bfloat16:  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(dtype.newbyteorder("="))


class _Interpreter:
    """A pickle machine that knows tensors and plain Python values, and nothing else."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        try:
            for opcode, argument, _ in pickletools.genops(content):
                if opcode.name == "STOP":
                    return self._pop()
                self._step(opcode.name, argument)
        except (AttributeError, IndexError, KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"its pickle is malformed: {error}") from error
        raise ValueError("its pickle has no end")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in ("PROTO", "FRAME"):
            return
        if name in _PLAIN:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            items = [self._pop() for _ in range(int(name[-1]))]
            stack.append(tuple(items[::-1]))
        elif name == "TUPLE":
            stack.append(tuple(self._pop_to_mark()))
        elif name in ("APPEND", "APPENDS"):
            items = [self._pop()] if name == "APPEND" else self._pop_to_mark()
            _require(stack[-1], list, "a list").extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [self._pop(), self._pop()][::-1] if name == "SETITEM" else self._pop_to_mark()
            pairs = zip(items[::2], items[1::2], strict=True)
            _require(stack[-1], dict, "a dict").update(pairs)
        elif name == "GLOBAL":
            stack.append(_known_global(argument))
        elif name == "STACK_GLOBAL":
            attribute, module = self._pop(), self._pop()
            stack.append(_known_global(f"{module} {attribute}"))
        elif name == "BINPERSID":
            stack.append(_as_storage(self._pop()))
        elif name == "REDUCE":
            arguments, function = self._pop(), self._pop()
            stack.append(_reduced(function, arguments))
        else:
            raise ValueError(f"its pickle has the instruction {name}, which no tensor needs")

    def _pop(self) -> Any:
        item = self._stack.pop()
        if isinstance(item, _Mark):
            raise ValueError("its pickle is malformed: a mark has no end")
        return item

    def _pop_to_mark(self) -> list[Any]:
        items: list[Any] = []
        while not isinstance(item := self._stack.pop(), _Mark):
            items.append(item)
        return items[::-1]


_PLAIN = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINBYTES", "BINBYTES"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "MARK": _Mark,
}


def _known_global(name: str) -> _Global:
    if name not in (*_STORAGES, _TENSOR, _ORDERED):
        raise ValueError(f"its pickle asks for {name.replace(' ', '.')}, which is not executed")
    return _Global(name)


def _as_storage(identity: Any) -> _Storage:
    kind, storage, key, _, n_numbers = identity
    if kind != "storage" or not isinstance(storage, _Global) or storage.name not in _STORAGES:
        raise ValueError("its pickle is malformed: no storage of numbers")
    key = _require(key, str, "the name of a storage")
    return _Storage(_STORAGES[storage.name], key, _as_count(n_numbers))


def _reduced(function: Any, arguments: Any) -> Any:
    if function == _Global(_ORDERED) and arguments == ():
        return {}
    if function != _Global(_TENSOR):
        raise ValueError("its pickle is malformed: it calls what is no function")
    storage, offset, shape, strides, *_ = arguments
    shape, strides = tuple(map(_as_count, shape)), tuple(map(_as_count, strides))
    if len(shape) != len(strides) or len(shape) > 32:
        raise ValueError(f"its pickle is malformed: a tensor of shape {shape}, strides {strides}")
    return _Tensor(_require(storage, _Storage, "a storage"), _as_count(offset), shape, strides)


def _as_count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _TOO_LARGE:
        raise ValueError(f"its pickle is malformed: {value!r} is no count")
    return value


def _require(value: Any, kind: type, name: str) -> Any:
    if type(value) is not kind:
        raise ValueError(f"its pickle is malformed: expected {name}, got {type(value).__name__}")
    return value
