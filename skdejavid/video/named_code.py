"""Call functions that a command names, in a file or a module."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from skdejavid.files.regular import refuse_irregular

__all__ = ["call_named"]


def call_named(spec: str, *arguments: Any) -> Any:
    """Call the function ``FILE.py:FUNCTION`` or ``PACKAGE.MODULE:FUNCTION``; return its result.

    The code of the file or module is executed.

    Raises
    ------
    FileNotFoundError, ImportError
        If the file or module does not exist.
    ValueError
        If it does not define the function, or is no regular file.
    """
    name, _, function = spec.rpartition(":")
    module = _load_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    if not hasattr(module, function):
        raise ValueError(f"{name} has no {function}")
    return getattr(module, function)(*arguments)


def _load_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    refuse_irregular(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # pickle and dataclasses look modules up by name
    spec.loader.exec_module(module)
    return module
