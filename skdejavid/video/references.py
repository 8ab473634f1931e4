"""What an object refers to: attributes, items, variables of closures, defaults, weak references."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable
from functools import lru_cache, partial
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FrameType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    TracebackType,
)
from typing import TYPE_CHECKING, Any
from weakref import CallableProxyType, ProxyType, ref

import numpy as np

from skdejavid.compat.optional import import_optional

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = [
    "CACHED_FUNCTION",
    "WEAK",
    "attributes_of",
    "cells_of",
    "content_of",
    "original_function",
    "references_of",
    "target_of",
]

CACHED_FUNCTION: type = type(lru_cache(repr))
WEAK = (ref, ProxyType, CallableProxyType)

# They refer to nothing, or to what belongs to the process.
_ENDS = (
    *(type(None), int, float, complex, str, bytes, range, type(Ellipsis)),
    *(type, CodeType, FrameType, TracebackType),
)

_References = list[tuple[str, Any]]  # expressions that lead from the object to others


def attributes_of(item: Any) -> dict[str, Any]:
    """Return the attributes of an object, those in slots included."""
    kind = type(item)
    attributes: dict[str, Any] = {}
    for base in kind.__mro__:
        if "__slots__" in vars(base):
            for name, value in list(vars(base).items()):
                if isinstance(value, MemberDescriptorType) and hasattr(item, name):
                    attributes[name] = getattr(item, name)
    if kind.__dictoffset__:
        attributes.update(object.__getattribute__(item, "__dict__"))
    return attributes


def cells_of(function: FunctionType) -> dict[str, CellType]:
    """Return the cells of the variables of a closure."""
    return dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))


def content_of(cell: CellType) -> Any:
    """Return the value in a cell, or None if nothing is assigned yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def target_of(weak: Any) -> Any:
    """Return what a weak reference or proxy refers to, or None if it is gone."""
    if issubclass(type(weak), ref):
        return weak()
    try:
        return weak.__repr__.__self__  # all attributes of a proxy are those of its target
    except ReferenceError:
        return None


def original_function(function: FunctionType) -> Any:
    """Return what ``torch.compile`` has compiled to a function, or None."""
    return vars(function).get("_torchdynamo_orig_callable")


def references_of(item: Any) -> _References:
    """Return what an object refers to, by what is appended to the object's name to get there.

    Weak references count. Classes, code, what is in modules of Python, and global variables do not,
    and neither do cached results. Objects of native code tell the garbage collector.
    """
    kind = type(item)
    base = next((base for base in _FINDERS if issubclass(kind, base)), None)
    if base is None:
        found = _of_object(item)
    else:
        found = _FINDERS[base](item)
        if kind is not base and not issubclass(kind, (*WEAK, ModuleType)):
            found += _attributes(item)
    return [(suffix, part) for suffix, part in found if not issubclass(type(part), _ENDS)]


def _attributes(item: Any) -> _References:
    return [(f".{name}", value) for name, value in attributes_of(item).items()]


def _of_object(item: Any) -> _References:
    named = _attributes(item)
    seen = {id(value) for _, value in named}
    if type(item).__dictoffset__:
        seen.add(id(object.__getattribute__(item, "__dict__")))
    return named + [("", part) for part in gc.get_referents(item) if id(part) not in seen]


def _of_function(function: FunctionType) -> _References:
    original = original_function(function)
    if original is not None:
        return [("._torchdynamo_orig_callable", original)]
    return [
        *((f".__closure__[{name!r}]", cell) for name, cell in cells_of(function).items()),
        (".__defaults__", function.__defaults__),
        (".__kwdefaults__", function.__kwdefaults__),
        *_attributes(function),
    ]


def _entries(value: dict[Any, Any]) -> _References:
    # Other threads may change it, but not while Python lists either.
    keys, items = list(value), list(value.values())
    names = (f"[{key!r}]" if type(key) in (str, int) else "[...]" for key in keys)
    return [*zip(names, items, strict=False), *((".keys()[...]", key) for key in keys)]


def _items(value: Any) -> _References:
    return [(f"[{i}]", item) for i, item in enumerate(list(value))]


def _array(value: np.ndarray[Any, Any]) -> _References:
    return _items(value.ravel()) if value.dtype.hasobject else []


def _named(*names: str) -> Callable[[Any], _References]:
    return lambda value: [(f".{name}", getattr(value, name)) for name in names]


_FINDERS: dict[type, Callable[[Any], _References]] = {
    **dict.fromkeys(WEAK, lambda value: [("()", target_of(value))]),
    ModuleType: lambda value: [],
    CellType: lambda value: [("", content_of(value))],
    FunctionType: _of_function,
    MethodType: _named("__func__", "__self__"),
    BuiltinFunctionType: _named("__self__"),
    CACHED_FUNCTION: lambda value: [(".__wrapped__", value.__wrapped__)],
    partial: lambda value: [*_named("func", "args", "keywords")(value), *_attributes(value)],
    dict: _entries,
    **dict.fromkeys((list, tuple, set, frozenset, deque), _items),
    torch.Tensor: _attributes,
    np.ndarray: _array,
}
