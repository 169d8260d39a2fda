"""`expertgen tasks`: what there is to train."""

import dataclasses

from expertgen_jax.cli import command
from expertgen_jax.tasks.registry import FAMILIES, TASKS


@dataclasses.dataclass(frozen=True)
class Tasks:
    """Lists the tasks, a line each."""


def main(argv: command.Arguments = None) -> None:
    """Runs the command; see `command.run`."""
    command.run("tasks", Tasks, tasks, argv)


def tasks(args: Tasks) -> None:
    """Prints names and summaries, then the families."""
    lines = {name: entry.summary for name, entry in TASKS.items()}
    lines |= {name: f"All {len(members)} of {members[0]} to {members[-1]}." for name, members in FAMILIES.items()}
    width = max(map(len, lines))
    print("\n".join(f"{name.ljust(width)}  {summary}" for name, summary in lines.items()))
