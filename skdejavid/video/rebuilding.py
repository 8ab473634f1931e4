"""Copies of what `copy.deepcopy` returns as it is: functions, and what refers weakly."""

from __future__ import annotations

import copy
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dis import get_instructions
from functools import lru_cache
from io import BufferedRandom, BufferedReader, BufferedWriter, FileIO, TextIOWrapper
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import proxy, ref

import numpy as np

from skdejavid.compat.optional import import_optional
from skdejavid.video.references import (
    CACHED_FUNCTION,
    WEAK,
    cells_of,
    content_of,
    original_function,
    references_of,
    target_of,
)

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = ["SHARED", "Links", "Memo", "is_plain", "is_rebuilt", "links_to", "path_to"]

# What cannot be copied, and belongs to the process rather than to the module.
SHARED = (
    *(type(threading.Lock()), type(threading.RLock()), threading.local),
    *(FileIO, TextIOWrapper, BufferedReader, BufferedWriter, BufferedRandom),
    *(ModuleType, logging.Logger, logging.Handler),
)

_COPIED = (torch.nn.Module, torch.Tensor, np.ndarray, dict, list, set, deque)
_FOLLOWED = (tuple, frozenset)  # may be constants, so that only their items count
_STORE = {"STORE_DEREF", "DELETE_DEREF"}


class Memo(dict[int, Any]):
    """Memo of `copy.deepcopy`, which copies functions and the like when they are first met.

    Parameters
    ----------
    known : dict of int to object
        Copies, or objects that are shared, by the id of the original.
    rebuilt : dict of int to object
        Originals that are copied here, by their id.
    """

    def __init__(self, known: dict[int, Any], rebuilt: dict[int, Any]) -> None:
        super().__init__(known)
        self.rebuilt = rebuilt

    def get(self, key: int, default: Any = None) -> Any:
        """Return the copy of the object with an id, or the default if it is copied elsewhere."""
        if key not in self and key in self.rebuilt:
            item = self.rebuilt[key]
            self[key] = next(f for kind, f in _REBUILDERS.items() if _is_a(item, kind))(item, self)
        return super().get(key, default)


class Links(NamedTuple):
    """Objects that lead to a module, and those that do not, by their ids."""

    rebuilt: dict[int, Any]  # what leads to the module, and `Memo` has to copy
    shared: dict[int, Any]  # what does not belong to the module, and does not lead to it


def links_to(owned: dict[int, Any], roots: Iterable[Any]) -> Links:
    """Return how functions and other objects lead to those that belong to a module.

    Parameters
    ----------
    owned : dict of int to object
        What belongs to the module, by ids; functions among it are followed.
    roots : iterable of object
        Hooks, and what else the module does not own but is used together with it.
    """
    found, users, ends = _explore(owned, roots)
    ends |= _written_cells(found.values()) & owned.keys()
    leading = _all_users(ends, users)
    rebuilt = {
        key: item
        for key, item in found.items()
        if key in leading and is_rebuilt(item) and _stays_alive(item, owned)
    }
    shared = {key: item for key, item in found.items() if key not in leading | owned.keys()}
    return Links(rebuilt, shared)


def _explore(
    owned: dict[int, Any], roots: Iterable[Any]
) -> tuple[dict[int, Any], dict[int, list[int]], set[int]]:
    """Return objects on the ways to what is copied, who refers to each, and where ways end."""
    found: dict[int, Any] = {}
    users: dict[int, list[int]] = {}
    ends: set[int] = set()
    waiting = [*roots, *(item for item in owned.values() if is_rebuilt(item))]
    while waiting:
        item = waiting.pop()
        if id(item) in found or _is_a(item, SHARED):
            continue
        found[id(item)] = item
        if id(item) in owned and not (_is_a(item, _FOLLOWED) or is_rebuilt(item)):
            ends |= {id(item)} if _is_copied(item) else set()
            continue
        for _, part in references_of(item):
            users.setdefault(id(part), []).append(id(item))
            waiting.append(part)
    return found, users, ends


def _stays_alive(item: Any, owned: dict[int, Any]) -> bool:
    """Return whether somebody refers to the copy of what an object refers to weakly."""
    return not _is_a(item, WEAK) or _owner_of(target_of(item)) in owned


def _owner_of(target: Any) -> int:
    """Return the id of an object, or of what it is a method of; methods are made when asked for."""
    return id(target.__self__ if isinstance(target, MethodType) else target)


def path_to(ends: dict[int, Any], root: Any, name: str) -> tuple[str, Any] | None:
    """Return an expression that leads from an object to one of others, and that, or None."""
    seen: dict[int, Any] = {}
    waiting = deque([(name, root)])
    while waiting:
        path, item = waiting.popleft()
        if id(item) in ends:
            return path, item
        if id(item) not in seen and not _is_end(item):
            seen[id(item)] = item
            waiting.extend((path + suffix, part) for suffix, part in references_of(item))
    return None


def _is_end(item: Any) -> bool:
    """Return whether nothing is run by way of an object, or only what belongs to the process."""
    only_describes = _is_a(item, torch.fx.Graph) or "torch._subclasses." in type(item).__module__
    return only_describes or (_is_a(item, SHARED) and not _is_a(item, threading.local))


def is_plain(item: Any) -> bool:
    """Return whether `copy.deepcopy` copies the attributes of an object, and nothing else."""
    ways = ("__deepcopy__", "__reduce__", "__reduce_ex__")
    has_own_way = any(name in vars(kind) for kind in type(item).__mro__[:-1] for name in ways)
    return not (has_own_way or _is_a(item, (torch.Tensor, *SHARED)))


def is_rebuilt(item: Any) -> bool:
    """Return whether an object is of a kind that `Memo` copies if it leads to the module."""
    return _is_a(item, tuple(_REBUILDERS))


def _is_a(item: Any, kinds: Any) -> bool:
    """Return whether an object is an instance; proxies claim to be what they refer to."""
    return issubclass(type(item), kinds)


def _is_copied(item: Any) -> bool:
    """Return whether `copy.deepcopy` returns another object."""
    if _is_a(item, _COPIED) or is_plain(item):
        return True
    try:
        return copy.deepcopy(item) is not item
    except Exception:
        return True


def _all_users(ends: set[int], users: dict[int, list[int]]) -> set[int]:
    leading, waiting = set(ends), list(ends)
    while waiting:
        new = set(users.get(waiting.pop(), ())) - leading
        leading |= new
        waiting.extend(new)
    return leading


def _written_cells(items: Iterable[Any]) -> set[int]:
    """Return the ids of the variables that functions assign, in which they store something."""
    return {
        id(cell)
        for item in items
        if isinstance(item, FunctionType)
        for name, cell in cells_of(item).items()
        if name in _names_stored(item.__code__)
    }


@lru_cache(maxsize=4096)
def _names_stored(code: CodeType) -> frozenset[str]:
    own = frozenset(i.argval for i in get_instructions(code) if i.opname in _STORE)
    return own.union(*(_names_stored(c) for c in code.co_consts if isinstance(c, CodeType)))


def _rebuild_function(function: FunctionType, memo: Memo) -> FunctionType:
    original = original_function(function)
    if original is not None:
        compiler: Any = content_of(cells_of(function)["self"])
        compiled: FunctionType = compiler(copy.deepcopy(original, memo))
        return compiled
    cells = cells_of(function).values()
    new = [cell for cell in cells if id(cell) in memo.rebuilt and id(cell) not in memo]
    memo.update((id(cell), CellType()) for cell in new)
    closure = tuple(memo.get(id(cell), cell) for cell in cells)
    copied = FunctionType(
        function.__code__, function.__globals__, function.__name__, None, closure or None
    )
    memo[id(function)] = copied  # its variables may contain itself
    for cell in new:
        _fill(memo[id(cell)], cell, memo)
    copied.__defaults__ = copy.deepcopy(function.__defaults__, memo)
    copied.__kwdefaults__ = copy.deepcopy(function.__kwdefaults__, memo)
    vars(copied).update(copy.deepcopy(vars(function), memo))
    for name in ("__module__", "__qualname__", "__doc__", "__annotations__", "__type_params__"):
        if hasattr(function, name):
            setattr(copied, name, getattr(function, name))
    return copied


def _rebuild_cell(cell: CellType, memo: Memo) -> CellType:
    memo[id(cell)] = copied = CellType()
    _fill(copied, cell, memo)
    return copied


def _fill(copied: CellType, cell: CellType, memo: Memo) -> None:
    try:
        content = cell.cell_contents
    except ValueError:
        return  # not assigned yet
    copied.cell_contents = copy.deepcopy(content, memo)


def _rebuild_method(method: MethodType, memo: Memo) -> MethodType:
    return MethodType(copy.deepcopy(method.__func__, memo), copy.deepcopy(method.__self__, memo))


def _rebuild_native(method: BuiltinFunctionType, memo: Memo) -> Any:
    return getattr(copy.deepcopy(method.__self__, memo), method.__name__)


def _rebuild_cached(function: Any, memo: Memo) -> Any:
    copied: Any = lru_cache(**function.cache_parameters())(
        copy.deepcopy(function.__wrapped__, memo)
    )
    vars(copied).update(copy.deepcopy(vars(function), memo))
    return copied


def _rebuild_weak(weak: Any, memo: Memo) -> Any:
    target = copy.deepcopy(target_of(weak), memo)
    return type(weak)(target) if _is_a(weak, ref) else proxy(target)


_REBUILDERS: dict[type, Callable[[Any, Memo], Any]] = {
    FunctionType: _rebuild_function,
    CellType: _rebuild_cell,
    MethodType: _rebuild_method,
    BuiltinFunctionType: _rebuild_native,
    CACHED_FUNCTION: _rebuild_cached,
    **dict.fromkeys(WEAK, _rebuild_weak),
}
