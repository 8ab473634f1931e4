"""The state of random number generators as arrays and numbers that a file can store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["GENERATOR_SIZE", "generator_from_state", "generator_state"]

GENERATOR_SIZE = 624  # numbers in the Mersenne Twister's key


def generator_state(generator: np.random.RandomState) -> dict[str, Any]:
    """Return the state of a generator: the key as an array, the rest as numbers."""
    state: Any = generator.get_state(legacy=False)
    return {
        "key": state["state"]["key"],
        "position": int(state["state"]["pos"]),
        "has_gauss": int(state["has_gauss"]),
        "gauss": float(state["gauss"]),
    }


def generator_from_state(state: Mapping[str, Any]) -> np.random.RandomState:
    """Return a new generator that continues from a state."""
    generator = np.random.RandomState()
    generator.set_state(
        ("MT19937", state["key"], state["position"], state["has_gauss"], state["gauss"])
    )
    return generator
