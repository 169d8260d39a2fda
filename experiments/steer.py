"""From nothing to an expert: demonstrations, diffusion prior, steering, evaluation.

    python experiments/steer.py --task peg

The same command goes on where an interrupted one stopped.
"""

import dataclasses
from pathlib import Path

from expertgen_jax import command, pipeline, report
from expertgen_jax import settings as settings_lib


@dataclasses.dataclass(frozen=True)
class Steer(settings_lib.Settings):
    """From nothing to an expert: demonstrations, diffusion prior, steering of its noise, evaluation."""

    run_dir: Path | None = None
    """Where everything goes; runs/TASK-SEED by default. The same command goes on where it stopped."""
    overwrite: bool = False
    """Start afresh, removing the run directory."""
    tensorboard: bool = False
    """Write TensorBoard scalars too."""


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
