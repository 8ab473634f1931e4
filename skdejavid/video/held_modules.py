"""Modules that functions refer to, whose mode an extraction does not change."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dis import get_instructions
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

from skdejavid.compat.optional import import_optional
from skdejavid.video.references import CACHED_FUNCTION, attributes_of, cells_of

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = ["REMEDY", "check_held_modules", "held_by"]

REMEDY = "call encoder.eval() and pass a function, lambda clips: encoder(clips)"

_MAX_OBJECTS = 20_000  # of those that an encoder refers to; the nearest come first
_MAX_DEPTH = 3  # objects inside of objects whose attributes are followed

# Their functions refer to no modules of the user, except for those that they wrap.
_LIBRARIES = {"builtins", "numpy", "torch", "transformers"}

# With one of these names code may use attributes that it does not name.
_BY_ANY_NAME = {"getattr", "vars", "__dict__", "attrgetter"}

_CONTAINERS = (dict, list, tuple, set, frozenset, deque)

_WRAPPERS = (partial, ref, staticmethod, classmethod, property, CACHED_FUNCTION)

_VALUES = (torch.Tensor, *_CONTAINERS)

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


class _Reference(NamedTuple):
    """An object that an encoder may use."""

    where: str
    item: Any
    package: str | None = None  # of the function that names it as a global; None if it is held
    depth: int = 0


def check_held_modules(encoder: Any, originals: Mapping[int, Any] | None = None) -> None:
    """Check that no function uses a module in training mode, or the original of a copy.

    Parameters
    ----------
    encoder : callable
        A function, an object with a method ``__call__``, or a module in evaluation mode with
        functions as forward hooks or attributes. Variables of closures, defaults, arguments of
        partials, and attributes and globals that its code names are followed, also through other
        functions. The globals of another package than the encoder's are not.
    originals : mapping of int to object, optional
        What the parts of `encoder` are copies of, by ids.

    Raises
    ------
    ValueError
        If there is such a module, or one of `originals`; the message says where.
    """
    for reference in _references(encoder):
        item = reference.item
        if originals is not None and id(item) in originals:
            raise ValueError(
                f"{reference.where} is a {type(item).__name__} of the original, and an extraction "
                "works with a copy, which must not use it: use an attribute of the module "
                f"instead, or {REMEDY}"
            )
        if isinstance(item, torch.nn.Module):
            _check_mode(reference.where, item)


def held_by(encoder: Any) -> list[Any]:
    """Return an encoder, and the objects that it may use, as `check_held_modules` finds them."""
    return [reference.item for reference in _references(encoder)]


def _references(encoder: Any) -> Iterator[_Reference]:
    """Yield an encoder, and the objects that it may use, each once."""
    seen: dict[int, Any] = {}
    waiting = deque([_Reference("the encoder", encoder)])
    while waiting and len(seen) < _MAX_OBJECTS:
        reference = waiting.popleft()
        if id(reference.item) not in seen:
            seen[id(reference.item)] = reference.item
            yield reference
            waiting.extend(_followed(reference))


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


def _globals_of(code: CodeType) -> set[str]:
    """Return the names of globals that code uses, inner functions included."""
    own = {i.argval for i in get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    inner = (_globals_of(item) for item in code.co_consts if isinstance(item, CodeType))
    return own.union(*inner)


def _followed(reference: _Reference) -> Iterator[_Reference]:
    """Yield the objects that an object refers to."""
    item, package, depth = reference.item, reference.package, reference.depth
    if isinstance(item, FunctionType):
        yield from (_Reference(*found, None, depth) for found in _held_by(item))
        yield from _globals_used_by(item, package, depth)
    elif isinstance(item, MethodType):
        yield _Reference("the encoder", item.__func__, package, depth)
        owned = _of_object(item.__self__, item.__name__)
        yield from (_Reference(*found, package, depth + 1) for found in owned)
    elif isinstance(item, (*_WRAPPERS, *_CONTAINERS)):
        yield from (_Reference(*found, package, depth) for found in _contents_of(item))
    elif depth < _MAX_DEPTH and not isinstance(item, _WITHOUT_FUNCTIONS):
        owned = _of_object(item, "forward", "__call__", "__get__")
        yield from (_Reference(*found, package, depth + 1) for found in owned)
    if isinstance(item, torch.nn.Module):  # however deeply they are nested
        yield from (
            _Reference(reference.where, part, package, depth) for part in item._modules.values()
        )


def _globals_used_by(
    function: FunctionType, package: str | None, depth: int
) -> Iterator[_Reference]:
    own, code = _root_of(function.__globals__.get("__name__", "")), function.__code__
    if own in _LIBRARIES or package not in (None, own):
        return
    for name, value in _named(_globals_of(code), function.__globals__, code):
        where = f"the global {name!r} of {function.__name__!r}"
        yield _Reference(where, value, own, depth)


def _contents_of(item: Any) -> Iterable[_Found]:
    if isinstance(item, partial):
        values = [*item.args, *item.keywords.values()]
        names = [*map(str, range(len(item.args))), *item.keywords]
        inside = [(f"argument {n} of a partial", v) for n, v in zip(names, values, strict=True)]
        return [("the encoder", item.func), *inside]
    if isinstance(item, ref):
        return [("a weak reference", item())]
    if isinstance(item, (staticmethod, classmethod, CACHED_FUNCTION)):
        return [("the encoder", item.__wrapped__)]  # type: ignore[attr-defined]
    if isinstance(item, property):
        return [("a property", item.fget)]
    values = list(item.values() if isinstance(item, dict) else item)
    return [(f"an item of a {type(item).__name__}", value) for value in values]


def _held_by(function: FunctionType) -> Iterator[_Found]:
    """Yield what a function refers to by itself, without globals."""
    name, variables = function.__name__, _variables_of(function)
    for variable, value in _named(set(variables), variables, function.__code__):
        yield f"the variable {variable!r} of {name!r}", value
    for value in function.__defaults__ or ():
        yield f"a default of {name!r}", value
    for variable, value in (function.__kwdefaults__ or {}).items():
        yield f"the default {variable!r} of {name!r}", value
    for attribute, value in list(vars(function).items()):
        yield f"the attribute {attribute!r} of {name!r}", value


def _variables_of(function: FunctionType) -> dict[str, Any]:
    """Return the variables of a closure, without those that have no value yet."""
    variables = {}
    for name, cell in cells_of(function).items():
        with suppress(ValueError):
            variables[name] = cell.cell_contents
    return variables


def _named(
    names: set[str], namespace: dict[str, Any], code: CodeType, depth: int = 0
) -> Iterator[_Found]:
    """Yield values with these names, or what is in them and `code` names, if they are no callables.

    `models.inner.net` is found in a global or variable `models`.
    """
    for name in sorted(names & namespace.keys()):
        value = namespace[name]
        is_namespace = isinstance(value, (ModuleType, type))
        if not is_namespace and (callable(value) or isinstance(value, _VALUES)):
            yield name, value
        elif depth < _MAX_DEPTH and _root_of(_name_of_module(value)) not in _LIBRARIES:
            attributes = dict(getattr(value, "__dict__", {}))
            inside = _named(_names_in(code), attributes, code, depth + 1)
            yield from ((f"{name}.{inner}", found) for inner, found in inside)


def _name_of_module(value: Any) -> str:
    if isinstance(value, ModuleType):
        return value.__name__
    return value.__module__ if isinstance(value, type) else type(value).__module__


def _of_object(item: Any, *methods: str) -> Iterator[_Found]:
    """Yield the attributes of an object that these methods use, and methods that they call use."""
    kind = type(item)
    used = _attributes_used_by(kind, *methods)
    if isinstance(item, torch.nn.Module):
        used |= {"_forward_hooks", "_forward_pre_hooks"}
    for name, value in list(attributes_of(item).items()):
        if name in used or used & _BY_ANY_NAME:
            yield f"the attribute {name!r} of a {kind.__name__}", value
    for base in kind.__mro__:
        package = _root_of(base.__module__)
        if package == _root_of(kind.__module__) and package not in _LIBRARIES:
            for name in sorted(used & vars(base).keys()):
                yield f"the attribute {name!r} of {base.__name__}", vars(base)[name]


def _attributes_used_by(kind: type, *methods: str) -> set[str]:
    used: set[str] = set()
    waiting = set(methods)
    while waiting:
        name = waiting.pop()
        used.add(name)
        functions = [vars(base)[name] for base in kind.__mro__ if name in vars(base)]
        named = {inner for function in functions for inner in _names_in(_code_of(function))}
        waiting |= named - used
    return used


def _root_of(module: str) -> str:
    return module.split(".")[0]
