"""Call functions that a command names, in a file or a module."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from skdejavid.files.regular import refuse_irregular

__all__ = ["NamedCodeError", "call_named"]


class NamedCodeError(ValueError):
    """Error raised if code that a command names fails. The message is its traceback."""


def call_named(spec: str, *arguments: Any) -> Any:
    """Call the function ``FILE.py:FUNCTION`` or ``PACKAGE.MODULE:FUNCTION``; return its result.

    The code of the file or module is executed. A file is read at each call and becomes a module of
    its own, which replaces no other, whatever its name. It can import modules that lie next to it;
    an installed one of the same name comes first, and what was imported once is not read again.

    Raises
    ------
    FileNotFoundError, ImportError
        If the file or module does not exist.
    NamedCodeError
        If its code raises an error.
    ValueError
        If it does not define the function, or is no regular file.
    """
    name, _, function = spec.rpartition(":")
    module = _load_file(Path(name)) if name.endswith(".py") else _import(name)
    if not hasattr(module, function):
        raise ValueError(f"{name} has no {function}")
    try:
        return getattr(module, function)(*arguments)
    except (Exception, SystemExit) as error:
        raise _error_in(spec, error) from error


def _load_file(path: Path) -> ModuleType:
    """Execute a file as a module."""
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    refuse_irregular(path)
    origin = os.path.realpath(path)
    module = _new_module(path.stem, origin)
    _let_neighbors_be_imported(origin)
    sys.modules[module.__name__] = module  # pickle and dataclasses look modules up by name
    try:
        # Not from a cache, which takes a file that was edited within a second for the same.
        exec(compile(Path(origin).read_bytes(), origin, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise _error_in(str(path), error) from error
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module


def _new_module(stem: str, origin: str) -> ModuleType:
    """Return an empty module of a name that no module has.

    The first file of a name gets the same name in each process.
    """
    first = f"_skdejavid_file_{stem}"
    name, number = first, 2
    while name in sys.modules:
        name, number = f"{first}_{number}", number + 1
    spec = importlib.util.spec_from_file_location(name, origin)
    assert spec is not None
    return importlib.util.module_from_spec(spec)


def _let_neighbors_be_imported(origin: str) -> None:
    """Add the folder of a file to the end of the path: what is installed comes first."""
    folder = os.path.dirname(origin)
    if folder not in sys.path:
        sys.path.append(folder)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise  # there is no module of this name
        raise _error_in(name, error) from error
    except (Exception, SystemExit) as error:
        raise _error_in(name, error) from error


def _error_in(name: str, error: BaseException) -> NamedCodeError:
    """Return an error whose message is the traceback of another, without what led to its code."""
    report = traceback.TracebackException.from_exception(error)
    is_on_the_way = [
        frame.filename in (__file__, importlib.__file__)
        or frame.filename.startswith("<frozen importlib")
        for frame in report.stack
    ]
    first = next((i for i, is_ours in enumerate(is_on_the_way) if not is_ours), len(is_on_the_way))
    report.stack = traceback.StackSummary.from_list(report.stack[first:])
    return NamedCodeError(f"{name} failed:\n{''.join(report.format()).rstrip()}")
