"""Ranges from which randomisation draws."""

from typing import Any

import jax

Range = tuple[float, float]


def within(bounds: Any, place: jax.Array) -> jax.Array:
    """The number at a place of a range, `bounds` of its ends: -1 is the low one, 1 the high one."""
    low, high = bounds
    return (low + high) / 2 + place * (high - low) / 2
