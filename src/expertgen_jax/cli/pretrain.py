"""`expertgen pretrain`: demonstrations and the diffusion prior."""

import dataclasses

from expertgen_jax.cli import command
from expertgen_jax.cli.runs import RunArguments, run_tasks
from expertgen_jax.runs import tables
from expertgen_jax.runs.opening import open_run


@dataclasses.dataclass(frozen=True)
class Pretrain(RunArguments):
    """Demonstrations and the diffusion prior only; steer with the same settings goes on from here."""


def main(argv: command.Arguments = None) -> None:
    """Runs the command; see `runs.run_tasks`."""
    run_tasks("pretrain", Pretrain, pretrain, argv)


def pretrain(args: Pretrain) -> None:
    """Makes a prior and evaluates it, beside its demonstrator."""
    run = open_run(args.settings, args.place)
    run.prior()
    print(tables.results([run.evaluation(run.agent("script")), run.evaluation(run.agent("prior"))]))
