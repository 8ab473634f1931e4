"""A check of the pickles in torch's files, before torch loads them.

``torch.load(weights_only=True)`` executes no code from a file. But it builds whatever the pickle
describes: a megabyte can describe gigabytes of copies of one list, or a nesting so deep that
hashing it overflows the stack. Here the instructions of a pickle are read, and none is followed.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Iterator
from typing import IO, Any

__all__ = ["check_pickle"]

_MOST_BYTES = 2**20
_LAST_PROTOCOL = 3  # that torch loads

# Each of these builds an object of a small and fixed size. An OrderedDict would copy its argument,
# and must have none.
_FUNCTIONS = re.compile(r"torch\._utils\._rebuild_(tensor_v2|parameter)|torch\.\w+Storage")
_TYPES = re.compile(r"torch\.(u?int|float|bfloat|complex|bool|double|half|long)\w*")
_DICT = "collections.OrderedDict"

_INSTRUCTIONS = {
    "PROTO", "STOP", "MARK", "POP", "POP_MARK", "PUT", "BINPUT", "LONG_BINPUT", "GET",
    "BINGET", "LONG_BINGET", "GLOBAL", "REDUCE", "BINPERSID", "NONE", "NEWTRUE",
    "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT",
    "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE",
    "BINBYTES", "SHORT_BINBYTES", "EMPTY_LIST", "LIST", "APPEND", "APPENDS",
    "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "EMPTY_TUPLE", "TUPLE", "TUPLE1",
    "TUPLE2", "TUPLE3",
}  # fmt: skip

# Tuples are hashed by recursion; this many nested ones need less than two megabytes of the stack.
_MOST_TUPLES = 20_000


def check_pickle(file: IO[bytes], n_bytes: int) -> None:
    """Check that a pickle only describes tensors, numbers and strings in dicts, lists and tuples.

    Parameters
    ----------
    file : binary file
    n_bytes : int
        The size of the pickle.

    Raises
    ------
    ValueError
        If it describes something else, or something too large.
    """
    if n_bytes > _MOST_BYTES:
        raise ValueError(
            f"its pickle has {n_bytes} bytes, and at most {_MOST_BYTES} are read: save only the "
            "tensor"
        )
    content = file.read(n_bytes)
    protocol = content[1] if content[:1] == b"\x80" and len(content) > 1 else 0
    if protocol > _LAST_PROTOCOL:
        raise ValueError(
            f"it was saved with pickle_protocol={protocol}, which torch does not load with "
            "weights_only=True: save it with torch.save's default protocol, or as .safetensors"
        )
    n_tuples = 0
    dicts = _DictCalls()
    for name, argument in _instructions(content):
        if name not in _INSTRUCTIONS:
            raise ValueError(f"its pickle contains the instruction {name}, expected only tensors")
        if name == "GLOBAL":
            _check_global(str(argument).replace(" ", "."))
        n_tuples += name.startswith("TUPLE")
        if n_tuples > _MOST_TUPLES:
            raise ValueError(f"its pickle contains more than {_MOST_TUPLES} tuples")
        dicts.follow(name, argument)


def _instructions(content: bytes) -> Iterator[tuple[str, Any]]:
    """Yield name and argument of each instruction."""
    try:
        for instruction, argument, _ in pickletools.genops(content):
            yield instruction.name, argument
    except Exception as error:  # of nearly any type, for a malformed pickle
        raise ValueError(f"its pickle is malformed: {error}") from error


def _check_global(name: str) -> None:
    if not (_FUNCTIONS.fullmatch(name) or _TYPES.fullmatch(name) or name == _DICT):
        raise ValueError(f"it refers to {name}, and only tensors in dicts and lists are loaded")


class _DictCalls:
    """Ensures that an OrderedDict, wherever the class is used, is called without arguments.

    The class is on top of the stack after its GLOBAL, or after it is fetched from the memo. It can
    then be stored in the memo again, and must be followed by an empty tuple and the call.
    """

    _NEXT = {"class": "EMPTY_TUPLE", "arguments": "REDUCE"}  # noqa: RUF012

    def __init__(self) -> None:
        self._top: str | None = None  # "class", "arguments" or neither
        self._memo: set[int] = set()

    def follow(self, name: str, argument: Any) -> None:
        """Note an instruction; raise ValueError if it may give the class an argument."""
        if name.endswith("PUT"):
            if self._top == "class":
                self._memo.add(int(argument))
            return
        if self._top is not None and name != self._NEXT[self._top]:
            raise ValueError(f"its pickle uses {_DICT} in a way that torch.save does not")
        if name == "GLOBAL":
            self._top = "class" if argument == _DICT.replace(".", " ") else None
        elif name.endswith("GET"):
            self._top = "class" if int(argument) in self._memo else None
        else:
            self._top = "arguments" if self._top == "class" else None
