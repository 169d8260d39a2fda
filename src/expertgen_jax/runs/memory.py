"""Whether what a training carries fits into memory, said before it is allocated."""

import math
import re
from pathlib import Path
from typing import Any

import jax

from expertgen_jax.errors import UserError


def check(shapes: Any, remedy: str) -> None:
    """Compares arrays that will be made with the memory that is free.

    Args:
      shapes: a tree of `jax.ShapeDtypeStruct`.
      remedy: what to do where they do not fit.

    Raises:
      UserError: they do not.
    """
    needed = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(shapes))
    if needed > (free := available()):
        raise UserError(
            f"the training needs {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free: {remedy}"
        )


def available() -> float:
    """Bytes that are free on the device that JAX uses; infinite where nobody says."""
    if stats := jax.local_devices()[0].memory_stats():
        return stats.get("bytes_limit", math.inf) - stats.get("bytes_in_use", 0)
    told = Path("/proc/meminfo")
    found = re.search(r"MemAvailable: +(\d+) kB", told.read_text()) if told.exists() else None
    return 1024 * int(found[1]) if found else math.inf
