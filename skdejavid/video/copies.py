"""Private copies of encoders: an extraction changes nothing of a module, and nothing changes it."""

from __future__ import annotations

import copy
import io
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from functools import partial
from itertools import chain
from types import BuiltinFunctionType, FrameType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from skdejavid.compat.optional import import_optional

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = ["attributes_of", "module_of", "private_copy", "with_module"]

_PATIENCE = 10.0  # seconds in which a module that another thread trains is copied again and again

_CONTAINERS = (list, tuple, set, frozenset, deque)

# What `copy.deepcopy` returns as it is.
_ATOMIC = (str, bytes, int, float, complex, type(None), type, FunctionType, BuiltinFunctionType)

# Other classes of tensors know themselves how they are copied.
_COPIED_HERE = (torch.Tensor, torch.nn.Parameter)

# What cannot be copied, and belongs to the process rather than to the module.
_SHARED = (
    type(threading.Lock()),
    type(threading.RLock()),
    threading.local,
    io.FileIO,
    io.TextIOWrapper,
    io.BufferedReader,
    io.BufferedWriter,
    ModuleType,
)


class _ChangedError(Exception):
    """Error raised if another thread changed a module while it was copied."""


def module_of(encoder: Any) -> torch.nn.Module | None:
    """Return the encoder if it is a module, or the module that it is a method or a partial of."""
    if isinstance(encoder, partial):
        return module_of(encoder.func)
    owner = getattr(encoder, "__self__", encoder)
    return owner if isinstance(owner, torch.nn.Module) else None


def with_module(encoder: Any, module: torch.nn.Module) -> Any:
    """Return an encoder with another module in place of its own."""
    if isinstance(encoder, partial):
        return partial(with_module(encoder.func, module), *encoder.args, **encoder.keywords)
    return MethodType(encoder.__func__, module) if isinstance(encoder, MethodType) else module


def private_copy(module: torch.nn.Module, device: torch.device | None) -> torch.nn.Module:
    """Copy a module with all that belongs to it, in evaluation mode, and onto a device.

    Attributes of all kinds are copied, modules and tensors in lists included. Locks and open files
    are shared with the original, and so are functions, and objects that only a hook refers to.
    Parameters and buffers are copied directly to `device`; other tensors stay where they are. The
    copy contains the parameters of one moment, at which no optimizer of torch was in a step.

    Parameters
    ----------
    module : torch.nn.Module
        Not changed, not even for a moment.
    device : torch.device or None
        None leaves each tensor on its device.

    Raises
    ------
    ValueError
        If `module` has parameters that are not initialized, or cannot be copied.
    RuntimeError
        If another thread changes it all the time.
    """
    _check_initialized(module)
    end = time.monotonic() + _PATIENCE
    while True:
        owned = _belongings(module)
        try:
            copied = _copy(module, owned, device)
            break
        except _ChangedError as error:
            time.sleep(0.001)
            if time.monotonic() > end:
                raise RuntimeError(
                    "the encoder changed all the time while it was copied: let the thread that "
                    "trains it wait until an extraction has begun, or pass "
                    "copy.deepcopy(encoder), made between two steps of the training"
                ) from error
    if device is not None and not all(_is_on(tensor, device) for tensor in _tensors_of(module)):
        # Moves what torch copies by itself. A method that the user has overridden takes part.
        copied.to(device)
    # A class that returns itself as its copy shares the original, which is left as it is.
    for part in _modules_in(_belongings(copied)):
        if hasattr(part, "training") and id(part) not in owned:  # frozen TorchScript has no mode
            part.training = False
    return copied


def _copy(
    module: torch.nn.Module, owned: dict[int, Any], device: torch.device | None
) -> torch.nn.Module:
    """Copy a module to which all objects `owned` belong; raise _ChangedError if it changes."""
    tensors = {id(item): item for item in owned.values() if isinstance(item, torch.Tensor)}
    tensors.update((id(tensor), tensor) for tensor in _tensors_of(module))
    versions = {key: _version(tensor) for key, tensor in tensors.items()}
    _check_unchanged(tensors, versions)
    modules = _modules_in(owned)
    registered = {id(tensor) for part in modules for tensor in _tensors_of(part)}
    leaves = {
        key: _copy_tensor(tensor, device if key in registered else None)
        for key, tensor in tensors.items()
        if type(tensor) in _COPIED_HERE and key in owned
    }
    _check_unchanged(tensors, versions)
    shared = {key: item for key, item in owned.items() if isinstance(item, _SHARED)}
    memo = {**leaves, **shared, **_objects_of_hooks(modules, owned)}
    copied = _copy_structure(module, owned, memo)
    if tensors.keys() - leaves.keys():  # torch has copied them by itself
        _check_unchanged(tensors, versions)
    return copied


def _check_unchanged(tensors: dict[int, torch.Tensor], versions: dict[int, int]) -> None:
    if _is_stepping() or any(_version(tensor) != versions[key] for key, tensor in tensors.items()):
        raise _ChangedError


def _is_stepping() -> bool:
    """Return whether an optimizer of torch has updated some parameters, but not all, of a step.

    Python may have interrupted its thread between two parameters. While it evaluates a closure of
    the user, functions of other packages are nearer to the top of its stack.
    """
    tops = sys._current_frames()
    del tops[threading.get_ident()]  # a frame that refers to itself would keep the copy alive
    return any(_is_in_step(top) for top in tops.values())


def _is_in_step(frame: FrameType | None) -> bool:
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith("torch."):
            return False
        if name.startswith("torch.optim."):
            return True
        frame = frame.f_back
    return False


def _belongings(root: Any) -> dict[int, Any]:
    """Return all objects that are copied with `root`, by their id."""
    found: dict[int, Any] = {}
    waiting = [root]
    while waiting:
        item = waiting.pop()
        if id(item) not in found and not isinstance(item, _ATOMIC):
            found[id(item)] = item
            waiting.extend(_parts_of(item))
    return found


def _parts_of(item: Any) -> Iterable[Any]:
    """Return what an object consists of, as `copy.deepcopy` sees it, except for hooks."""
    if isinstance(item, torch.nn.Module):
        return [value for name, value in list(vars(item).items()) if not _is_hooks(name)]
    if isinstance(item, dict):
        return [*list(item), *list(item.values())]
    if isinstance(item, _CONTAINERS):
        return list(item)
    if isinstance(item, MethodType):
        return [item.__self__]
    if isinstance(item, partial):
        return [item.func, item.args, item.keywords]
    return list(attributes_of(item).values()) if _is_plain(item) else []


def attributes_of(item: Any) -> dict[str, Any]:
    """Return the attributes of an object, those in slots included."""
    slots = {
        name: getattr(item, name)
        for kind in type(item).__mro__
        for name in _names(vars(kind).get("__slots__", ()))
        if name != "__dict__" and hasattr(item, name)
    }
    return {**slots, **getattr(item, "__dict__", {})}


def _names(slots: Any) -> Iterable[str]:
    return [slots] if isinstance(slots, str) else slots


def _is_hooks(name: str) -> bool:
    return "_hooks" in name


def _is_plain(item: Any) -> bool:
    """Return whether `copy.deepcopy` copies the attributes of an object, and nothing else."""
    ways = ("__deepcopy__", "__reduce__", "__reduce_ex__")
    has_own_way = any(name in vars(kind) for kind in type(item).__mro__[:-1] for name in ways)
    return not (has_own_way or isinstance(item, (torch.Tensor, *_ATOMIC, *_SHARED)))


def _modules_in(owned: dict[int, Any]) -> list[torch.nn.Module]:
    modules = [item for item in owned.values() if isinstance(item, torch.nn.Module)]
    inside = chain.from_iterable(module.modules() for module in modules)  # those of TorchScript too
    return list(dict.fromkeys(chain(modules, inside)))


def _tensors_of(module: torch.nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def _copy_tensor(tensor: torch.Tensor, device: torch.device | None) -> torch.Tensor:
    """Return a copy without gradient and history; `copy.deepcopy` refuses results of operations."""
    with torch.inference_mode(False), torch.no_grad():
        copied = tensor.detach().to(device or tensor.device, copy=True)
        if isinstance(tensor, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, tensor.requires_grad)
        else:
            copied.requires_grad_(tensor.requires_grad)
    vars(copied).update(vars(tensor))
    return copied


def _version(tensor: torch.Tensor) -> int:
    """Return the number of changes in place; tensors of inference mode do not count them."""
    return 0 if tensor.is_inference() else tensor._version


def _check_initialized(module: torch.nn.Module) -> None:
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        if isinstance(tensor, (torch.nn.UninitializedParameter, torch.nn.UninitializedBuffer)):
            raise ValueError(
                f"the encoder's {name!r} is not initialized, as it is a lazy module: call it once "
                "with a batch of clips before it extracts"
            )


def _objects_of_hooks(modules: Iterable[torch.nn.Module], owned: dict[int, Any]) -> dict[int, Any]:
    """Return objects that only hooks refer to; they are the user's, and are called with the copy.

    Objects that the module refers to as well are copied with it.
    """
    waiting = [
        hook
        for module in modules
        for name, hooks in list(vars(module).items())
        if _is_hooks(name) and isinstance(hooks, dict)
        for hook in list(hooks.values())
    ]
    shared: dict[int, Any] = {}
    while waiting:
        item = waiting.pop()
        if id(item) in owned:
            continue
        is_joined = isinstance(item, (dict, *_CONTAINERS, MethodType, partial))
        parts = list(_parts_of(item)) if is_joined else []
        if isinstance(item, (MethodType, partial)) or any(id(part) in owned for part in parts):
            waiting.extend(parts)
        else:
            shared[id(item)] = item
    return shared


def _copy_structure(
    module: torch.nn.Module, owned: dict[int, Any], memo: dict[int, Any]
) -> torch.nn.Module:
    """Copy a module, with the objects in `memo` in place of those that have these ids."""
    try:
        filled = dict(memo)
        copied = copy.deepcopy(module, filled)
        _complete(module, copied, filled)
        return copied
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if "during iteration" in str(error) or _belongings(module).keys() != owned.keys():
            raise _ChangedError from error
        raise ValueError(
            "the encoder cannot be copied, and an extraction works with a copy: "
            f"{_what_fails(module, memo)} raises {type(error).__name__}({error}). Keep such "
            "objects outside of the module, or give its class a method __deepcopy__, or call "
            "encoder.eval() and pass a function, lambda clips: encoder(clips)"
        ) from error


def _what_fails(module: torch.nn.Module, memo: dict[int, Any]) -> str:
    """Return the name of an attribute that cannot be copied."""
    without_modules = {**memo, **{id(part): part for part in module.modules()}}
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            try:
                copy.deepcopy(value, dict(without_modules))
            except Exception:
                return f"its attribute {f'{prefix}.{name}'.lstrip('.')!r}"
    return "it"


def _complete(module: torch.nn.Module, copied: torch.nn.Module, memo: dict[int, Any]) -> None:
    """Add what copies of compiled modules and of graphs lack, as torch omits it."""
    for original, part in zip(module.modules(), copied.modules(), strict=False):
        is_graph = isinstance(original, torch.fx.GraphModule)
        if part is original:
            continue
        for name, value in list(vars(original).items()):
            if _is_hooks(name) or (is_graph and name not in vars(part)):
                vars(part)[name] = copy.deepcopy(value, memo)
        if is_graph:  # each of them has a class of its own
            type(part).__name__ = type(original).__name__
            type(part).__qualname__ = type(original).__qualname__


def _is_on(tensor: torch.Tensor, device: torch.device) -> bool:
    return tensor.device.type == device.type and device.index in (None, tensor.device.index)
