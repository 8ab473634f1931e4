"""Names and values of parameters and attributes that older versions wrote into files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["with_new_names"]

# Before model files of version 2.
_OLD_NAMES = {
    "normalize": "logit_scaling",
    "normalization": "logit_scaling",
    "normalization_": "logit_scaling_",
}
_OLD_SCALINGS = {"layer": "sample"}


def with_new_names(old: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dict with the current names and values of what has been renamed."""
    new = {}
    for name, value in old.items():
        if name in _OLD_NAMES and isinstance(value, str):
            value = _OLD_SCALINGS.get(value, value)
        new[_OLD_NAMES.get(name, name)] = value
    return new
