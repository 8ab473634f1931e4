"""The state of random number generators as arrays and numbers that a file can store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["GENERATOR_SIZE", "generator_from_state", "generator_state", "restore_generator"]

GENERATOR_SIZE = 624  # numbers in the Mersenne Twister's key


def generator_state(generator: np.random.RandomState, name: str = "random_state") -> dict[str, Any]:
    """Return the state of a generator: the key as an array, the rest as numbers.

    Raises
    ------
    ValueError
        If the generator, called `name` in the message, is not a Mersenne Twister.
    """
    state: Any = generator.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        raise ValueError(
            f"{name} draws from {state['bit_generator']}, whose state cannot be stored: use "
            "RandomState(seed), or an int"
        )
    return {
        "key": state["state"]["key"],
        "position": int(state["state"]["pos"]),
        "has_gauss": int(state["has_gauss"]),
        "gauss": float(state["gauss"]),
    }


def generator_from_state(state: Mapping[str, Any]) -> np.random.RandomState:
    """Return a new generator that continues from a state."""
    generator = np.random.RandomState()
    restore_generator(generator, state)
    return generator


def restore_generator(generator: np.random.RandomState, state: Mapping[str, Any]) -> None:
    """Set a generator to a state."""
    generator.set_state(
        ("MT19937", state["key"], state["position"], state["has_gauss"], state["gauss"])
    )
