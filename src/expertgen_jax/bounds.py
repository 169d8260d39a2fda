"""Bounds of settings, which stand where a setting is declared: `worlds: Count = 256`."""

import dataclasses
import math
import operator
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_type_hints

import annotated_types as bound

from expertgen_jax.errors import UserError

Count = Annotated[int, bound.Ge(1)]
Whole = Annotated[int, bound.Ge(0)]
Seed = Annotated[int, bound.Interval(ge=0, le=2**32 - 1)]
NonNegative = Annotated[float, bound.Ge(0)]
Positive = Annotated[float, bound.Gt(0)]
Share = Annotated[float, bound.Interval(ge=0, le=1)]
Decay = Annotated[float, bound.Interval(ge=0, lt=1)]

_KINDS = {
    "ge": (operator.ge, "at least"),
    "gt": (operator.gt, "above"),
    "le": (operator.le, "at most"),
    "lt": (operator.lt, "below"),
    "multiple_of": (lambda number, base: number % base == 0, "a multiple of"),
}


def check(settings: Any, prefix: str = "") -> None:
    """Checks each number of a (nested) settings dataclass against the bounds of its field; numbers must be finite.

    Args:
      settings: a dataclass instance.
      prefix: of the names in messages, such as `steer.`.

    Raises:
      UserError: naming the field as the command line does, and its bound.
    """
    types = get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            check(value, f"{name}.")
        else:
            limits = dict(_limits(types[field.name]))
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float) and not isinstance(number, bool):
                    _check_number(number, limits, flag(name))


def flag(name: str) -> str:
    """A setting as the command line spells it: `steer.noise_bound` becomes `--steer.noise-bound`."""
    return "--" + name.replace("_", "-")


def _check_number(number: float, limits: dict[str, float], name: str) -> None:
    if not math.isfinite(number):
        raise UserError(f"{name} must be a finite number, got {number}")
    for kind, limit in limits.items():
        holds, words = _KINDS[kind]
        if not holds(number, limit):
            raise UserError(f"{name} must be {words} {limit}, got {number}")


def _limits(annotation: Any) -> Iterator[tuple[str, float]]:
    """Kind and value of each bound in a type, also within a tuple or a union."""
    for part in (*getattr(annotation, "__metadata__", ()), *get_args(annotation)):
        if isinstance(part, bound.Ge | bound.Gt | bound.Le | bound.Lt | bound.Interval | bound.MultipleOf):
            yield from ((kind, limit) for kind in _KINDS if (limit := getattr(part, kind, None)) is not None)
        else:
            yield from _limits(part)
