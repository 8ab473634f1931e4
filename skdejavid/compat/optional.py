"""Packages that only some users need."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["import_optional"]


def import_optional(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a module of an optional package, or say which extra brings it.

    Parameters
    ----------
    module : str
        Its full name.
    extra : str
        The extra of this package that installs it.
    purpose : str
        What it is needed for, the subject of the error's sentence.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{purpose} needs {package}, which is not installed: pip install 'skdejavid[{extra}]'"
        ) from error
