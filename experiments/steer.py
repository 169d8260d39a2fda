"""From nothing to an expert: demonstrations, diffusion prior, steering, evaluation.

    python experiments/steer.py --task peg

The same command goes on where an interrupted one stopped. `--task tabletop` stands for the eight tasks of that family.
"""

import dataclasses

from expertgen_jax.cli import command
from expertgen_jax.runs import pipeline, report
from expertgen_jax.runs import settings as settings_lib


@dataclasses.dataclass(frozen=True)
class Steer(settings_lib.RunSettings):
    """From nothing to an expert: demonstrations, diffusion prior, steering of its noise, evaluation."""


def main(args: Steer) -> None:
    phases = pipeline.open_phases(args, args.run_dir, args.overwrite, args.tensorboard)
    prior = phases.prior(phases.demonstrations())
    expert = phases.expert(prior)
    evaluations = (
        phases.evaluation("prior", prior),
        phases.evaluation("expert", prior, expert),
        phases.evaluation("expert", prior, expert, phases.other_backend(), args.transfer_episodes),
    )
    phases.finish(*evaluations)
    phases.record(prior, expert)
    print(report.results_table(evaluations), report.pose_table(evaluations[1]), sep="\n\n")
    print(f"\n{phases.run.path}: {', '.join(sorted(path.name for path in phases.run.path.iterdir()))}")


if __name__ == "__main__":
    command.run(Steer, main)
