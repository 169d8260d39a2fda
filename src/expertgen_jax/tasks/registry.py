"""The registry of tasks; `load_task` takes a name or a path to a user's file."""

import contextlib
import dataclasses
import difflib
import functools
import importlib.util
import inspect
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_args

from expertgen_jax.errors import UserError
from expertgen_jax.sim import robots
from expertgen_jax.sim.robots import RobotName
from expertgen_jax.task import GraspName, Level, StartsName, Task
from expertgen_jax.tasks.assembly import gears, pegs, shapes
from expertgen_jax.tasks.check import check_task
from expertgen_jax.tasks.presets import randomized
from expertgen_jax.tasks.tabletop import drawers, lifting, placing, pushing


class Entry(NamedTuple):
    """A task of the package.

    Attributes:
      make: builds it for a level of randomisation and a robot.
      given: what it is in a line, where the docstring of `make` is of several tasks.
      choices: what `make` takes besides, such as `starts`, by name.
    """

    make: Callable[..., Task]
    given: str = ""
    choices: Mapping[str, tuple[str, ...]] = {}

    def refused(self, chosen: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """Those of the options `chosen`, name and value, between which this task has no choice."""
        for name, value in chosen.items():
            if value != USUAL[name] and value not in self.choices.get(name, ()):
                yield name, value

    @property
    def summary(self) -> str:
        """What it is, in a line."""
        return self.given or self.description.splitlines()[0]

    @property
    def description(self) -> str:
        """The docstring: a line, then the headings *Task*, *Randomisation* and *Success*."""
        return inspect.getdoc(getattr(self.make, "func", self.make)) or ""


USUAL = {"starts": "own", "grasp": "fixed"}
"""Options that not all tasks have, with what holds where nothing is said."""
GRASPS = {"grasp": get_args(GraspName)}
SHAPES = {"starts": get_args(StartsName)} | GRASPS
TASKS: dict[str, Entry] = {
    **{name: Entry(functools.partial(pegs.peg, name), square.summary, GRASPS) for name, square in pegs.PEGS.items()},
    **{name: Entry(functools.partial(shapes.shape, name), text, SHAPES) for name, text in shapes.SUMMARIES.items()},
    "gear_on_shaft": Entry(gears.gear_on_shaft, choices=GRASPS),
    "assembly": Entry(shapes.assembly, choices=SHAPES),
    **{name: Entry(functools.partial(lifting.lift, name), text) for name, text in lifting.SUMMARIES.items()},
    "open_drawer": Entry(drawers.open_drawer),
    "push_pear": Entry(pushing.push_pear),
    "stack_banana": Entry(placing.stack_banana),
    "put_in_drawer": Entry(drawers.put_in_drawer),
    "strawberry_in_bowl": Entry(placing.strawberry_in_bowl),
}
FAMILIES: dict[str, tuple[str, ...]] = {
    "tabletop": (*lifting.THINGS, "open_drawer", "push_pear", "stack_banana", "put_in_drawer", "strawberry_in_bowl")
}
"""Tasks that one command trains one after another."""


def load_task(
    name: str,
    randomization: Level = "off",
    robot: RobotName = "hand",
    starts: StartsName = "own",
    grasp: GraspName = "fixed",
) -> Task:
    """The task of that name, with that robot, those starts and that grasp; or, where `name` ends in `.py`, the one that
    the file's functions make.

    A task file defines at module level what `Task` lists, under the same names; `name` defaults to the file's. Or it
    defines `task`, a `Task`.

    Raises:
      UserError: no such task or file, or the file breaks the contract (see `check_task`).
    """
    if name.endswith(".py"):
        if randomization != "off":
            raise UserError(f"--randomization {randomization}: a task file draws model fields in its own `reset`")
        if robot != "hand":
            raise UserError(f"--robot {robot}: a task file adds a robot in its own `scene`, with `robots.add`")
        if starts != "own":
            raise UserError(f"--starts {starts}: a task file draws them in its own `reset`")
        if grasp != "fixed":
            raise UserError(f"--grasp {grasp}: a task file holds what it holds in its own `scene`")
        path = Path(name)
        return _load_file(path, path.stat().st_mtime_ns if path.exists() else 0)
    if name in FAMILIES:
        raise UserError(f"--task {name} names several tasks: choose one of {', '.join(FAMILIES[name])}")
    if name not in TASKS:
        near = difflib.get_close_matches(name, [*TASKS, *FAMILIES], n=3, cutoff=0.4) or list(TASKS)
        raise UserError(f"--task {name} is unknown; did you mean {' or '.join(near)}? (or give a path to a .py file)")
    entry = TASKS[name]
    chosen = {"starts": starts, "grasp": grasp}
    for option, value in entry.refused(chosen):
        having = ", ".join(task for task, other in TASKS.items() if value in other.choices.get(option, ()))
        raise UserError(f"--{option} {value}: task '{name}' has none such; {having} have")
    task = entry.make(randomization, robot, **{option: chosen[option] for option in entry.choices})
    preset = task.preset if randomization == "off" else randomized(task.preset)
    return dataclasses.replace(task, preset=preset, spectator=robots.spectator(robot, task.spectator))


@functools.lru_cache(maxsize=8)
def _load_file(path: Path, changed: int) -> Task:
    """Loads and checks a file once, until it is `changed` again (ns): checking takes seconds."""
    name = f"task_file_{path.stem}"  # not the file's own name, which may be that of a package
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.exists() or spec is None or spec.loader is None:
        raise UserError(f"--task {path}: no such file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses in the file look their module up
    try:
        with _importable(path.resolve().parent):
            spec.loader.exec_module(module)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).resolve() == path.resolve()
        ]
        line = lines[-1] if lines else getattr(error, "lineno", "?")
        raise UserError(f"--task {path}: line {line} raises {type(error).__name__}: {error}") from error
    if isinstance(task := getattr(module, "task", None), Task):
        check_task(task)
        return task
    given: dict[str, Any] = {"name": path.stem}
    for field in dataclasses.fields(Task):
        if hasattr(module, field.name):
            given[field.name] = getattr(module, field.name)
        elif field.name not in given and field.default is dataclasses.MISSING:
            raise UserError(f"--task {path} lacks `{field.name}`: {_describe(field.name)}")
    _warn_of_misspellings(path, module)
    task = Task(**given)
    check_task(task)
    return task


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Modules in `folder` can be imported, after those that are installed."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _warn_of_misspellings(path: Path, module: ModuleType) -> None:
    """Names in a task file that nearly are those of optional fields, such as `horizn`."""
    fields = [field.name for field in dataclasses.fields(Task)]
    for name in vars(module):
        near = difflib.get_close_matches(name, fields, n=1, cutoff=0.75)
        if near and name not in fields and not hasattr(module, near[0]):
            warnings.warn(
                f"{path} defines `{name}`, which is no field of a task; did you mean `{near[0]}`?", stacklevel=2
            )


def _describe(field: str) -> str:
    """What the docstring of `Task` says of a field."""
    lines = (Task.__doc__ or "").splitlines()
    first = next(i for i, line in enumerate(lines) if line.strip().startswith(f"{field}:"))
    return lines[first].strip().removeprefix(f"{field}:").strip().rstrip(".")
