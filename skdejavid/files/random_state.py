"""The state of random number generators as arrays and numbers that a file can store."""

from __future__ import annotations

import math
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
    """Return a new generator that continues from a state, as `generator_state` returns it.

    NumPy checks nothing: a position beyond the key makes it read memory of others, and from a key
    of zeros it may draw forever.

    Raises
    ------
    ValueError
        If a part of the state is missing or none that a generator can have; the message names it.
    """
    generator = np.random.RandomState()
    restore_generator(generator, state)
    return generator


def restore_generator(generator: np.random.RandomState, state: Mapping[str, Any]) -> None:
    """Set a generator to a state, which is checked as in `generator_from_state`."""
    _check_state(state)
    generator.set_state(
        ("MT19937", state["key"], state["position"], state["has_gauss"], state["gauss"])
    )


def _check_state(state: Mapping[str, Any]) -> None:
    expected = {"key": np.ndarray, "position": int, "has_gauss": int, "gauss": float}
    for name, kind in expected.items():
        if type(state.get(name)) is not kind:
            found = type(state[name]).__name__ if name in state else "nothing"
            raise ValueError(f"{name} of the generator must be {kind.__name__}, got {found}")
    key, position, has_gauss = state["key"], state["position"], state["has_gauss"]
    if key.shape != (GENERATOR_SIZE,) or key.dtype != np.uint32:
        raise ValueError(
            f"key of the generator must be {GENERATOR_SIZE} numbers uint32, got shape {key.shape} "
            f"and {key.dtype}"
        )
    if not (key[0] >> 31 or key[1:].any()):  # the other bits of the first number are not used
        raise ValueError("key of the generator contains only zeros")
    if not 0 <= position <= GENERATOR_SIZE:
        raise ValueError(
            f"position of the generator must be from 0 to {GENERATOR_SIZE}, got {position}"
        )
    if has_gauss not in (0, 1):
        raise ValueError(f"has_gauss of the generator must be 0 or 1, got {has_gauss}")
    if not math.isfinite(state["gauss"]):
        raise ValueError("gauss of the generator must be finite")
