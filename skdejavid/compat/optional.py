"""Packages that only some features need: they are imported late, or only if they are loaded."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = ["import_if_installed", "import_optional", "loaded"]


def loaded(module: str) -> Any:
    """Return a module if it has been imported already, else None.

    An object belongs to an optional package only if somebody has imported the package.
    """
    return sys.modules.get(module)


def import_if_installed(module: str) -> ModuleType | None:
    """Import a module of an optional package, or return None if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def import_optional(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a module of an optional package, or name the extra that installs it.

    Parameters
    ----------
    module : str
        Full name of the module.
    extra : str
        Extra of this package that installs it.
    purpose : str
        What the module is needed for: the subject of the error message, such as "Reading Arrow
        files".

    Raises
    ------
    ImportError
        If the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{purpose} needs {package}, which is not installed: pip install 'skdejavid[{extra}]'"
        ) from error
