"""`expertgen steer`: from nothing to an expert."""

import dataclasses

from expertgen_jax.cli import command
from expertgen_jax.cli.runs import RunArguments, run_tasks
from expertgen_jax.runs import tables
from expertgen_jax.runs.opening import open_run


@dataclasses.dataclass(frozen=True)
class Steer(RunArguments):
    """From nothing to an expert: demonstrations, diffusion prior, steering of its noise, evaluation.

    The same command goes on where an interrupted one stopped. A family of tasks, such as `--task tabletop`, stands for
    all of its tasks, one after another.
    """


def main(argv: command.Arguments = None) -> None:
    """Runs the command; see `runs.run_tasks`."""
    run_tasks("steer", Steer, steer, argv)


def steer(args: Steer) -> None:
    """Makes an expert, evaluates and records it."""
    run = open_run(args.settings, args.place)
    run.expert()
    run.finish()
    run.record()
    evaluations = run.evaluations()
    parts = tables.results(evaluations), tables.final_poses(evaluations[1]), run.directory.files()
    print("\n\n".join(filter(None, parts)))
