"""Private copies of encoders: an extraction changes nothing of a module, and nothing changes it."""

from __future__ import annotations

import copy
import gc
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from types import CellType, FrameType, FunctionType
from typing import TYPE_CHECKING, Any

from skdejavid.compat.optional import import_optional
from skdejavid.video.held_modules import REMEDY, check_held_modules, held_by
from skdejavid.video.libraries import library_of_function
from skdejavid.video.rebuilding import (
    SHARED,
    Memo,
    is_plain,
    is_rebuilt,
    links_to,
    path_to,
)
from skdejavid.video.references import WEAK, attributes_of, content_of, references_of

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = ["module_of", "private_copy", "uses_shared_state"]

_PATIENCE = 10.0  # seconds in which a module that another thread trains is copied again and again

_MUTABLE = (list, set, deque, dict)
_CONTAINERS = (*_MUTABLE, tuple, frozenset)

# Other classes of tensors know themselves how they are copied.
_COPIED_HERE = (torch.Tensor, torch.nn.Parameter)

# Held while the garbage collector is off. A process that is forked then gets it switched on.
_COLLECTOR = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_COLLECTOR.acquire,
        after_in_parent=_COLLECTOR.release,
        after_in_child=_COLLECTOR.release,
    )

_HOOKS = frozenset(name for name in vars(torch.nn.Module()) if "_hooks" in name)


class _ChangedError(Exception):
    """Error raised if another thread changed a module while it was copied."""


def module_of(encoder: Any) -> torch.nn.Module | None:
    """Return the encoder if it is a module, or the module that it is a method or a partial of."""
    if isinstance(encoder, partial):
        return module_of(encoder.func)
    owner = getattr(encoder, "__self__", encoder)
    return owner if isinstance(owner, torch.nn.Module) else None


def private_copy(encoder: Any, device: torch.device | None) -> Any:
    """Copy a module with all that belongs to it, in evaluation mode, and onto a device.

    Attributes of all kinds are copied, modules and tensors in lists included, and functions with
    the variables, defaults and attributes that they refer to. Hooks that lead back to the module in
    this way are copied too, as far as they do. Other functions and objects that only hooks refer
    to, locks and open files are shared with the original.
    Parameters and buffers are copied directly to `device`; other tensors stay where they are. The
    copy contains the parameters of one moment, at which no optimizer of torch was in a step.

    Parameters
    ----------
    encoder : torch.nn.Module, method of one, or partial of either
        Not changed, not even for a moment.
    device : torch.device or None
        None leaves each tensor on its device.

    Returns
    -------
    torch.nn.Module, method of one, or partial of either
        Nothing that it refers to leads to the module of `encoder`.

    Raises
    ------
    ValueError
        If the module has parameters that are not initialized, or cannot be copied, or the copy
        would use it, or another module in training mode; or if a ``train`` or ``eval`` of the
        user changes more than the mode, or batch normalization has no running statistics.
    RuntimeError
        If another thread changes it all the time.
    """
    module: Any = module_of(encoder)
    _check_initialized(module)
    _check_norms(module)
    end = time.monotonic() + _PATIENCE
    while True:
        owned = _belongings(module)
        try:
            own, originals = _copy(encoder, owned, device)
            break
        except _ChangedError as error:
            time.sleep(0.001)
            if time.monotonic() > end:
                raise RuntimeError(
                    "the encoder changed all the time while it was copied: let the thread that "
                    "trains it wait until an extraction has begun, or pass "
                    "copy.deepcopy(encoder), made between two steps of the training"
                ) from error
    copied: Any = module_of(own)
    if device is not None and not all(_is_on(tensor, device) for tensor in _tensors_of(module)):
        # Moves what torch copies by itself. A method that the user has overridden takes part.
        copied.to(device)
    # A class that returns itself as its copy shares the original, which is left as it is.
    parts = [part for part in _modules_in(_belongings(copied)) if id(part) not in owned]
    _switch_to_evaluation(parts)
    _check_separate(own, originals)
    check_held_modules(own, originals)
    return own


def uses_shared_state(encoder: Any) -> bool:
    """Return whether an encoder may store something in a container that others use as well.

    A hook that keeps features in a global dictionary, from which the encoder takes them, is an
    example: two threads that run the encoder at once would get features of each other.
    """
    module = module_of(encoder)
    held = held_by(encoder)
    owned = {} if module is None else _belongings(module)
    parts = _modules_in(owned if owned else {id(item): item for item in held})
    if not owned and _hooks_of(parts):
        return True
    own = owned.keys() | {id(value) for part in parts for value in vars(part).values()}
    return any(issubclass(type(item), _MUTABLE) and id(item) not in own for item in held)


def _check_separate(own: Any, originals: dict[int, Any]) -> None:
    """Check that no attribute, hook or variable leads from a copy to what it is a copy of."""
    every = torch.nn.modules.module
    hooks = [every._global_forward_pre_hooks, every._global_forward_hooks]
    for root, name in ((own, "encoder"), (hooks, "the hooks of all modules of torch, ")):
        found = path_to(originals, root, name)
        if found is not None:
            path, item = found
            raise ValueError(
                f"{path} would be the {type(item).__name__} of the original, and an extraction "
                "works with a copy, in which it cannot be replaced: use an attribute of the "
                f"module or a variable of a function instead, or {REMEDY}"
            )


def _copy(
    encoder: Any, owned: dict[int, Any], device: torch.device | None
) -> tuple[Any, dict[int, Any]]:
    """Copy a module to which all objects `owned` belong; raise _ChangedError if it changes.

    Returns the copy, and the objects that have been copied, by their ids.
    """
    module: Any = module_of(encoder)
    tensors = _of_kind(owned, torch.Tensor)
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
    shared = _of_kind(owned, SHARED)
    links = links_to(owned, [encoder, *_hooks_of(modules)])
    memo = Memo({**leaves, **shared, **links.shared}, links.rebuilt)
    own, originals = _copy_structure(encoder, owned, memo)
    if tensors.keys() - leaves.keys():  # torch has copied them by itself
        _check_unchanged(tensors, versions)
    return own, originals


def _check_unchanged(tensors: dict[int, torch.Tensor], versions: dict[int, int]) -> None:
    if _is_stepping() or any(_version(tensor) != versions[key] for key, tensor in tensors.items()):
        raise _ChangedError


def _is_stepping() -> bool:
    """Return whether an optimizer of torch has updated some parameters, but not all, of a step.

    Python may have interrupted its thread between two parameters. While it evaluates a closure of
    the user, functions of other packages are nearer to the top of its stack.
    """
    with _without_collector():
        tops = sys._current_frames()
        del tops[threading.get_ident()]  # a frame that refers to itself would keep the copy alive
        return any(_is_in_step(top) for top in tops.values())


@contextmanager
def _without_collector() -> Iterator[None]:
    """Switch off the garbage collector, which runs other threads when it frees tensors.

    While Python 3.11 makes the object of a frame, that frame must not return.
    """
    with _COLLECTOR:
        was_on = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_on:
                gc.enable()


def _is_in_step(frame: FrameType | None) -> bool:
    while frame is not None:
        if not isinstance(frame, FrameType):
            return True  # of a thread that was interrupted while Python made it: look again
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
        if id(item) not in found:
            found[id(item)] = item
            waiting.extend(_parts_of(item))
    return found


def _parts_of(item: Any) -> Iterable[Any]:
    """Return what an object consists of: what is copied with it, except for hooks."""
    kind = type(item)
    if issubclass(kind, torch.nn.Module):
        item = {name: value for name, value in attributes_of(item).items() if name not in _HOOKS}
    elif not _is_followed(item):
        return []
    parts = [part for _, part in references_of(item)]
    if kind is FunctionType and library_of_function(item) is not None:
        # A decorator; its objects are its own, and copied only if they lead back to the module.
        parts = [content_of(part) if type(part) is CellType else part for part in parts]
        return [part for part in parts if is_rebuilt(part) or type(part) is partial]
    return parts


def _is_followed(item: Any) -> bool:
    """Return whether what an object refers to is copied together with it."""
    kind = type(item)
    if issubclass(kind, WEAK):
        return False
    is_known = kind in _COPIED_HERE or issubclass(kind, _CONTAINERS)
    return is_known or is_plain(item) or is_rebuilt(item)


def _of_kind(owned: dict[int, Any], kinds: Any) -> dict[int, Any]:
    """Return the instances of some classes; proxies claim to be what they refer to."""
    return {key: item for key, item in owned.items() if issubclass(type(item), kinds)}


def _modules_in(owned: dict[int, Any]) -> list[torch.nn.Module]:
    modules = list(_of_kind(owned, torch.nn.Module).values())
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


def _check_norms(module: torch.nn.Module) -> None:
    """Check that no embedding depends on the other clips of its batch."""
    for part in _modules_in(_belongings(module)):
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm) and part.running_mean is None:
            raise ValueError(
                f"the encoder contains a {type(part).__name__} without running statistics, with "
                "which an embedding depends on the other clips of its batch: load a model that has "
                "them, or pass a function that encodes one clip at a time, "
                "lambda clips: torch.cat([encoder(clip[None]) for clip in clips])"
            )


def _switch_to_evaluation(parts: list[torch.nn.Module]) -> None:
    """Switch modules of a copy to evaluation mode.

    A ``train`` or ``eval`` of the user is called, but must not do more: it may merge weights, so
    that the copy would not be what is compared with a store.
    """
    switching = [part for part in parts if getattr(part, "training", False) and _has_own_mode(part)]
    before = [_state_of(part) for part in parts] if switching else []
    for part in switching:
        part.eval()
    for part in parts:
        if hasattr(part, "training"):  # frozen TorchScript has no mode
            part.training = False
    for part, state in zip(parts if switching else [], before, strict=True):
        if not _is_same_state(state, _state_of(part)):
            raise ValueError(
                f"the encoder contains a {type(part).__name__} that is changed by the own 'train' "
                f"or 'eval' of a {type(switching[0]).__name__} in training mode, and an extraction "
                "would work with something else than a store records: call encoder.eval() before"
            )


def _has_own_mode(part: torch.nn.Module) -> bool:
    methods = (vars(part).get(name, getattr(type(part), name)) for name in ("train", "eval"))
    # Those of torch do no more, or refuse exported programs.
    return any(not str(method.__module__).startswith("torch.") for method in methods)


def _state_of(part: torch.nn.Module) -> dict[Any, tuple[Any, int]]:
    """Return the attributes of a module and their items, with their numbers of changes."""
    state = {name: value for name, value in vars(part).items() if name != "training"}
    for name, value in vars(part).items():
        if isinstance(value, (dict, list, tuple)):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            state.update({(name, key): item for key, item in items})
    return {
        key: (value, _version(value) if isinstance(value, torch.Tensor) else 0)
        for key, value in state.items()
    }


def _is_same_state(one: dict[Any, tuple[Any, int]], other: dict[Any, tuple[Any, int]]) -> bool:
    return one.keys() == other.keys() and all(
        value is other[key][0] and version == other[key][1] for key, (value, version) in one.items()
    )


def _hooks_of(modules: Iterable[torch.nn.Module]) -> list[Any]:
    return [
        hook
        for module in modules
        for name in _HOOKS & vars(module).keys()
        if isinstance(vars(module)[name], dict)  # scripts have no hooks
        for hook in list(vars(module)[name].values())
    ]


def _copy_structure(encoder: Any, owned: dict[int, Any], memo: Memo) -> tuple[Any, dict[int, Any]]:
    """Copy an encoder, with the objects in `memo` in place of those that have these ids."""
    filled = Memo(memo, memo.rebuilt)
    try:
        own = copy.deepcopy(encoder, filled)
        _complete(owned, filled)
        return own, _originals_in(owned, filled)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        module: Any = module_of(encoder)
        if "during iteration" in str(error) or _belongings(module).keys() != owned.keys():
            raise _ChangedError from error
        raise ValueError(
            "the encoder cannot be copied, and an extraction works with a copy: "
            f"{_what_fails(module, memo)} raises {type(error).__name__}({error}). Keep such "
            f"objects outside of the module, or give its class a method __deepcopy__, or {REMEDY}"
        ) from error


def _originals_in(owned: dict[int, Any], memo: Memo) -> dict[int, Any]:
    """Return what has been copied and has a state of its own."""
    # A class may return itself as its copy.
    kept = [part for key, part in _of_kind(owned, torch.nn.Module).items() if key not in memo]
    shared = {key for part in kept for key in _belongings(part)}
    return {
        key: item
        for key, item in owned.items()
        if key not in shared
        and memo.get(key, item) is not item
        and not (is_rebuilt(item) or issubclass(type(item), (tuple, frozenset)))
    }


def _what_fails(module: torch.nn.Module, memo: Memo) -> str:
    """Return the name of an attribute that cannot be copied."""
    without_modules = {**memo, **{id(part): part for part in module.modules()}}
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            try:
                copy.deepcopy(value, Memo(without_modules, memo.rebuilt))
            except Exception:
                return f"its attribute {f'{prefix}.{name}'.lstrip('.')!r}"
    return "it"


def _complete(owned: dict[int, Any], memo: Memo) -> None:
    """Add what copies of tensors, compiled modules and graphs lack, as torch omits it."""
    for key, original in owned.items():
        copied = memo.get(key)
        if copied is None or copied is original:
            continue
        if type(original).__dictoffset__ and id(vars(original)) in memo:
            _restore_namespace(copied, memo[id(vars(original))], id(vars(original)) in owned)
        if type(original) in _COPIED_HERE:
            vars(copied).update(copy.deepcopy(vars(original), memo))
        elif issubclass(type(original), torch.nn.Module):
            _complete_module(original, copied, memo)


def _restore_namespace(copied: Any, attributes: dict[str, Any], is_shared: bool) -> None:
    """Let a copy have its attributes in the dictionary that others refer to, as the original."""
    current = dict(vars(copied))
    try:
        copied.__dict__ = attributes
    except (AttributeError, TypeError):  # a class of native code
        if is_shared:
            raise
        return
    if attributes is not copied:  # as of a configuration whose items are its attributes
        attributes.clear()
        attributes.update(current)


def _complete_module(original: torch.nn.Module, copied: torch.nn.Module, memo: Memo) -> None:
    is_graph = isinstance(original, torch.fx.GraphModule)
    for name, value in attributes_of(original).items():
        if name not in vars(original):  # torch forgets slots
            setattr(copied, name, copy.deepcopy(value, memo))
        is_compiled = name == "_compiled_call_impl" and value is not None
        if name in _HOOKS or is_compiled or (is_graph and name not in vars(copied)):
            vars(copied)[name] = copy.deepcopy(value, memo)
    if is_graph:  # each of them has a class of its own
        type(copied).__name__ = type(original).__name__
        type(copied).__qualname__ = type(original).__qualname__


def _is_on(tensor: torch.Tensor, device: torch.device) -> bool:
    return tensor.device.type == device.type and device.index in (None, tensor.device.index)
