"""What is installed and what it can compute with: the first thing to send with a bug report."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from skdejavid import _core
from skdejavid.backends.cuda_device import list_devices, written_version
from skdejavid.compat.threads import count_threads

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
    """Print versions of what is used, and what the native core can compute with.

    Nothing of it is imported. Asking for CUDA devices starts the driver in this process, and takes
    some of their memory.

    Examples
    --------
    >>> from skdejavid import show_versions
    >>> show_versions()  # doctest: +ELLIPSIS
    <BLANKLINE>
    System
    ...
    """
    for title, rows in (
        ("System", _system()),
        ("Packages", {package: _version_of(package) for package in _PACKAGES}),
        ("Native core", _native_core()),
        ("CUDA", _cuda()),
    ):
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


def _native_core() -> dict[str, str]:
    return {
        "backends": "CPU and CUDA" if _core.built_with_cuda else "CPU",
        "instruction set": _core.cpu_instruction_set,
        "threads": str(count_threads(None)),
    }


def _cuda() -> dict[str, str]:
    if not _core.built_with_cuda:
        return {"built with": "no CUDA; see SKDEJAVID_CUDA in the README"}
    devices, reason = list_devices()
    driver = _core.cuda_driver_version()
    rows = {
        "compiled for": _core.cuda_architectures,
        "runtime": written_version(_core.cuda_runtime_version()),
        "driver for": written_version(driver) if driver else "no driver",
    }
    if not devices:
        rows["devices"] = f"none: {reason}" if reason else "none"
    for number, (name, major, minor, n_bytes) in enumerate(devices):
        obstacle = _core.cuda_unusable_reason(number)
        state = f"not usable: {obstacle}" if obstacle else "usable"
        size = f"{n_bytes / 2**30:.1f} GiB"
        rows[f"cuda:{number}"] = f"{name}, sm_{major}{minor}, {size}, {state}"
    return rows
