"""Versions and capabilities of this installation, to be sent with a bug report."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from skdejavid import _core
from skdejavid.backends.registry import registered_backends

__all__ = ["show_versions"]

_PACKAGES = (
    "skdejavid",
    "numpy",
    "scipy",
    "scikit-learn",
    "torch",
    "joblib",
    "threadpoolctl",
    "av",
    "transformers",
    "pyarrow",
    "tslearn",
    "aeon",
)


def show_versions() -> None:
    """Print the versions of relevant packages and what each backend can compute with.

    The packages are not imported. Listing CUDA devices initializes the CUDA driver in this process,
    which takes some of the devices' memory.

    Examples
    --------
    >>> from skdejavid import show_versions
    >>> show_versions()  # doctest: +ELLIPSIS
    <BLANKLINE>
    System
    ...
    """
    sections = {
        "System": _system(),
        "Packages": {package: _version_of(package) for package in _PACKAGES},
        "Native core": {"backends": "CPU and CUDA" if _core.built_with_cuda else "CPU"},
        **{name.upper(): backend.describe() for name, backend in registered_backends().items()},
    }
    for title, rows in sections.items():
        print(f"\n{title}")
        width = max(map(len, rows))
        for name, value in rows.items():
            print(f"{name:>{width + 2}}: {value}")


def _system() -> dict[str, str]:
    return {
        "python": sys.version.replace("\n", " "),
        "executable": sys.executable,
        "machine": platform.platform(),
    }


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
