"""The registry of tasks; `load` takes a name or a path to a user's file."""

from collections.abc import Callable

from expertgen_jax.task import Task
from expertgen_jax.tasks import insertion

TASKS: dict[str, Callable[[], Task]] = {"peg": insertion.peg}
