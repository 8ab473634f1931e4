"""Which installed library a piece of code belongs to, if it is not the user's own."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import Distribution
from types import FunctionType, ModuleType
from typing import Any

__all__ = ["is_versioned", "library_of_class", "library_of_function", "library_of_module"]

_PYTHON = "python"

# Their layers and functions keep their meaning for years. As a new device or processor does, a new
# version changes the last bits at most, and must not make all stores useless.
_WITHOUT_VERSION = {"numpy", "skdejavid", "torch"}

# Modules of operators, which torch makes when they are first read.
_OPERATORS_OF_TORCH = {"ops", "aten", "prim", "prims", "quantized", "higher_order"}

_FOLDERS = ("site-packages", "dist-packages")


def is_versioned(library: str) -> bool:
    """Return whether the version of a library counts."""
    return library not in (_PYTHON, *_WITHOUT_VERSION)


def library_of_module(module: ModuleType) -> str | None:
    """Return the library that a module belongs to, with its version, or None.

    Code outside of the folders of installed packages is the user's, as are packages that are
    installed in editable mode, files without metadata, notebooks, and what is typed.
    """
    name = module.__name__
    if name == "__main__":
        return None
    if type(module).__module__ == "torch._ops":
        return "torch" if name.rpartition(".")[2] in _OPERATORS_OF_TORCH else None
    if name in sys.builtin_module_names:
        return _PYTHON
    path = getattr(module, "__file__", None)
    if path is not None:
        return _library_of_path(path)
    parent = sys.modules.get(name.rpartition(".")[0])  # modules that native code has made
    return None if parent is None else library_of_module(parent)


def library_of_function(function: FunctionType) -> str | None:
    """Return the library in which a function is written, with its version, or None.

    A function that is written by a decorator belongs to the decorator's library.
    """
    path = function.__code__.co_filename
    if path.startswith("<frozen "):
        return _PYTHON
    if not path.startswith("<"):
        return _library_of_path(path)
    # Generated code, as that of data classes, belongs to the module in which it runs.
    module = sys.modules.get(function.__globals__.get("__name__", ""))
    is_there = module is not None and vars(module) is function.__globals__
    return library_of_module(module) if module is not None and is_there else None


def library_of_class(kind: type) -> str | None:
    """Return the library that defines a class under its name, with its version, or None."""
    module: Any = sys.modules.get(kind.__module__)
    library = None if module is None else library_of_module(module)
    is_native = not kind.__flags__ & 1 << 9  # not made by a class statement or a call of type
    if library is None or is_native:
        return library
    found = module
    for name in kind.__qualname__.split("."):
        found = vars(found).get(name) if hasattr(found, "__dict__") else None
    return library if found is kind else None


@lru_cache(maxsize=4096)
def _library_of_path(path: str) -> str | None:
    folder, name = _installed_at(path)
    if folder:
        return name if name in _WITHOUT_VERSION else _distribution(folder, name)
    this_package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for library, root in (("skdejavid", this_package), (_PYTHON, os.path.dirname(os.__file__))):
        if path.startswith(root + os.sep):
            return library
    return None


def _installed_at(path: str) -> tuple[str, str]:
    """Return the folder of installed packages above a path, and the package; "" if none is."""
    parts = path.split(os.sep)
    places = [i for i, part in enumerate(parts[:-1]) if part in _FOLDERS]
    if not places:
        return "", ""
    return os.sep.join(parts[: places[-1] + 1]), parts[places[-1] + 1].partition(".")[0]


@lru_cache(maxsize=1024)
def _distribution(folder: str, package: str) -> str | None:
    """Return name and version of what has installed a package into a folder."""
    found = list(Distribution.discover(name=package, path=[folder]))
    if not found:
        installed = Distribution.discover(path=[folder])
        found = [item for item in installed if package in _packages_of(item)]
    labels = [f"{item.metadata['Name']} {item.version}{_build_of(item)}" for item in found]
    return " ".join(sorted(labels)) or None


def _packages_of(distribution: Distribution) -> set[str]:
    return {file.parts[0].partition(".")[0] for file in distribution.files or []}


def _build_of(distribution: Distribution) -> str:
    """Return a hash of the files of what was installed from a folder or repository, else "".

    Its version may stay the same while its code is edited.
    """
    if distribution.read_text("direct_url.json") is None:
        return ""
    lines = (distribution.read_text("RECORD") or "").splitlines()
    files = sorted(line for line in lines if line.partition(",")[0].endswith(".py"))
    return " " + sha256("\n".join(files).encode()).hexdigest()[:16]
