"""The state of random number generators, as arrays and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["GENERATOR_SIZE", "describe_generator", "read_generator"]

GENERATOR_SIZE = 624  # numbers of the Mersenne Twister's key


def describe_generator(generator: np.random.RandomState) -> dict[str, Any]:
    """Its state: the key as an array, and numbers."""
    state: Any = generator.get_state(legacy=False)
    return {
        "key": state["state"]["key"],
        "position": int(state["state"]["pos"]),
        "has_gauss": int(state["has_gauss"]),
        "gauss": float(state["gauss"]),
    }


def read_generator(state: Mapping[str, Any]) -> np.random.RandomState:
    """A generator that goes on where the described one was."""
    generator = np.random.RandomState()
    generator.set_state(
        ("MT19937", state["key"], state["position"], state["has_gauss"], state["gauss"])
    )
    return generator
