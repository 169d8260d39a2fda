"""What the commands that make a run share: their arguments, presets, families of tasks."""

import dataclasses
import sys
from collections.abc import Callable
from typing import Annotated, TypeVar

import tyro

from expertgen_jax.cli import command
from expertgen_jax.runs.directory import Place
from expertgen_jax.runs.settings import RunSettings, load_task, with_preset
from expertgen_jax.tasks import registry


@dataclasses.dataclass(frozen=True)
class RunArguments:
    """Of a command that makes a run."""

    settings: Annotated[RunSettings, tyro.conf.arg(name="")] = dataclasses.field(default_factory=RunSettings)
    place: Annotated[Place, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Place)


R = TypeVar("R", bound=RunArguments)


def run_tasks(name: str, arguments: type[R], main: Callable[[R], None], argv: command.Arguments) -> None:
    """Like `command.run`, with the preset of the task; for a family of tasks once for each, one after another.

    A task's preset replaces the defaults, and what the command line says replaces both.
    """
    args = command.parsed(name, arguments, argv)
    with command.conversation():
        family = registry.FAMILIES.get(args.settings.task, (args.settings.task,))
        for number, task in enumerate(family):
            preset = load_task(dataclasses.replace(args.settings, task=task)).preset or {}
            default = dataclasses.replace(arguments(), settings=with_preset(RunSettings(), preset))
            one = command.parsed(name, arguments, argv, default)
            if len(family) > 1:
                print(f"\n{number + 1} of {len(family)}: ", end="", file=sys.stderr, flush=True)
                place = dataclasses.replace(one.place, run_dir=one.place.run_dir and one.place.run_dir / task)
                settings = dataclasses.replace(one.settings, task=task)
                one = dataclasses.replace(one, settings=settings, place=place)
            main(one)
