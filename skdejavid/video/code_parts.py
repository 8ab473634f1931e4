"""What of functions, classes and modules decides: the user's by their code, others by name."""

from __future__ import annotations

import builtins
import enum
import functools
import importlib
import importlib.util
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from types import (
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np

from skdejavid.video.code_objects import code_facts
from skdejavid.video.libraries import (
    is_versioned,
    library_of_class,
    library_of_function,
    library_of_module,
)
from skdejavid.video.object_graphs import READ_ANY, IfRead, Node, Reads, UnknowableError
from skdejavid.video.references import cells_of, content_of

__all__ = [
    "class_node",
    "function_node",
    "if_read",
    "module_node",
    "native_function_node",
    "reads_node",
    "replaced_in_module",
]

_Parts = Iterator[tuple[str, Any]]

# Bytecode differs between versions of Python.
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

# Functions that run code which the calling code does not contain.
_HIDE_CODE = {"eval", "exec", "__import__", "import_module"}
_HIDE_CODE_AS_METHODS = {"import_module"}  # modules of torch have a method `eval`

# What contains a function.
_CALLED = (
    *(FunctionType, MethodType, staticmethod, classmethod, property),
    *(functools.partial, functools.partialmethod),
)

_SLOTS = (MemberDescriptorType, GetSetDescriptorType, WrapperDescriptorType)

_INERT = {
    *(type(None), bool, int, float, complex, str, bytes, tuple, list, dict, set),
    *(Counter, OrderedDict, defaultdict, deque, SimpleNamespace, np.ndarray),
}

_INERT_OF_TORCH = {("torch", "Tensor"), ("torch", "Size")}

# Modules of base classes that read no attributes but those that they declare.
_READ_ONLY_OWN = {"abc", "builtins", "typing", "torch.nn.modules.module"}

# Attributes of classes that only describe, or that Python keeps for itself.
_DESCRIPTIONS = {"__annotate__", "__annotate_func__", "_abc_impl", "_backward_cls"}


def function_node(function: FunctionType) -> Node:
    """Return what decides of a function.

    Of the user's functions: instructions, defaults, attributes, and the current values of all
    variables that they read from elsewhere. Of a library's: name, version, and the variables of the
    function around it, in which a decorator keeps what it decorates.

    Raises
    ------
    UnknowableError
        If a function of the user runs code that it does not contain.
    """
    cells = cells_of(function).items()
    library = library_of_function(function)
    if library is not None:
        around = [(f".__closure__[{name!r}]", cell) for name, cell in cells]
        return Node(f"function {_name_of(function)} of {library}", around)
    facts = code_facts(function.__code__)
    for name in sorted(facts.globals & _HIDE_CODE | facts.attributes & _HIDE_CODE_AS_METHODS):
        raise UnknowableError(f"calls {name}, which runs code that it does not contain")
    attributes = vars(function)
    parts = [
        (".__defaults__", function.__defaults__),
        (".__kwdefaults__", function.__kwdefaults__),
        *((f".{name}", attributes[name]) for name in sorted(attributes)),
        *_globals_of(function),
        *_imports_of(function),
    ]
    for name, cell in cells:
        if name in facts.reads or not _is_inert(content_of(cell)):
            parts.append((f".__closure__[{name!r}]", cell))
    kind = f"function of Python {_PYTHON} {facts.digest.hex()}"
    return Node(kind, parts, reads=facts.reads, writes=facts.writes)


def _name_of(function: FunctionType) -> str:
    code = function.__code__
    name = f"{function.__globals__.get('__name__')}.{code.co_qualname}"
    # There may be several without a name.
    return f"{name} {_PYTHON} {code_facts(code).digest.hex()}" if "<lambda>" in name else name


def _globals_of(function: FunctionType) -> _Parts:
    """Yield the values of the global and built-in variables that a function reads."""
    facts, variables = code_facts(function.__code__), function.__globals__
    names = facts.globals
    if "globals" in names:
        names = names.union(name for name in variables if not _is_special(name))
    for name in sorted(names - {"__name__", "__file__"}):
        value = variables.get(name, vars(builtins).get(name, Ellipsis))
        if name in facts.globals - facts.reads and _is_inert(value):
            continue  # a counter, or what collects things for somebody else
        yield f".__globals__[{name!r}]", _as_read(value, name, facts.attributes, facts.bare)


def _imports_of(function: FunctionType) -> _Parts:
    """Yield what a function imports when it runs: a library, or a module of the user."""
    package = function.__globals__.get("__package__") or ""
    facts = code_facts(function.__code__)
    for level, name, imported in sorted(facts.imports, key=repr):
        names = facts.attributes.union(imported or ())
        suffix = f".import({name!r})"
        library, module = _module_of_import("." * level + name, package)
        if module is None or library is not None:
            yield suffix, library or "missing"
            # Whether a library has been imported already does not matter.
            for attribute, value in [] if module is None else _replaced_by_name(module, names):
                yield f"{suffix}{attribute}", value
        elif facts.reads & READ_ANY:
            yield suffix, module
        else:
            yield suffix, Reads(module, names, frozenset())


def _module_of_import(name: str, package: str) -> tuple[str | None, ModuleType | None]:
    """Return the library of a module, and the module; import it if it may be the user's."""
    try:
        absolute = importlib.util.resolve_name(name, package)
        module = sys.modules.get(absolute)
        if module is not None:
            return library_of_module(module), module
        spec = importlib.util.find_spec(absolute.partition(".")[0])
        if spec is None:
            return None, None
        root = ModuleType(absolute.partition(".")[0])
        root.__file__ = spec.origin
        library = library_of_module(root)
        return library, None if library is not None else importlib.import_module(absolute)
    except Exception:  # the code would fail as well, or expects it to
        return None, None


def _as_read(value: Any, name: str, names: frozenset[str], bare: frozenset[str]) -> Any:
    """Return a value that code reads by a name; of a module only what the code names."""
    if not isinstance(value, ModuleType):
        return value
    may_read_all = name in bare and library_of_module(value) is None
    return value if may_read_all else Reads(value, names, bare)


def reads_node(reads: Reads) -> Node:
    """Return what decides of a module of which code reads some attributes.

    Of a library's module only what the user has replaced in it.
    """
    module, names, bare = reads
    library = library_of_module(module)
    if library is not None:
        replaced = list(_replaced_by_name(module, names))
        return Node(f"module {module.__name__} of {library}", replaced)
    variables = vars(module)
    found = sorted((names | {"__getattr__"}) & variables.keys())
    return Node("module", [(f".{n}", _as_read(variables[n], n, names, bare)) for n in found])


def module_node(module: ModuleType) -> Node:
    """Return what decides of a module of which code may read anything."""
    library = library_of_module(module)
    if library is not None:
        return Node(f"module {module.__name__} of {library}")
    variables = vars(module)
    names = sorted(name for name in variables if not _is_special(name))
    return Node("module", [(f".{name}", variables[name]) for name in names])


def class_node(kind: type) -> Node:
    """Return what decides of a class: bases and attributes of the user's, the name of others.

    Of a library's class also what the user has replaced in it, or in its module.
    """
    library = library_of_class(kind)
    if library is not None:
        where = f"{kind.__module__}.{kind.__qualname__}"
        return Node(f"class {where} of {library}", list(_replaced_in_class(kind)))
    parts: list[tuple[str, Any]] = [(".__name__", kind.__name__), (".__class__", type(kind))]
    if kind.__module__ == "torch.fx.graph_module":  # a class for each object, which copies rename
        del parts[0]
    parts += [(f".__bases__[{i}]", base) for i, base in enumerate(kind.__bases__)]
    if issubclass(kind, enum.Enum):
        members = {name: member.value for name, member in kind.__members__.items()}
        parts.append((".__members__", members))
    attributes = vars(kind)
    names = sorted(name for name in attributes if _decides(kind, name, attributes[name]))
    own = [(f".{name}", if_read(kind, name, attributes[name])) for name in names]
    return Node("class", parts + own)


def if_read(kind: type, name: str, value: Any) -> Any:
    """Return a value of an attribute, marked if it may decide nothing.

    That are counters and collections of results, and what Python and others note in classes, such
    as docstrings and type hints.
    """
    if _is_special(name) and not (callable(value) or hasattr(type(value), "__get__")):
        return IfRead(name, value, by_name=True)
    if not _is_inert(value):
        return value
    libraries = [base for base in kind.__mro__ if library_of_class(base) is not None]
    may_be_read = kind in libraries or any(
        base.__module__ not in _READ_ONLY_OWN or name in vars(base) or name in _annotations(base)
        for base in libraries
    )
    return value if may_be_read else IfRead(name, value)


def _is_inert(value: Any) -> bool:
    """Return whether writing to a value runs no code of the user."""
    kind = type(value)
    return kind in _INERT or (kind.__module__, kind.__qualname__) in _INERT_OF_TORCH


def _annotations(kind: type) -> dict[str, Any]:
    return vars(kind).get("__annotations__", {})


def _decides(kind: type, name: str, value: Any) -> bool:
    """Return whether an attribute of a class may decide, and is not described with the class."""
    if isinstance(value, _SLOTS) or name in _DESCRIPTIONS:
        return False
    if not issubclass(kind, enum.Enum):
        return True
    is_internal = name.startswith("_") and name.endswith("_") and not callable(value)
    return not is_internal and not isinstance(value, (kind, enum.property))


def native_function_node(function: Any) -> Node:
    """Return what decides of a function or method of native code: its name, and its object.

    Raises
    ------
    UnknowableError
        If the code does not belong to a library.
    """
    owner = getattr(function, "__self__", getattr(function, "__objclass__", None))
    kind = f"native function {function.__qualname__}"
    if owner is not None and not isinstance(owner, ModuleType):
        return Node(kind, [(".__self__", owner)])
    module = owner or sys.modules.get(function.__module__ or "")
    if module is None or library_of_module(module) is None:
        raise UnknowableError("is compiled code, which cannot be compared")
    return Node(f"{kind} of {module.__name__} of {library_of_module(module)}")


def _replaced_in_class(kind: type) -> _Parts:
    """Yield what does not come from the library of a class, of its bases and their modules."""
    modules = dict.fromkeys(base.__module__ for base in kind.__mro__)
    for i, base in enumerate(kind.__mro__):
        library = library_of_class(base) or ""
        attributes = vars(base)
        for name in sorted(attributes):
            if _is_replaced(attributes[name], library):
                yield f".__mro__[{i}].{name}", attributes[name]
    for name in modules:
        for suffix, value in replaced_in_module(sys.modules[name]):
            yield f".{name}{suffix}", value


def replaced_in_module(module: ModuleType) -> _Parts:
    """Yield the functions of the user that stand in a module of a library."""
    variables = vars(module)
    candidates = [name for name, value in variables.items() if isinstance(value, _CALLED)]
    for name in sorted(candidates):
        function = _function_in(variables[name])
        if function is not None and _contains_users_code(function):
            yield f".{name}", variables[name]


def _replaced_by_name(module: ModuleType, names: frozenset[str]) -> _Parts:
    """Yield what the user has put into a library's module, or the modules in it, by some names."""
    waiting, seen = [("", module)], {module}
    while waiting:
        prefix, here = waiting.pop()
        variables = vars(here)
        for name in sorted(names & variables.keys()):
            value = variables[name]
            if not isinstance(value, ModuleType):
                if _is_replaced(value, None):
                    yield f"{prefix}.{name}", value
            elif library_of_module(value) is None:
                yield f"{prefix}.{name}", value
            elif value not in seen:
                seen.add(value)
                waiting.append((f"{prefix}.{name}", value))


def _is_replaced(value: Any, library: str | None) -> bool:
    """Return whether a value is the user's, or a function of another library than `library`."""
    function = _function_in(value)
    if function is None:
        kind = value if isinstance(value, type) else type(value)
        module = sys.modules.get(kind.__module__)
        return module is None or library_of_module(module) is None
    if library is not None and not function.__closure__:
        own = library_of_function(function)
        return own is None or (own != library and is_versioned(own))
    return _contains_users_code(function)


def _function_in(value: Any) -> FunctionType | None:
    """Return the function in a method, property or partial of any kind, or None."""
    while not isinstance(value, FunctionType):
        if not isinstance(value, _CALLED):
            return None
        value = next(getattr(value, n) for n in ("__func__", "func", "fget") if hasattr(value, n))
    return value


def _contains_users_code(function: FunctionType) -> bool:
    """Return whether the user wrote a function, or one that it decorates."""
    waiting, seen = [function], {function}
    while waiting:
        here = waiting.pop()
        if library_of_function(here) is None:
            return True
        for cell in here.__closure__ or ():
            inner = _function_in(content_of(cell))
            if inner is not None and inner not in seen:
                seen.add(inner)
                waiting.append(inner)
    return False


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
