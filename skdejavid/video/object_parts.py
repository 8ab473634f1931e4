"""What of any object decides what an encoder computes."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import enum
import fractions
import functools
import logging
import operator
import random
import re
import types
import uuid
from collections.abc import Callable
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from skdejavid.compat.optional import import_optional
from skdejavid.video.code_objects import atom
from skdejavid.video.code_parts import (
    class_node,
    function_node,
    if_read,
    module_node,
    native_function_node,
    reads_node,
)
from skdejavid.video.object_graphs import Node, Reads, UnknowableError
from skdejavid.video.references import CACHED_FUNCTION, attributes_of
from skdejavid.video.tensor_parts import array_node, tensor_node
from skdejavid.video.torch_parts import left_out_of, module_parts, operator_node, original_module

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = ["describe"]

_Parts = list[tuple[str, Any]]

# What its text identifies.
_BY_TEXT = {
    *(type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented)),
    *(range, decimal.Decimal, fractions.Fraction, uuid.UUID),
    *(datetime.date, datetime.timedelta),
    *(torch.dtype, torch.layout, torch.memory_format, torch.Size, torch.finfo, torch.iinfo),
    *(types.GenericAlias, types.UnionType),
}


def describe(value: Any) -> Node | bytes:
    """Return what decides of an object, for `digest_of`.

    Raises
    ------
    UnknowableError
        If the object has a state that cannot be read, as a lock or an open file.
    """
    kind = type(value)
    if kind in _BY_TEXT or (kind.__module__ == "typing" and not isinstance(value, type)):
        return atom(value)
    for base in kind.__mro__:
        handler = _HANDLERS.get(base) or _HANDLERS_BY_NAME.get((base.__module__, base.__qualname__))
        if handler is not None:
            return handler(value)
    if _hides_state(kind):
        raise UnknowableError(f"is a {kind.__qualname__}, whose state cannot be compared")
    parts = _class_and_attributes(value)
    return Node("object", parts, nameless=len(parts) == 1)


def _class_and_attributes(value: Any) -> _Parts:
    """Return the class and the attributes of an object, those in slots included."""
    kind = type(value)
    attributes = attributes_of(value)
    names = sorted(attributes.keys() - left_out_of(kind), key=str)
    found = ((f".{name}", if_read(kind, name, attributes[name])) for name in map(str, names))
    return [(".__class__", kind), *found]


def _hides_state(kind: type) -> bool:
    """Return whether objects of a class contain more than attributes of Python."""
    while kind is not object:
        base = kind.__base__ or object
        attributes = vars(kind)
        members = sum(isinstance(v, types.MemberDescriptorType) for v in attributes.values())
        pointers = members if "__slots__" in attributes else 0
        pointers += ("__dict__" in attributes) + ("__weakref__" in attributes)
        is_native = not kind.__flags__ & 1 << 9  # not made by a class statement or a call of type
        if is_native or kind.__basicsize__ - base.__basicsize__ > 8 * pointers:
            return True
        kind = base
    return False


def _of_builtin(kind: type, parts_of: Callable[[Any], _Parts], *, ordered: bool = True) -> Any:
    """Return a handler for a built-in type and the classes that are derived from it."""

    def handler(value: Any) -> Node:
        own = [] if type(value) is kind else _class_and_attributes(value)
        return Node(kind.__qualname__, [*parts_of(value), *own], ordered)

    return handler


def _items(value: Any) -> _Parts:
    kind = list if isinstance(value, list) else tuple
    iterate = kind.__iter__ if isinstance(value, (list, tuple)) else iter
    return [(f"[{i}]", item) for i, item in enumerate(iterate(value))]


def _entries(value: Any) -> _Parts:
    """Return keys and values of a mapping, whose order counts."""
    is_ordered = isinstance(value, collections.OrderedDict)
    parts: _Parts = []
    for i, (key, item) in enumerate((collections.OrderedDict if is_ordered else dict).items(value)):
        if type(key) in _BY_TEXT:
            parts.append((f"[{key!r}]", item))
        else:
            parts += [(f".keys()[{i}]", key), (f".values()[{i}]", item)]
    return parts


def _named(*names: str) -> Callable[[Any], _Parts]:
    return lambda value: [(f".{name}", getattr(value, name)) for name in names]


def _reduced(value: Any) -> _Parts:
    return [(".__reduce__()[1]", value.__reduce__()[1])]


def _member(value: enum.Enum) -> Node:
    return Node(
        "member", [(".__class__", type(value)), (".name", value.name), (".value", value.value)]
    )


def _cell(value: types.CellType) -> Node:
    try:
        return Node("cell", [("", value.cell_contents)])
    except ValueError:  # not assigned yet
        return Node("empty cell")


def _ufunc(value: np.ufunc) -> Node:
    if vars(np).get(value.__name__) is not value:
        raise UnknowableError("is compiled code, which cannot be compared")
    return Node(f"ufunc {value.__name__}")


def _module(value: torch.nn.Module) -> Node | bytes:
    original = original_module(value)
    if original is not None:
        return describe(original)
    return Node("module of torch", [*module_parts(value), *_class_and_attributes(value)])


def _config(value: Any) -> Node:
    """Return what decides of the settings of a Hugging Face model, in files or in memory."""
    return Node(
        "config", [(name, _with_lists(part)) for name, part in _class_and_attributes(value)]
    )


def _with_lists(value: Any) -> Any:
    """Return a value with lists in place of tuples, which become lists in files."""
    if type(value) in (list, tuple):
        return [_with_lists(item) for item in value]
    if type(value) is dict:
        return {key: _with_lists(item) for key, item in value.items()}
    return value


def _subclass_of_text(kind: type) -> Callable[[Any], Node]:
    return _of_builtin(kind, lambda value: [("", kind.__new__(kind, value))])


_HANDLERS: dict[type, Callable[[Any], Node | bytes]] = {
    Reads: reads_node,
    torch.nn.Module: _module,
    torch.Tensor: tensor_node,
    torch.device: lambda value: b"device",  # does not decide
    torch.Generator: lambda value: Node("generator", [(".get_state()", value.get_state())]),
    np.ndarray: array_node,
    np.generic: lambda value: Node("number", [("", np.asarray(value))]),
    np.dtype: lambda value: atom(repr(value)),
    np.ufunc: _ufunc,
    np.random.Generator: lambda value: Node("generator", [("", value.bit_generator.state)]),
    np.random.RandomState: lambda value: Node("generator", [("", value.get_state(legacy=False))]),
    random.Random: _of_builtin(random.Random, lambda value: [(".getstate()", value.getstate())]),
    type: class_node,
    types.FunctionType: function_node,
    types.ModuleType: module_node,
    types.BuiltinFunctionType: native_function_node,
    types.MethodDescriptorType: native_function_node,
    types.ClassMethodDescriptorType: native_function_node,
    types.WrapperDescriptorType: native_function_node,
    types.MethodWrapperType: native_function_node,
    types.CellType: _cell,
    types.MethodType: _of_builtin(types.MethodType, _named("__func__", "__self__")),
    types.SimpleNamespace: lambda value: Node("namespace", _class_and_attributes(value)),
    types.MappingProxyType: _of_builtin(types.MappingProxyType, lambda value: [("", dict(value))]),
    functools.partial: _of_builtin(functools.partial, _named("func", "args", "keywords")),
    functools.cached_property: lambda value: Node("property", [(".func", value.func)]),
    CACHED_FUNCTION: lambda value: Node("cached", [("", value.__wrapped__)]),
    property: _of_builtin(property, _named("fget", "fset", "fdel")),
    staticmethod: lambda value: Node("static method", [(".__func__", value.__func__)]),
    classmethod: lambda value: Node("class method", [(".__func__", value.__func__)]),
    operator.itemgetter: _of_builtin(operator.itemgetter, _reduced),
    operator.attrgetter: _of_builtin(operator.attrgetter, _reduced),
    operator.methodcaller: lambda value: Node("caller", _items(value.__reduce__())),
    datetime.time: lambda value: Node("time", [("", value.isoformat()), (".fold", value.fold)]),
    datetime.datetime: lambda value: Node("time", [("", value.isoformat()), (".fold", value.fold)]),
    datetime.timezone: lambda value: Node("zone", [("", repr(value))]),
    enum.Enum: _member,
    int: _subclass_of_text(int),
    float: _subclass_of_text(float),
    complex: _subclass_of_text(complex),
    str: _subclass_of_text(str),
    bytes: _subclass_of_text(bytes),
    bytearray: lambda value: atom(value),
    PurePath: lambda value: Node("path", [("", str(value))]),
    re.Pattern: lambda value: Node("pattern", _named("pattern", "flags")(value)),
    slice: _of_builtin(slice, _named("start", "stop", "step")),
    array.array: lambda value: Node("array", [("", (value.typecode, value.tobytes()))]),
    list: _of_builtin(list, _items),
    tuple: _of_builtin(tuple, _items),
    collections.deque: _of_builtin(
        collections.deque, lambda value: [(".maxlen", value.maxlen), *_items(value)]
    ),
    collections.defaultdict: _of_builtin(
        collections.defaultdict,
        lambda value: [(".default_factory", value.default_factory), *_entries(value)],
    ),
    dict: _of_builtin(dict, _entries),
    set: _of_builtin(
        set, lambda value: [("{}", item) for item in set.__iter__(value)], ordered=False
    ),
    frozenset: _of_builtin(
        frozenset,
        lambda value: [("{}", item) for item in frozenset.__iter__(value)],
        ordered=False,
    ),
    BaseException: lambda value: Node(
        "error", [(".args", value.args), *_class_and_attributes(value)]
    ),
    logging.Logger: lambda value: b"logger",  # does not decide
}

# Types without a name that can be imported, or of modules that may not be loaded.
_HANDLERS_BY_NAME: dict[tuple[str, str], Callable[[Any], Node | bytes]] = {
    ("_collections", "_tuplegetter"): lambda value: Node("field", [("", value.__reduce__()[1][0])]),
    ("torch.fx.graph", "Graph"): lambda value: Node(
        "graph",
        [("", value.python_code("self").src), (".globals", value.python_code("self").globals)],
    ),
    ("transformers.configuration_utils", "PreTrainedConfig"): _config,
    ("torch._ops", "OpOverload"): operator_node,
    ("torch._ops", "OpOverloadPacket"): operator_node,
}
