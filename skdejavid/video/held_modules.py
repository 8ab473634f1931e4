"""Modules that functions refer to, whose mode an extraction does not change."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any
from weakref import ref

from skdejavid.compat.optional import import_optional
from skdejavid.video.copies import attributes_of

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = ["check_held_modules"]

_MAX_OBJECTS = 20_000  # of those that an encoder refers to; the nearest come first

# Their functions refer to no modules of the user, except for those that they wrap.
_LIBRARIES = {"builtins", "numpy", "torch", "transformers"}

_DROPOUTS = (
    torch.nn.Dropout,
    torch.nn.Dropout1d,
    torch.nn.Dropout2d,
    torch.nn.Dropout3d,
    torch.nn.AlphaDropout,
    torch.nn.FeatureAlphaDropout,
)

# What a class or an imported module contains is looked up by the names that code uses.
_WITHOUT_FUNCTIONS = (
    type,
    ModuleType,
    torch.Tensor,
    torch.jit.ScriptModule,
    str,
    bytes,
    int,
    float,
)

_Found = tuple[str, Any]  # where it was found, and what


def check_held_modules(encoder: Any) -> None:
    """Check that no function refers to a module whose training mode would change embeddings.

    Parameters
    ----------
    encoder : callable
        A function, an object with a method ``__call__``, or a module in evaluation mode with
        functions as forward hooks or attributes. Variables of closures, defaults, arguments of
        partials, attributes, and globals that its code names are followed, also through other
        functions.

    Raises
    ------
    ValueError
        If there is such a module; the message says where.
    """
    seen: dict[int, Any] = {}
    waiting: deque[_Found] = deque([("the encoder", encoder)])
    while waiting and len(seen) < _MAX_OBJECTS:
        where, item = waiting.popleft()
        if id(item) in seen:
            continue
        seen[id(item)] = item
        if isinstance(item, torch.nn.Module):
            _check_mode(where, item)
        waiting.extend(_neighbors(item))


def _check_mode(where: str, module: torch.nn.Module) -> None:
    for name, part in module.named_modules():
        if getattr(part, "training", False) and _uses_mode(part):
            kind = type(part).__name__
            inside = f", whose {name!r} is a {kind} in training mode" if name else ""
            raise ValueError(
                f"{where} is a module in training mode ({type(module).__name__}{inside}): the "
                "embeddings would be random or depend on the batch, and the module would change. "
                "An extraction switches only modules that are passed as encoder to evaluation "
                "mode. Call its eval() before"
            )


def _uses_mode(module: torch.nn.Module) -> bool:
    """Return whether what a module computes may depend on its attribute `training`."""
    if isinstance(module, torch.jit.ScriptModule):
        return 'name="training"' in str(getattr(module, "inlined_graph", ""))
    if isinstance(module, _DROPOUTS):
        return module.p > 0
    own = type(module).__mro__
    own = own[: own.index(torch.nn.Module)]
    functions = (value for kind in own for value in vars(kind).values())
    return any("training" in _names_in(_code_of(function)) for function in functions)


def _code_of(function: Any) -> CodeType | None:
    function = getattr(function, "__func__", getattr(function, "fget", function))
    function = getattr(function, "__wrapped__", function)
    return function.__code__ if isinstance(function, FunctionType) else None


def _names_in(code: CodeType | None) -> set[str]:
    """Return names of globals and attributes that code uses, inner functions included."""
    if code is None:
        return set()
    inner = (_names_in(item) for item in code.co_consts if isinstance(item, CodeType))
    return set(code.co_names).union(*inner)


def _neighbors(item: Any) -> Iterable[_Found]:
    """Return where an object refers to others, and to which."""
    if isinstance(item, FunctionType):
        return _of_function(item)
    if isinstance(item, MethodType):
        return [("the encoder", item.__func__), (_owner_of(item), item.__self__)]
    if isinstance(item, partial):
        values = [*item.args, *item.keywords.values()]
        names = [*map(str, range(len(item.args))), *item.keywords]
        inside = [(f"argument {n} of a partial", v) for n, v in zip(names, values, strict=True)]
        return [("the encoder", item.func), *inside]
    if isinstance(item, dict):
        return [(f"an item of a {type(item).__name__}", value) for value in list(item.values())]
    if isinstance(item, (list, tuple, set, frozenset, deque)):
        return [(f"an item of a {type(item).__name__}", value) for value in list(item)]
    if isinstance(item, ref):
        return [("a weak reference", item())]
    return _of_object(item)


def _owner_of(method: MethodType) -> str:
    return f"the owner of the method {method.__name__!r}"


def _of_function(function: FunctionType) -> Iterator[_Found]:
    name, names = function.__name__, _names_in(function.__code__)
    variables = _variables_of(function)
    for variable, value in _named(names | variables.keys(), variables):
        yield f"the variable {variable!r} of {name!r}", value
    for value in function.__defaults__ or ():
        yield f"a default of {name!r}", value
    for variable, value in (function.__kwdefaults__ or {}).items():
        yield f"the default {variable!r} of {name!r}", value
    for attribute, value in list(vars(function).items()):
        yield f"the attribute {attribute!r} of {name!r}", value
    if not _is_of_library(function.__globals__.get("__name__", "")):
        for variable, value in _named(names, function.__globals__):
            yield f"the global {variable!r} of {name!r}", value


def _variables_of(function: FunctionType) -> dict[str, Any]:
    """Return the variables of a closure, without those that have no value yet."""
    variables = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):
            variables[name] = cell.cell_contents
    return variables


def _named(names: set[str], namespace: dict[str, Any], depth: int = 0) -> Iterator[_Found]:
    """Yield the values that code may refer to by these names, also in modules and classes."""
    for name in sorted(names & namespace.keys()):
        value = namespace[name]
        if not isinstance(value, (ModuleType, type)):
            yield name, value
        elif depth < 3 and not _is_of_library(_package_of(value)):
            inside = _named(names, dict(vars(value)), depth + 1)
            yield from ((f"{name}.{inner}", found) for inner, found in inside)


def _package_of(value: ModuleType | type) -> str:
    return value.__name__ if isinstance(value, ModuleType) else value.__module__


def _of_object(item: Any) -> Iterator[_Found]:
    if isinstance(item, _WITHOUT_FUNCTIONS):
        return
    if isinstance(item, (staticmethod, classmethod)):
        yield "a method", item.__func__
        return
    kind = type(item).__name__
    for name, value in list(attributes_of(item).items()):
        if "_hooks" not in name or name in ("_forward_hooks", "_forward_pre_hooks"):
            yield f"the attribute {name!r} of a {kind}", value
    for base in type(item).__mro__:
        if not _is_of_library(base.__module__):
            for name, value in list(vars(base).items()):
                yield f"the attribute {name!r} of {base.__name__}", value


def _is_of_library(module: str) -> bool:
    return module.split(".")[0] in _LIBRARIES
