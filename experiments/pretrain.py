"""Demonstrations and the diffusion prior only; `steer.py` with the same settings goes on from here.

python experiments/pretrain.py --task peg
"""

import dataclasses

from steer import Steer

from expertgen_jax.cli import command
from expertgen_jax.runs import pipeline, report


@dataclasses.dataclass(frozen=True)
class Pretrain(Steer):
    """Demonstrations and the diffusion prior only."""


def main(args: Pretrain) -> None:
    phases = pipeline.open_phases(args, args.run_dir, args.overwrite, args.tensorboard)
    prior = phases.prior(phases.demonstrations())
    print(report.results_table([phases.evaluation("script"), phases.evaluation("prior", prior)]))


if __name__ == "__main__":
    command.run(Pretrain, main)
