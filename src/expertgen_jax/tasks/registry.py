"""The registry of tasks; `load_task` takes a name or a path to a user's file."""

import dataclasses
import difflib
import functools
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from expertgen_jax.errors import UserError
from expertgen_jax.task import Level, Task
from expertgen_jax.tasks.assembly import gears, pegs, shapes
from expertgen_jax.tasks.check import check_task
from expertgen_jax.tasks.tabletop import drawers, lifting, placing, pushing

TASKS: dict[str, Callable[..., Task]] = {
    **{name: functools.partial(pegs.peg, name) for name in pegs.PEGS},
    **{name: functools.partial(shapes.shape, name) for name in shapes.SHAPES},
    "gear_on_shaft": gears.gear_on_shaft,
    "assembly": shapes.assembly,
    **{name: functools.partial(lifting.lift, name) for name in lifting.THINGS},
    "open_drawer": drawers.open_drawer,
    "push_pear": pushing.push_pear,
    "stack_banana": placing.stack_banana,
    "put_in_drawer": drawers.put_in_drawer,
    "strawberry_in_bowl": placing.strawberry_in_bowl,
}
FAMILIES: dict[str, tuple[str, ...]] = {
    "tabletop": (*lifting.THINGS, "open_drawer", "push_pear", "stack_banana", "put_in_drawer", "strawberry_in_bowl")
}
"""Tasks that one command trains one after another."""


def load_task(name: str, randomization: Level = "off") -> Task:
    """The task of that name, or, where `name` ends in `.py`, the one that the file's functions make.

    A task file defines at module level what `Task` lists, under the same names; `name` defaults to the file's.

    Raises:
      UserError: no such task or file, or the file breaks the contract (see `check_task`).
    """
    if name.endswith(".py"):
        if randomization != "off":
            raise UserError(f"--randomization {randomization}: a task file draws model fields in its own `reset`")
        path = Path(name)
        return _load_file(path, path.stat().st_mtime_ns if path.exists() else 0)
    if name not in TASKS:
        if name in FAMILIES:
            raise UserError(f"--task {name} names several tasks: choose one of {', '.join(FAMILIES[name])}")
        near = difflib.get_close_matches(name, [*TASKS, *FAMILIES], n=3, cutoff=0.4) or list(TASKS)
        raise UserError(f"--task {name} is unknown; did you mean {' or '.join(near)}? (or give a path to a .py file)")
    if name not in FAMILIES["tabletop"]:
        return TASKS[name](randomization)
    if randomization != "off":
        raise UserError(f"--randomization {randomization}: tasks on the table have none, leave it off")
    return TASKS[name]()


@functools.lru_cache(maxsize=8)
def _load_file(path: Path, changed: int) -> Task:
    """Loads and checks a file once, until it is `changed` again (ns): checking takes seconds."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.exists() or spec is None or spec.loader is None:
        raise UserError(f"--task {path}: no such file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses in the file look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = lines[-1] if lines else getattr(error, "lineno", "?")
        raise UserError(f"--task {path}: line {line} raises {type(error).__name__}: {error}") from error
    given: dict[str, Any] = {"name": path.stem}
    for field in dataclasses.fields(Task):
        if hasattr(module, field.name):
            given[field.name] = getattr(module, field.name)
        elif field.name not in given and field.default is dataclasses.MISSING:
            raise UserError(f"--task {path} lacks `{field.name}`: {_describe(field.name)}")
    task = Task(**given)
    check_task(task)
    return task


def _describe(field: str) -> str:
    """What the docstring of `Task` says of a field."""
    lines = (Task.__doc__ or "").splitlines()
    first = next(i for i, line in enumerate(lines) if line.strip().startswith(f"{field}:"))
    return lines[first].strip().removeprefix(f"{field}:").strip().rstrip(".")
